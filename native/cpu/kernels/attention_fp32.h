#pragma once
#include "native/cpu/kernels/attention_common.h"

/**
 * The fp32 arithmetic of attention on blocks: products held in registers, packing, softmax.
 *
 * Every product is C (+)= A B with B and C in rows of whole vectors: a k-step multiplies one broadcast element of A
 * with kCols vectors of B's row, for kRows rows of C at once. A may be stored either way round, so S^T, P^T and K serve
 * both as they are and transposed; only Q and dY need a transposed copy (as right operand of S^T = K Q^T, dP^T = V
 * dY^T).
 *
 * On the diagonal, work is cut into strips of kStrip keys or queries, and only the trapezoid that holds visible scores
 * is computed; what lies outside is never read.
 */
namespace thalweg::cpu::THALWEG_ISA::attn {

constexpr int64_t kStrip = 16;

// Register tiles rows x cols vectors: the accumulators, a row of B and (without embedded broadcast) one element of A
// fit 32, 16, 16 registers. Measured with AVX-512: 6 x 4 170, 8 x 3 166, 8 x 2 155 GFLOP/s; AVX2: 4 x 3 90, 6 x 2 87, 4
// x 2 77.
#if THALWEG_SIMD >= 2
constexpr int kCols = 4;
constexpr int rows_for(int cols) { return cols == 4 ? 6 : cols == 3 ? 8 : cols == 2 ? 12 : 16; }
#else
constexpr int kCols = 3;
constexpr int rows_for(int cols) { return cols == 3 ? 4 : cols == 2 ? 6 : 8; }
#endif

enum class Left { Rows, Columns };  // A(m, k) at a[m * lda + k], or at a[k * lda + m]

template <Left kLeft, int kM, int kN>
THALWEG_INLINE void micro(int64_t k, const float* a, int64_t lda, const float* b, int64_t ldb, float* c, int64_t ldc,
                          bool add) {
  F sum[kM][kN];
#pragma GCC unroll 16
  for (int m = 0; m < kM; m++)
#pragma GCC unroll 16
    for (int n = 0; n < kN; n++) sum[m][n] = add ? load(c + m * ldc + n * kWidth) : zero();
  for (int64_t i = 0; i < k; i++) {
    F right[kN];
#pragma GCC unroll 16
    for (int n = 0; n < kN; n++) right[n] = load(b + i * ldb + n * kWidth);
#pragma GCC unroll 16
    for (int m = 0; m < kM; m++) {
      const F left = set1(kLeft == Left::Rows ? a[m * lda + i] : a[i * lda + m]);
#pragma GCC unroll 16
      for (int n = 0; n < kN; n++) sum[m][n] = fma(left, right[n], sum[m][n]);
    }
  }
#pragma GCC unroll 16
  for (int m = 0; m < kM; m++)
#pragma GCC unroll 16
    for (int n = 0; n < kN; n++) store(c + m * ldc + n * kWidth, sum[m][n]);
}

template <Left kLeft, int kN>
inline void column_panel(int64_t m, int64_t k, const float* a, int64_t lda, const float* b, int64_t ldb, float* c,
                         int64_t ldc, bool add, Ahead& ahead) {
  constexpr int kM = rows_for(kN);
  const int64_t step = kLeft == Left::Rows ? lda : 1;
  int64_t i = 0;
  for (; i + kM <= m; i += kM) {
    ahead.step();
    micro<kLeft, kM, kN>(k, a + i * step, lda, b, ldb, c + i * ldc, ldc, add);
  }
  for (; i + 4 <= m; i += 4) micro<kLeft, 4, kN>(k, a + i * step, lda, b, ldb, c + i * ldc, ldc, add);
  for (; i < m; i += 2) micro<kLeft, 2, kN>(k, a + i * step, lda, b, ldb, c + i * ldc, ldc, add);
}

/** C [m, n] = A B, or += with add. m is even, n a multiple of kWidth. */
template <Left kLeft>
inline void product(int64_t m, int64_t n, int64_t k, const float* a, int64_t lda, const float* b, int64_t ldb, float* c,
                    int64_t ldc, bool add, Ahead& ahead) {
  for (int64_t j = 0; j < n;) {
    const int64_t left = (n - j) / kWidth;  // 4 vectors in 3s are better cut 2 + 2
    const int64_t cols = left >= kCols && left != kCols + 1 ? kCols : left > 2 ? (left + 1) / 2 : left;
    const auto panel = [&]<int kN>() { column_panel<kLeft, kN>(m, k, a, lda, b + j, ldb, c + j, ldc, add, ahead); };
    if (cols == 4)
      panel.template operator()<kCols>();
    else if (cols == 3)
      panel.template operator()<3>();
    else if (cols == 2)
      panel.template operator()<2>();
    else
      panel.template operator()<1>();
    j += cols * kWidth;
  }
}

/** S^T [keys, queries] = K Q^T over one pair of blocks; qt is [dim, kBlock]. */
inline void scores(int64_t dim, const float* k, int64_t ldk, const float* qt, float* st, bool diagonal, Ahead& ahead) {
  if (!diagonal) return product<Left::Rows>(kBlock, kBlock, dim, k, ldk, qt, kBlock, st, kBlock, false, ahead);
  for (int64_t s = 0; s < kBlock; s += kStrip)
    product<Left::Rows>(kStrip, kBlock - s, dim, k + s * ldk, ldk, qt + s, kBlock, st + s * kBlock + s, kBlock, false,
                        ahead);
}

/** Out [keys, width] += W^T X with W^T [keys, queries] weights of scores and X [queries, width]: dV and dK. */
inline void add_to_keys(int64_t width, const float* wt, const float* x, float* out, bool diagonal, Ahead& ahead) {
  if (!diagonal) return product<Left::Rows>(kBlock, width, kBlock, wt, kBlock, x, width, out, width, true, ahead);
  for (int64_t s = 0; s < kBlock; s += kStrip)
    product<Left::Rows>(kStrip, width, kBlock - s, wt + s * kBlock + s, kBlock, x + s * width, width, out + s * width,
                        width, true, ahead);
}

/** Out [queries, width] += W X with W^T [keys, queries] and X [keys, width]: O and dQ. */
inline void add_to_queries(int64_t width, const float* wt, const float* x, float* out, bool diagonal, Ahead& ahead) {
  if (!diagonal) return product<Left::Columns>(kBlock, width, kBlock, wt, kBlock, x, width, out, width, true, ahead);
  for (int64_t s = 0; s < kBlock; s += kStrip)
    product<Left::Columns>(kStrip, width, s + kStrip, wt + s, kBlock, x, width, out + s * width, width, true, ahead);
}

/** Copies rows of dim activations into [kBlock, width] fp32, the padding zero. */
template <class T>
inline void pack_rows(const T* x, int64_t stride, int64_t rows, int64_t dim, int64_t width, float* out) {
  for (int64_t r = 0; r < rows; r++)
    for (int64_t d = 0; d < width; d += kWidth) {
      const int64_t n = std::min<int64_t>(kWidth, dim - d);
      store(out + r * width + d, load_part(x + r * stride + d, static_cast<int>(n)));
    }
  std::fill(out + rows * width, out + kBlock * width, 0.0f);
}

/** out [dim, kBlock] = factor * transpose of x [kBlock, width], 4 x 4 elements at a time. */
inline void transpose_block(const float* x, int64_t width, int64_t dim, float factor, float* out) {
  using V = float __attribute__((vector_size(16)));
  const auto get = [](const float* p) {
    V v;
    __builtin_memcpy(&v, p, sizeof v);
    return v;
  };
  for (int64_t d = 0; d < dim; d += 4)
    for (int64_t r = 0; r < kBlock; r += 4) {
      const float* p = x + r * width + d;
      const V a = get(p), b = get(p + width), c = get(p + 2 * width), e = get(p + 3 * width);
      const V ab0 = __builtin_shufflevector(a, b, 0, 4, 1, 5), ab1 = __builtin_shufflevector(a, b, 2, 6, 3, 7);
      const V ce0 = __builtin_shufflevector(c, e, 0, 4, 1, 5), ce1 = __builtin_shufflevector(c, e, 2, 6, 3, 7);
      const V column[4] = {__builtin_shufflevector(ab0, ce0, 0, 1, 4, 5), __builtin_shufflevector(ab0, ce0, 2, 3, 6, 7),
                           __builtin_shufflevector(ab1, ce1, 0, 1, 4, 5),
                           __builtin_shufflevector(ab1, ce1, 2, 3, 6, 7)};
      for (int64_t i = 0; i < std::min<int64_t>(4, dim - d); i++) {
        const V scaled = column[i] * factor;
        __builtin_memcpy(out + (d + i) * kBlock + r, &scaled, sizeof scaled);
      }
    }
}

/** Largest score of kWidth queries over their rows of S^T, at least `most`. */
template <bool kWithin>
THALWEG_INLINE F column_max(const float* st, const Column<kWithin>& c, F most) {
  F m[4] = {most, most, most, most};
  constexpr float kLowest = -__builtin_inff();
  for (int64_t r = 0; r < c.masked; r += 4)
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) m[i] = max(m[i], c.within(load(st + (r + i) * kBlock), r + i, kLowest));
  for (int64_t r = c.masked; r < c.keys; r++) m[0] = max(m[0], c.below(load(st + r * kBlock), r, kLowest));
  return max(max(m[0], m[1]), max(m[2], m[3]));
}

