#include "test/native/cuda/command.h"
#include "test/native/rmsnorm_reference.h"

using namespace check;

namespace {

constexpr double kEps = 1e-5;

struct Shape {
  int64_t rows, dim;
};
// Ragged; a warp a row with 1, 2, 4 and 8 vectors a lane; a block a row; a row no block can hold; several partials.
const std::vector<Shape> kShapes = {{1, 1},    {3, 7},    {33, 257}, {20, 64},  {70, 168}, {9, 512},
                                    {3, 1000}, {2, 2048}, {3, 2064}, {2, 6000}, {1, 16392}};

}  // namespace

TEST("the CUDA rmsnorm agrees with float64 under every schedule") {
  in_both_precisions([](DType act) {
    for (const Shape& s : kShapes) {
      Random random(2);
      const Buffer x(act, {s.rows, s.dim}, random.normal(s.rows * s.dim, 3.0));
      const Buffer weight(DType::F32, {s.dim}, random.normal(s.dim, 0.3, 1.0));
      Values rstd_want;
      const Values want = rmsnorm_forward(x.get(), weight.get(), static_cast<float>(kEps), &rstd_want);
      same_bits_on_every_schedule([&] {
        const Buffer y(act, {s.rows, s.dim}), rstd(DType::F32, {s.rows});
        run_op<ops::Rmsnorm>({x, weight, y, rstd}, {kEps});
        // Sums of squares have one sign, so fp32 errors stay a few 2^-24 (up to 80 terms a thread).
        check_close("y", y.get(), want, rounded_once(act, 3e-6, 0));
        check_close("rstd", rstd.get(), rstd_want, {3e-6, 0});
        return joined({&y, &rstd});
      });
    }
  });
}

TEST("the CUDA gradient of rmsnorm agrees with float64, with and without addend, in place and not") {
  in_both_precisions([](DType act) {
    for (const Shape& s : kShapes)
      for (int variant = 0; variant < 4; variant++) {
        const bool with_addend = variant % 2 != 0, in_place = variant / 2 != 0;
        if (s.dim > 2048 && with_addend != in_place) continue;
        Random random(3);
        const Buffer x(act, {s.rows, s.dim}, random.normal(s.rows * s.dim));
        const Buffer weight(DType::F32, {s.dim}, random.normal(s.dim, 0.3, 1.0));
        const Values dy_values = random.normal(s.rows * s.dim);
        const Buffer addend(act, {s.rows, s.dim}, random.normal(s.rows * s.dim));
        const Buffer before(DType::F32, {s.dim}, random.normal(s.dim));
        Values rstd_values;
        rmsnorm_forward(x.get(), weight.get(), kEps, &rstd_values);
        const Buffer rstd(DType::F32, {s.rows}, rstd_values), dy_kept(act, {s.rows, s.dim}, dy_values);
        NormGradients want = rmsnorm_backward(x.get(), weight.get(), rstd.get(), dy_kept.get());
        if (with_addend) want.dx = added(true, addend.get(), want.dx);
        const double scale = want.terms + largest(want.dx);
        same_bits_on_every_schedule([&] {
          const Buffer dy(act, {s.rows, s.dim}, dy_values), apart(act, {s.rows, s.dim});
          const Buffer dweight(DType::F32, {s.dim}, before.get());
          const Buffer& dx = in_place ? dy : apart;
          const Tensor extra = with_addend ? addend.tensor() : kAbsent;
          run_op<ops::RmsnormBackward>({x, weight, rstd, dy, extra, dx, dweight}, {ops::kAdd});
          check_close("dx", dx.get(), want.dx, rounded_once(act, 3e-6, scale));
          check_close("dweight", dweight.get(), added(true, before.get(), want.dweight),
                      {3e-6, 3e-6 * std::sqrt(double(s.rows)) * 4});
          return joined({&dx, &dweight});
        });
      }
  });
}

TEST("CUDA weight gradients have the same bits on devices of other sizes") {
  const int64_t rows = 100, dim = 96;
  Random random(4);
  const Buffer x(DType::BF16, {rows, dim}, random.normal(rows * dim)),
      dy(DType::BF16, {rows, dim}, random.normal(rows * dim));
  const Buffer weight(DType::F32, {dim}, Values(dim, 1.0)), rstd(DType::F32, {rows}, Values(rows, 0.7));
  std::vector<unsigned char> first;
  for (int multiprocessors : {1, 4, 132})
    on_device(90, multiprocessors, [&] {
      const Buffer dx(DType::BF16, {rows, dim}), dweight(DType::F32, {dim});
      run_op<ops::RmsnormBackward>({x, weight, rstd, dy, kAbsent, dx, dweight}, {ops::kOverwrite});
      if (first.empty()) first = joined({&dx, &dweight});
      CHECK(first == joined({&dx, &dweight}), multiprocessors);
    });
}

TEST("CUDA weight gradients are overwritten in the first micro-batch only") {
  in_both_precisions([](DType act) {
    const Buffer x(act, {2, 3}, Values(6, 1.0)), rstd(DType::F32, {2}, {1, 1}), weight(DType::F32, {3}, Values(3, 1.0));
    for (int first : {1, 0}) {
      Setting setting;
      setting.integers[ops::kIntegerFirstMicroBatch] = first;
      const Buffer dx(act, {2, 3}), dweight(DType::F32, {3}, Values(3, 5.0));
      run_op<ops::RmsnormBackward>({x, weight, rstd, x, kAbsent, dx, dweight}, {ops::kAddUnlessFirst}, setting);
      CHECK(dweight.get() == Values(3, first ? 2.0 : 7.0));
    }
  });
}

TEST_MAIN()
