#include "test/native/command.h"
#include "test/native/rmsnorm_reference.h"

using namespace check;

namespace {

constexpr double kEps = 1e-5;

struct Shape {
  int64_t rows, dim;
};
const std::vector<Shape> kShapes = {{1, 1}, {3, 7}, {130, 48}, {9, 64}, {70, 168}, {150, 257}, {5, 20000}};

}  // namespace

TEST("the float64 gradient of RMSNorm is the central difference of its forward") {
  Random random(1);
  const Values x = random.normal(3 * 7), weight = random.normal(7, 0.3, 1.0), dy = random.normal(3 * 7);
  Values rstd;
  rmsnorm_forward(x, weight, kEps, &rstd);
  const NormGradients g = rmsnorm_backward(x, weight, rstd, dy);
  check_gradient(
      "x", [&](const Values& at) { return inner(dy, rmsnorm_forward(at, weight, kEps)); }, x, g.dx);
  check_gradient(
      "weight", [&](const Values& at) { return inner(dy, rmsnorm_forward(x, at, kEps)); }, weight, g.dweight);
}

TEST("rmsnorm agrees with float64") {
  on_every_path([](Isa isa, DType act) {
    for (const Shape& s : kShapes) {
      Random random(2);
      const Buffer x(act, {s.rows, s.dim}, random.normal(s.rows * s.dim, 3.0));
      const Buffer weight(DType::F32, {s.dim}, random.normal(s.dim, 0.3, 1.0));
      Values rstd_want;
      const double eps = static_cast<float>(kEps);
      const Values want = rmsnorm_forward(x.get(), weight.get(), eps, &rstd_want);
      same_bits_for_any_threads([&](int threads) {
        const Buffer y(act, {s.rows, s.dim}), rstd(DType::F32, {s.rows});
        run_op<ops::Rmsnorm>(isa, threads, {x, weight, y, rstd}, {kEps});
        // Sums of squares have one sign, so fp32 errors stay a few 2^-24 (up to 20000 / 64 terms per lane).
        check_close("y", y.get(), want, rounded_once(act, 3e-6, 0));
        check_close("rstd", rstd.get(), rstd_want, {3e-6, 0});
        return joined({&y, &rstd});
      });
    }
  });
}

TEST("the gradient of rmsnorm agrees with float64, with and without addend, in place and not") {
  on_every_path([](Isa isa, DType act) {
    for (const Shape& s : kShapes)
      for (bool with_addend : {false, true})
        for (bool in_place : {false, true}) {
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
          same_bits_for_any_threads([&](int threads) {
            const Buffer dy(act, {s.rows, s.dim}, dy_values), apart(act, {s.rows, s.dim});
            const Buffer dweight(DType::F32, {s.dim}, before.get());
            const Buffer& dx = in_place ? dy : apart;
            const Tensor extra = with_addend ? addend.tensor() : kAbsent;
            run_op<ops::RmsnormBackward>(isa, threads, {x, weight, rstd, dy, extra, dx, dweight}, {1});
            check_close("dx", dx.get(), want.dx, rounded_once(act, 3e-6, scale));
            check_close("dweight", dweight.get(), added(true, before.get(), want.dweight),
                        {3e-6, 3e-6 * std::sqrt(double(s.rows)) * 4});
            return joined({&dx, &dweight});
          });
        }
  });
}

TEST("weight gradients are overwritten in the first micro-batch only") {
  on_every_path([](Isa isa, DType act) {
    const Buffer x(act, {2, 3}, Values(6, 1.0)), rstd(DType::F32, {2}, {1, 1}), weight(DType::F32, {3}, Values(3, 1.0));
    for (int first : {1, 0}) {
      Setting setting;
      setting.integers[ops::kIntegerFirstMicroBatch] = first;
      const Buffer dx(act, {2, 3}), dweight(DType::F32, {3}, Values(3, 5.0));
      run_op<ops::RmsnormBackward>(isa, 1, {x, weight, rstd, x, kAbsent, dx, dweight}, {2}, setting);
      CHECK(dweight.get() == Values(3, first ? 2.0 : 7.0));
    }
  });
}

TEST("qkNorm normalises query and key heads, copies values, and its gradient agrees with float64") {
  on_every_path([](Isa isa, DType act) {
    for (const Heads& s : {Heads{1, 1, 1, 1}, Heads{70, 4, 2, 64}, Heads{33, 3, 1, 48}, Heads{20, 2, 2, 7}}) {
      Random random(4);
      const std::vector<int64_t> shape = {s.rows, s.width()};
      const Buffer x(act, shape, random.normal(s.rows * s.width()));
      const Values dy_values = random.normal(s.rows * s.width());
      const Buffer qw(DType::F32, {s.dim}, random.normal(s.dim, 0.3, 1.0));
      const Buffer kw(DType::F32, {s.dim}, random.normal(s.dim, 0.3, 1.0));
      const Values xq = s.take(x.get(), 0, s.heads), xk = s.take(x.get(), s.heads, s.kv);
      const Buffer dy_kept(act, shape, dy_values);
      Values q_rstd, k_rstd;
      const double eps = static_cast<float>(kEps);
      const Values q = rmsnorm_forward(xq, qw.get(), eps, &q_rstd), k = rmsnorm_forward(xk, kw.get(), eps, &k_rstd);
      const Values want = s.join(q, k, s.take(x.get(), s.heads + s.kv, s.kv));
      const NormGradients gq = rmsnorm_backward(xq, qw.get(), q_rstd, s.take(dy_kept.get(), 0, s.heads));
      const NormGradients gk = rmsnorm_backward(xk, kw.get(), k_rstd, s.take(dy_kept.get(), s.heads, s.kv));
      const Values want_dx = s.join(gq.dx, gk.dx, s.take(dy_kept.get(), s.heads + s.kv, s.kv));
      same_bits_for_any_threads([&](int threads) {
        const std::vector<double> sizes = {double(s.heads), double(s.kv), double(s.dim)};
        const Buffer y(act, shape), rstd(DType::F32, {s.rows, s.heads + s.kv}), dy(act, shape, dy_values);
        const Buffer dqw(DType::F32, {s.dim}), dkw(DType::F32, {s.dim});
        run_op<ops::QkNorm>(isa, threads, {x, qw, kw, y, rstd}, {sizes[0], sizes[1], sizes[2], kEps});
        check_close("y", y.get(), want, rounded_once(act, 3e-6, 0));
        run_op<ops::QkNormBackward>(isa, threads, {x, qw, kw, rstd, dy, dy, dqw, dkw},
                                    {sizes[0], sizes[1], sizes[2], 0});
        check_close("dx", dy.get(), want_dx, rounded_once(act, 3e-6, gq.terms + gk.terms));
        const double terms = std::sqrt(double(s.rows * s.heads)) * 4;
        check_close("dqWeight", dqw.get(), gq.dweight, {3e-6, 3e-6 * terms});
        check_close("dkWeight", dkw.get(), gk.dweight, {3e-6, 3e-6 * terms});
        return joined({&y, &rstd, &dy, &dqw, &dkw});
      });
    }
  });
}

TEST_MAIN()