/** S^T -> P^T = 2^(S^T - m) in place for the same queries; returns the sum of the column. */
template <bool kWithin>
THALWEG_INLINE F column_exp2(float* st, const Column<kWithin>& c, F m) {
  F sum[4] = {zero(), zero(), zero(), zero()};
  for (int64_t r = 0; r < c.masked; r += 4)
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
      const F p = c.within(exp2<6>(load(st + (r + i) * kBlock) - m), r + i, 0.0f);
      sum[i] += p;
      store(st + (r + i) * kBlock, p);
    }
  for (int64_t r = c.masked; r < c.keys; r++) {
    const F p = c.below(exp2<6>(load(st + r * kBlock) - m), r, 0.0f);
    sum[0] += p;
    store(st + r * kBlock, p);
  }
  return (sum[0] + sum[1]) + (sum[2] + sum[3]);
}

/** One step of the online softmax over a pair of blocks: S^T (base-2 logarithms) becomes P^T; m, l, alpha [kBlock]. */
template <bool kWithin>
inline void online_softmax(float* st, float* m, float* l, float* alpha, bool diagonal, const float* hidden) {
  for (int64_t v = 0; v < kBlock; v += kWidth) {
    const Column<kWithin> column(v, kStrip, diagonal, hidden);
    const F before = load(m + v);
    const F now = column_max(st + v, column, kWithin ? max(before, set1(kNothingSeen)) : before);
    const F fade = exp2<6>(before - now);
    const F sum = column_exp2(st + v, column, now);
    store(m + v, now);
    store(alpha + v, fade);
    store(l + v, fma(load(l + v), fade, sum));
  }
}

