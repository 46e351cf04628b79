// rmsnorm: y = x * rstd * weight, rstd = 1 / sqrt(mean(x^2) + eps), x [rows, dim] (Zhang & Sennrich 2019).
// Backward, with g = dy * weight: dx = rstd * (g - x * rstd^2 * mean(g * x)) + addend, dweight = sum_r dy * x * rstd.
// Every row is read from memory once and a second time from L1; the sums over rows are kept per fixed block of rows in
// the workspace ([blocks, dim] fp32, in L1 while a block is worked on) and then added in block order.
#include "native/cpu/kernels/declare.h"
#include "native/cpu/kernels/norm.h"
#include "native/cpu/kernels/simd.h"
#include "native/cpu/kernels/tiles.h"
#include "native/ops/step_inputs.h"

namespace thalweg::cpu::THALWEG_ISA {

template <class T>
static void forward(const ops::Rmsnorm& p, Context& ctx) {
  const T* x = p.x.as<T>();
  T* y = p.y.as<T>();
  float* rstd = p.rstd.as<float>();
  run_blocks(ctx.pool, p.rows, tile_rows(p.dim), [&](int64_t begin, int64_t end, int) {
    for (int64_t r = begin; r < end; r++)
      rstd[r] = normalise(x + r * p.dim, p.weight.as<float>(), p.dim, p.eps, y + r * p.dim);
  });
}

void rmsnorm(const ops::Rmsnorm& p, Context& ctx) {
  p.x.dtype == DType::BF16 ? forward<bf16>(p, ctx) : forward<float>(p, ctx);
}
size_t rmsnorm_workspace(const ops::Rmsnorm&, int) { return 0; }

template <class T>
static void backward(const ops::RmsnormBackward& p, Context& ctx) {
  const T *x = p.x.as<T>(), *dy = p.dy.as<T>(), *addend = p.addend.present() ? p.addend.as<T>() : nullptr;
  T* dx = p.dx.as<T>();
  const float *weight = p.weight.as<float>(), *rstd = p.rstd.as<float>();
  float* partial = reinterpret_cast<float*>(ctx.workspace);
  const int64_t block = norm_block(p.dim);
  run_blocks(ctx.pool, p.rows, block, [&](int64_t begin, int64_t end, int) {
    float* sums = partial + begin / block * p.dim;
    for_lanes(
        p.dim, [&](int64_t i, int n) __attribute__((always_inline)) { store_part(sums + i, zero(), n); });
    for (int64_t r = begin; r < end; r++) {
      const int64_t at = r * p.dim;
      if (addend != nullptr)
        normalise_backward<true>(x + at, weight, rstd[r], dy + at, addend + at, p.dim, dx + at, sums);
      else
        normalise_backward<false>(x + at, weight, rstd[r], dy + at, x, p.dim, dx + at, sums);
    }
  });
  add_partials(ctx, partial, blocks_of(p.rows, block), p.dim, p.dim, ops::accumulates(p.accumulate, ctx.integers),
               p.dweight.as<float>());
}

void rmsnorm_backward(const ops::RmsnormBackward& p, Context& ctx) {
  p.x.dtype == DType::BF16 ? backward<bf16>(p, ctx) : backward<float>(p, ctx);
}
size_t rmsnorm_backward_workspace(const ops::RmsnormBackward& p, int) {
  return lines(static_cast<size_t>(blocks_of(p.rows, norm_block(p.dim)) * p.dim) * 4);
}

}  // namespace thalweg::cpu::THALWEG_ISA
