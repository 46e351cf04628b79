// qkNorm: RMSNorm of each query and key head inside rows [q heads | k heads | v heads]; see rmsnorm.cpp for the
// formulas. Weight gradients are kept per fixed block of rows as [dq | dk] and added in block order.
#include "native/cpu/kernels/declare.h"
#include "native/cpu/kernels/norm.h"
#include "native/cpu/kernels/simd.h"
#include "native/cpu/kernels/tiles.h"
#include "native/ops/step_inputs.h"

namespace thalweg::cpu::THALWEG_ISA {

template <class T>
static void copy_values(const T* from, T* to, int64_t count) {
  if (from != to) __builtin_memcpy(to, from, static_cast<size_t>(count) * sizeof(T));
}

template <class T>
static void forward(const ops::QkNorm& p, Context& ctx) {
  const int64_t normed = p.heads + p.kv_heads, width = (normed + p.kv_heads) * p.head_dim;
  run_blocks(ctx.pool, p.rows, tile_rows(width), [&](int64_t begin, int64_t end, int) {
    for (int64_t r = begin; r < end; r++) {
      const T* x = p.x.as<T>() + r * width;
      T* y = p.y.as<T>() + r * width;
      float* rstd = p.rstd.as<float>() + r * normed;
      for (int64_t h = 0; h < normed; h++) {
        const float* weight = (h < p.heads ? p.q_weight : p.k_weight).template as<float>();
        rstd[h] = normalise(x + h * p.head_dim, weight, p.head_dim, p.eps, y + h * p.head_dim);
      }
      copy_values(x + normed * p.head_dim, y + normed * p.head_dim, p.kv_heads * p.head_dim);
    }
  });
}

void qk_norm(const ops::QkNorm& p, Context& ctx) {
  p.x.dtype == DType::BF16 ? forward<bf16>(p, ctx) : forward<float>(p, ctx);
}
size_t qk_norm_workspace(const ops::QkNorm&, int) { return 0; }

static int64_t row_width(const ops::QkNormBackward& p) { return (p.heads + 2 * p.kv_heads) * p.head_dim; }

template <class T>
static void backward(const ops::QkNormBackward& p, Context& ctx) {
  const int64_t normed = p.heads + p.kv_heads, width = row_width(p), hd = p.head_dim;
  const int64_t block = norm_block(width);
  float* partial = reinterpret_cast<float*>(ctx.workspace);
  run_blocks(ctx.pool, p.rows, block, [&](int64_t begin, int64_t end, int) {
    float* sums = partial + begin / block * 2 * hd;
    for_lanes(
        2 * hd, [&](int64_t i, int n) __attribute__((always_inline)) { store_part(sums + i, zero(), n); });
    for (int64_t r = begin; r < end; r++) {
      const T *x = p.x.as<T>() + r * width, *dy = p.dy.as<T>() + r * width;
      T* dx = p.dx.as<T>() + r * width;
      const float* rstd = p.rstd.as<float>() + r * normed;
      for (int64_t h = 0; h < normed; h++) {
        const bool query = h < p.heads;
        normalise_backward<false>(x + h * hd, (query ? p.q_weight : p.k_weight).template as<float>(), rstd[h],
                                  dy + h * hd, x, hd, dx + h * hd, query ? sums : sums + hd);
      }
      copy_values(dy + normed * hd, dx + normed * hd, p.kv_heads * hd);
    }
  });
  const bool add = ops::accumulates(p.accumulate, ctx.integers);
  const int64_t blocks = blocks_of(p.rows, block);
  add_partials(ctx, partial, blocks, hd, 2 * hd, add, p.dq_weight.as<float>());
  add_partials(ctx, partial + hd, blocks, hd, 2 * hd, add, p.dk_weight.as<float>());
}

void qk_norm_backward(const ops::QkNormBackward& p, Context& ctx) {
  p.x.dtype == DType::BF16 ? backward<bf16>(p, ctx) : backward<float>(p, ctx);
}
size_t qk_norm_backward_workspace(const ops::QkNormBackward& p, int) {
  return lines(static_cast<size_t>(blocks_of(p.rows, norm_block(row_width(p))) * 2 * p.head_dim) * 4);
}

}  // namespace thalweg::cpu::THALWEG_ISA