inline void online_softmax(float* st, float* m, float* l, float* alpha, bool diagonal, const float* hidden) {
  hidden ? online_softmax<true>(st, m, l, alpha, diagonal, hidden)
         : online_softmax<false>(st, m, l, alpha, diagonal, nullptr);
}

/** P^T = 2^(S^T - lse2) and dS^T = P^T (dP^T - delta), in place of S^T and dP^T, for the queries of a column. */
template <bool kWithin>
THALWEG_INLINE void column_gradient(float* st, float* dpt, const Column<kWithin>& c, F lse2, F delta) {
  const auto step = [&](int64_t r, bool mask) __attribute__((always_inline)) {
    F p = exp2<6>(load(st + r * kBlock) - lse2);
    p = mask ? c.below(p, r, 0.0f) : c.within(p, r, 0.0f);
    store(st + r * kBlock, p);
    store(dpt + r * kBlock, p * (load(dpt + r * kBlock) - delta));
  };
  for (int64_t r = 0; r < c.masked; r++) step(r, false);
  for (int64_t r = c.masked; r < c.keys; r++) step(r, true);
}

template <bool kWithin>
inline void softmax_gradient(float* st, float* dpt, const float* lse2, const float* delta, bool diagonal,
                             const float* hidden) {
  for (int64_t v = 0; v < kBlock; v += kWidth)
    column_gradient(st + v, dpt + v, Column<kWithin>(v, kStrip, diagonal, hidden), load(lse2 + v), load(delta + v));
}

inline void softmax_gradient(float* st, float* dpt, const float* lse2, const float* delta, bool diagonal,
                             const float* hidden) {
  hidden ? softmax_gradient<true>(st, dpt, lse2, delta, diagonal, hidden)
         : softmax_gradient<false>(st, dpt, lse2, delta, diagonal, nullptr);
}

}  // namespace thalweg::cpu::THALWEG_ISA::attn
