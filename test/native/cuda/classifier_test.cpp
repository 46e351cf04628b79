#include <limits>

#include "test/native/classifier_reference.h"
#include "test/native/cuda/command.h"

using namespace check;

namespace {

// Ragged; a few vectors; blocks of 128 and of 512 threads that keep the row.
const std::vector<LogitsShape> kShapes = {{1, 1, 1},     {3, 7, 5},       {9, 48, 48},    {5, 168, 161},
                                          {4, 257, 250}, {5, 1104, 1100}, {3, 5000, 4999}};

Setting scaled(double loss_scale) {
  Setting setting;
  setting.scalars[ops::kScalarLossScale] = static_cast<float>(loss_scale);
  return setting;
}

void compare(DType act, const LogitsShape& s, double z, double spread, bool in_place) {
  Random random(2);
  const double loss_scale = static_cast<float>(1.0 / 37);
  const Values values = random.normal(s.rows * s.columns, spread);
  const Buffer targets(DType::I32, {s.rows}, random_targets(random, s)), kept(act, {s.rows, s.columns}, values);
  const Classified want = classify(s, kept.get(), targets.get(), static_cast<float>(z), loss_scale);
  const double lse_scale = std::max(1.0, largest(want.lse));
  same_bits_on_every_schedule([&] {
    const Buffer logits(act, {s.rows, s.columns}, values), apart(act, {s.rows, s.columns});
    const Buffer loss(DType::F32, {s.rows}), lse(DType::F32, {s.rows});
    const Buffer& dlogits = in_place ? logits : apart;
    const cuda::Fault fault =
        run_op<ops::Classifier>({logits, targets, loss, lse, dlogits}, {double(s.vocab), z}, scaled(loss_scale));
    CHECK(fault.kind == cuda::Fault::kNone);
    // The sum of exponentials is good to about 1e-6 of itself in fp32 (ex2.approx: 2^-22), so lse is to 1e-6 absolute;
    // the differences x - max are rounded twice (2^-23 of at most 250), which every probability feels relatively.
    check_close("loss", loss.get(), want.loss, {2e-7, 2e-6});
    check_close("lse", lse.get(), want.lse, {2e-7, 2e-6});
    const double arithmetic = 1e-6 + 250 * 1.2e-7;
    check_close("dlogits", dlogits.get(), want.dlogits,
                rounded_once(act, arithmetic, 0.1 * loss_scale * (1 + 2 * z * lse_scale)));
    return joined({&loss, &lse, &dlogits});
  });
}

}  // namespace

TEST("the CUDA classifier agrees with float64: loss, lse, gradient in place and not, ignored targets, padding") {
  in_both_precisions([](DType act) {
    for (const LogitsShape& s : kShapes)
      for (bool in_place : {false, true}) {
        compare(act, s, 0.0, 30.0, in_place);
        compare(act, s, 1e-2, 1.0, in_place);
      }
  });
}

TEST("the CUDA classifier agrees with float64 where one row, and where none, fits in shared memory") {
  // 99 KiB on sm_86: 16400 fp32 are kept by one block of 1024 threads, 26000 are read twice.
  on_device(86, 2, [] {
    for (int64_t columns : {16400, 26000}) compare(DType::F32, {2, columns, columns - 3}, 0.0, 3.0, true);
    compare(DType::BF16, {2, 52000, 51000}, 0.0, 3.0, true);
  });
}

TEST("without dlogits the CUDA classifier leaves the logits alone and the losses have the same bits") {
  in_both_precisions([](DType act) {
    const LogitsShape s = {3, 5000, 4990};
    Random random(3);
    const Buffer targets(DType::I32, {s.rows}, random_targets(random, s));
    const Buffer logits(act, {s.rows, s.columns}, random.normal(s.rows * s.columns));
    const auto before = logits.raw();
    const Buffer loss(DType::F32, {s.rows}), lse(DType::F32, {s.rows}), loss2(DType::F32, {s.rows}),
        lse2(DType::F32, {s.rows});
    run_op<ops::Classifier>({logits, targets, loss, lse, kAbsent}, {double(s.vocab), 0}, scaled(1));
    CHECK(logits.raw() == before);
    run_op<ops::Classifier>({logits, targets, loss2, lse2, logits}, {double(s.vocab), 0}, scaled(1));
    CHECK(joined({&loss, &lse}) == joined({&loss2, &lse2}));
  });
}

TEST("to the CUDA classifier logits of -inf have probability 0, and a NaN logit makes its loss NaN") {
  in_both_precisions([](DType act) {
    const int64_t columns = 4504;
    Values values(static_cast<size_t>(2 * columns), -std::numeric_limits<double>::infinity());
    values[3] = values[4] = 1.0;
    for (int64_t j = 0; j < columns; j++) values[static_cast<size_t>(columns + j)] = j == 17 ? std::nan("") : 0.5;
    const Buffer logits(act, {2, columns}, values), targets(DType::I32, {2}, {3, 3});
    const Buffer loss(DType::F32, {2}), lse(DType::F32, {2});
    run_op<ops::Classifier>({logits, targets, loss, lse, logits}, {double(columns), 0}, scaled(1));
    CHECK(std::fabs(loss.get()[0] - std::log(2.0)) < 1e-6, loss.get()[0]);
    CHECK(std::isnan(loss.get()[1]), loss.get()[1]);
    const Values grad = logits.get();
    CHECK(std::fabs(grad[3] + 0.5) < 1e-6 && std::fabs(grad[4] - 0.5) < 1e-6, grad[3], " ", grad[4]);
    for (int64_t j = 5; j < columns; j++) CHECK(grad[static_cast<size_t>(j)] == 0.0, j);
  });
}

TEST("a target beyond the vocabulary is a fault that names its row, which stays as it is; the others are right") {
  const Buffer logits(DType::F32, {2, 8}, Values(16, 1.0)), targets(DType::I32, {2}, {0, 6});
  const Buffer loss(DType::F32, {2}), lse(DType::F32, {2});
  const cuda::Fault fault = run_op<ops::Classifier>({logits, targets, loss, lse, logits}, {6, 0}, scaled(1));
  CHECK(fault.kind == cuda::Fault::kTarget && fault.row == 1 && fault.value == 6 && fault.limit == 6, fault.row);
  for (int i = 8; i < 16; i++) CHECK(logits.get()[static_cast<size_t>(i)] == 1.0, i);
  CHECK(std::fabs(loss.get()[0] - std::log(6.0)) < 1e-6, loss.get()[0]);
}

TEST_MAIN()
