#include <limits>

#include "test/native/classifier_reference.h"
#include "test/native/command.h"

using namespace check;

namespace {

const std::vector<LogitsShape> kShapes = {{1, 1, 1},      {3, 7, 5},     {70, 48, 48},   {9, 64, 64},
                                          {33, 168, 161}, {8, 257, 250}, {5, 5000, 4999}};

Setting scaled(double loss_scale) {
  Setting setting;
  setting.scalars[ops::kScalarLossScale] = static_cast<float>(loss_scale);
  return setting;
}

}  // namespace

TEST("the float64 gradient of the classifier is the central difference of loss + zLoss lse^2") {
  const LogitsShape s = {4, 7, 5};
  Random random(1);
  const Values x = random.normal(s.rows * s.columns, 2.0), targets = random_targets(random, s);
  const auto total = [&](const Values& at) {
    const Classified r = classify(s, at, targets, 0.01, 1);
    double sum = 0;
    for (size_t i = 0; i < r.loss.size(); i++)
      if (targets[i] >= 0) sum += r.loss[i] + 0.01 * r.lse[i] * r.lse[i];
    return 0.5 * sum;
  };
  check_gradient("logits", total, x, classify(s, x, targets, 0.01, 0.5).dlogits);
}

TEST("classifier agrees with float64: loss, lse, gradient in place and not, ignored targets, padding") {
  on_every_path([](Isa isa, DType act) {
    for (const LogitsShape& s : kShapes)
      for (double z : {0.0, 1e-2})
        for (double spread : {1.0, 30.0}) {
          Random random(2);
          const double loss_scale = static_cast<float>(1.0 / 37);
          const Values values = random.normal(s.rows * s.columns, spread);
          const Buffer targets(DType::I32, {s.rows}, random_targets(random, s)), kept(act, {s.rows, s.columns}, values);
          const Classified want = classify(s, kept.get(), targets.get(), static_cast<float>(z), loss_scale);
          const double lse_scale = std::max(1.0, largest(want.lse));
          for (bool in_place : {false, true})
            same_bits_for_any_threads([&](int threads) {
              const Buffer logits(act, {s.rows, s.columns}, values), apart(act, {s.rows, s.columns});
              const Buffer loss(DType::F32, {s.rows}), lse(DType::F32, {s.rows});
              const Buffer& dlogits = in_place ? logits : apart;
              run_op<ops::Classifier>(isa, threads, {logits, targets, loss, lse, dlogits}, {double(s.vocab), z},
                                      scaled(loss_scale));
              // The sum of exponentials is good to about 1e-6 of itself in fp32, so lse is to 1e-6 absolute; the
              // differences x - max are rounded once (2^-24 of at most 250), which every probability feels relatively.
              check_close("loss", loss.get(), want.loss, {2e-7, 2e-6});
              check_close("lse", lse.get(), want.lse, {2e-7, 2e-6});
              const double arithmetic = 1e-6 + 250 * 6e-8;
              check_close("dlogits", dlogits.get(), want.dlogits,
                          rounded_once(act, arithmetic, 0.1 * loss_scale * (1 + 2 * z * lse_scale)));
              return joined({&loss, &lse, &dlogits});
            });
        }
  });
}

TEST("without dlogits the logits are left alone and the losses have the same bits") {
  on_every_path([](Isa isa, DType act) {
    const LogitsShape s = {6, 5000, 4990};
    Random random(3);
    const Buffer targets(DType::I32, {s.rows}, random_targets(random, s));
    const Buffer logits(act, {s.rows, s.columns}, random.normal(s.rows * s.columns));
    const auto before = logits.raw();
    const Buffer loss(DType::F32, {s.rows}), lse(DType::F32, {s.rows}), loss2(DType::F32, {s.rows}),
        lse2(DType::F32, {s.rows});
    run_op<ops::Classifier>(isa, 2, {logits, targets, loss, lse, kAbsent}, {double(s.vocab), 0}, scaled(1));
    CHECK(logits.raw() == before);
    run_op<ops::Classifier>(isa, 2, {logits, targets, loss2, lse2, logits}, {double(s.vocab), 0}, scaled(1));
    CHECK(joined({&loss, &lse}) == joined({&loss2, &lse2}));
  });
}

TEST("logits of -inf have probability 0, and a NaN logit makes its loss NaN") {
  on_every_path([](Isa isa, DType act) {
    const int64_t columns = 4500;
    Values values(static_cast<size_t>(2 * columns), -std::numeric_limits<double>::infinity());
    values[3] = values[4] = 1.0;
    for (int64_t j = 0; j < columns; j++) values[static_cast<size_t>(columns + j)] = j == 17 ? std::nan("") : 0.5;
    const Buffer logits(act, {2, columns}, values), targets(DType::I32, {2}, {3, 3});
    const Buffer loss(DType::F32, {2}), lse(DType::F32, {2});
    run_op<ops::Classifier>(isa, 1, {logits, targets, loss, lse, logits}, {double(columns), 0}, scaled(1));
    CHECK(std::fabs(loss.get()[0] - std::log(2.0)) < 1e-6, loss.get()[0]);
    CHECK(std::isnan(loss.get()[1]), loss.get()[1]);
    const Values grad = logits.get();
    CHECK(std::fabs(grad[3] + 0.5) < 1e-6 && std::fabs(grad[4] - 0.5) < 1e-6, grad[3], " ", grad[4]);
    for (int64_t j = 5; j < columns; j++) CHECK(grad[static_cast<size_t>(j)] == 0.0, j);
  });
}

TEST("a target beyond the vocabulary is an error naming row and target, and nothing is written") {
  for (Isa isa : available_paths()) {
    const Buffer logits(DType::F32, {2, 8}, Values(16, 1.0)), targets(DType::I32, {2}, {0, 6});
    const Buffer loss(DType::F32, {2}), lse(DType::F32, {2});
    const auto before = joined({&logits, &loss, &lse});
    must_fail("BAD_INPUT", "row 1 has target 6", [&] {
      run_op<ops::Classifier>(isa, 1, {logits, targets, loss, lse, logits}, {6, 0}, scaled(1));
    });
    CHECK(joined({&logits, &loss, &lse}) == before);
  }
}

TEST_MAIN()
