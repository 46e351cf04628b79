#pragma once
#include "native/cpu/kernels/simd.h"
#include "native/cpu/kernels/tiles.h"

/** What rmsnorm and qkNorm share: one vector normalised and its gradient. */
namespace thalweg::cpu::THALWEG_ISA {

/** Rows whose weight gradients are summed into one partial; twice a tile, as every partial is written and read again.
 */
static inline int64_t norm_block(int64_t width) { return 2 * tile_rows(width); }

/** Sum of term(i, n) over [0, count): four running vectors, combined in a fixed order. Lanes beyond the end must come
 * as 0. */
template <class Term>
THALWEG_INLINE float sum_lanes(int64_t count, Term&& term) {
  F a = zero(), b = zero(), c = zero(), d = zero();
  int64_t i = 0;
  for (; i + 4 * kWidth <= count; i += 4 * kWidth) {
    a = a + term(i, kWidth);
    b = b + term(i + kWidth, kWidth);
    c = c + term(i + 2 * kWidth, kWidth);
    d = d + term(i + 3 * kWidth, kWidth);
  }
  for (; i + kWidth <= count; i += kWidth) a = a + term(i, kWidth);
  if (i < count) b = b + term(i, static_cast<int>(count - i));
  return reduce_add((a + b) + (c + d));
}

/** y = x * rstd * weight; returns rstd. */
template <class T>
THALWEG_INLINE float normalise(const T* x, const float* weight, int64_t dim, float eps, T* y) {
  const float squares = sum_lanes(
      dim, [&](int64_t i, int n) __attribute__((always_inline)) {
        const F v = load_part(x + i, n);
        return v * v;
      });
  const float rstd = 1.0f / __builtin_sqrtf(squares / static_cast<float>(dim) + eps);
  const F scale = set1(rstd);
  for_lanes(
      dim, [&](int64_t i, int n) __attribute__((always_inline)) {
        store_part(y + i, load_part(x + i, n) * scale * load_part(weight + i, n), n);
      });
  return rstd;
}

/** dx = rstd * (g - x * rstd^2 * mean(g * x)) (+ addend), g = dy * weight; sums += dy * x * rstd. dx may be dy. */
template <bool kAddend, class T>
THALWEG_INLINE void normalise_backward(const T* x, const float* weight, float rstd, const T* dy, const T* addend,
                                       int64_t dim, T* dx, float* sums) {
  const float product = sum_lanes(
      dim, [&](int64_t i, int n) __attribute__((always_inline)) {
        return load_part(dy + i, n) * load_part(weight + i, n) * load_part(x + i, n);
      });
  const F scale = set1(rstd);
  const F back = set1(product / static_cast<float>(dim) * rstd * rstd);
  for_lanes(
      dim, [&](int64_t i, int n) __attribute__((always_inline)) {
        const F vx = load_part(x + i, n), vdy = load_part(dy + i, n);
        F grad = scale * (vdy * load_part(weight + i, n) - vx * back);
        if constexpr (kAddend) grad = grad + load_part(addend + i, n);
        store_part(sums + i, fma(vdy, vx * scale, load_part(sums + i, n)), n);
        store_part(dx + i, grad, n);
      });
}

/** out[i] (+)= partial[0][i] + partial[1][i] + ... for i in [0, width), rows of partials `stride` apart. */
static inline void add_partials(Context& ctx, const float* partial, int64_t blocks, int64_t width, int64_t stride,
                                bool add, float* out) {
  run_blocks(ctx.pool, width, 256, [&](int64_t begin, int64_t end, int) {
    for_lanes(
        end - begin, [&](int64_t j, int n) __attribute__((always_inline)) {
          const int64_t i = begin + j;
          F total = zero();
          for (int64_t b = 0; b < blocks; b++) total = total + load_part(partial + b * stride + i, n);
          store_part(out + i, add ? load_part(out + i, n) + total : total, n);
        });
  });
}

}  // namespace thalweg::cpu::THALWEG_ISA
