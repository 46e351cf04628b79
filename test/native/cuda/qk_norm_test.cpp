#include "test/native/cuda/command.h"
#include "test/native/rmsnorm_reference.h"

using namespace check;

TEST("the CUDA qkNorm normalises query and key heads, copies values, and its gradient agrees with float64") {
  const double eps = 1e-5;
  in_both_precisions([&](DType act) {
    // Ragged heads; one vector a head; whole groups; groups with idle lanes; rows wider than a block; several partials.
    for (const Heads& s : {Heads{1, 1, 1, 1}, Heads{5, 2, 2, 7}, Heads{3, 2, 1, 8}, Heads{70, 4, 2, 64},
                           Heads{33, 3, 1, 48}, Heads{6, 16, 8, 64}, Heads{5, 3, 1, 128}, Heads{2, 1, 1, 520}}) {
      Random random(4);
      const std::vector<int64_t> shape = {s.rows, s.width()};
      const Values x_values = random.normal(s.rows * s.width()), dy_values = random.normal(s.rows * s.width());
      const Buffer x(act, shape, x_values), dy_kept(act, shape, dy_values);
      const Buffer qw(DType::F32, {s.dim}, random.normal(s.dim, 0.3, 1.0));
      const Buffer kw(DType::F32, {s.dim}, random.normal(s.dim, 0.3, 1.0));
      const Buffer before(DType::F32, {s.dim}, random.normal(s.dim));
      const Values xq = s.take(x.get(), 0, s.heads), xk = s.take(x.get(), s.heads, s.kv);
      Values q_rstd, k_rstd;
      const Values q = rmsnorm_forward(xq, qw.get(), static_cast<float>(eps), &q_rstd),
                   k = rmsnorm_forward(xk, kw.get(), static_cast<float>(eps), &k_rstd);
      const Values want = s.join(q, k, s.take(x.get(), s.heads + s.kv, s.kv));
      const NormGradients gq = rmsnorm_backward(xq, qw.get(), q_rstd, s.take(dy_kept.get(), 0, s.heads));
      const NormGradients gk = rmsnorm_backward(xk, kw.get(), k_rstd, s.take(dy_kept.get(), s.heads, s.kv));
      const Values want_dx = s.join(gq.dx, gk.dx, s.take(dy_kept.get(), s.heads + s.kv, s.kv));
      const double heads = double(s.heads), kv = double(s.kv), dim = double(s.dim);
      for (bool in_place : {false, true})
        same_bits_on_every_schedule([&] {
          const Buffer own(act, shape, x_values), y_apart(act, shape), dx_apart(act, shape), dy(act, shape, dy_values);
          const Buffer &y = in_place ? own : y_apart, &dx = in_place ? dy : dx_apart;
          const Buffer rstd(DType::F32, {s.rows, s.heads + s.kv});
          const Buffer dqw(DType::F32, {s.dim}, before.get()), dkw(DType::F32, {s.dim}, before.get());
          run_op<ops::QkNorm>({own, qw, kw, y, rstd}, {heads, kv, dim, eps});
          check_close("y", y.get(), want, rounded_once(act, 3e-6, 0));
          run_op<ops::QkNormBackward>({x, qw, kw, rstd, dy, dx, dqw, dkw}, {heads, kv, dim, ops::kAdd});
          check_close("dx", dx.get(), want_dx, rounded_once(act, 3e-6, gq.terms + gk.terms));
          const double terms = std::sqrt(double(s.rows * s.heads)) * 4;
          check_close("dqWeight", dqw.get(), added(true, before.get(), gq.dweight), {3e-6, 3e-6 * terms});
          check_close("dkWeight", dkw.get(), added(true, before.get(), gk.dweight), {3e-6, 3e-6 * terms});
          return joined({&y, &rstd, &dx, &dqw, &dkw});
        });
    }
  });
}

TEST("CUDA qkNorm weight gradients are overwritten in the first micro-batch only") {
  const Buffer x(DType::F32, {2, 12}, Values(24, 1.0)), w(DType::F32, {4}, Values(4, 1.0)), dx(DType::F32, {2, 12});
  const Buffer rstd(DType::F32, {2, 2}, Values(4, 1.0));
  for (int first : {1, 0}) {
    Setting setting;
    setting.integers[ops::kIntegerFirstMicroBatch] = first;
    const Buffer dq(DType::F32, {4}, Values(4, 5.0)), dk(DType::F32, {4}, Values(4, 5.0));
    run_op<ops::QkNormBackward>({x, w, w, rstd, x, dx, dq, dk}, {1, 1, 4, ops::kAddUnlessFirst}, setting);
    CHECK(dq.get() == Values(4, first ? 2.0 : 7.0) && dk.get() == dq.get(), dq.get()[0]);
  }
}

TEST_MAIN()
