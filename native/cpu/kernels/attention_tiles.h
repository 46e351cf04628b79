#pragma once
#include "native/cpu/kernels/amx.h"
#include "native/cpu/kernels/attention_common.h"

/**
 * The bf16 arithmetic of attention on AMX tiles: products of blocks, operand packing, and softmax on their results.
 *
 * A product C [m, n] (+)= A B takes A as bf16 rows and B as pairs of rows interleaved ("pairs": element (k, j) at
 * [k / 2][j][k % 2]). With scores held transposed, S^T [keys, queries], everything is at hand but K^T and V^T:
 *   S^T = K Q^T          A = K rows        B = Q^T pairs = Q rows transposed as 32-bit units
 *   dP^T = V dY^T        A = V rows        B = dY^T pairs
 *   O^T += V^T P^T       A = V^T rows      B = P^T pairs, written so by the softmax
 *   dV += P^T dY         A = P^T rows      B = dY pairs
 *   dK += dS^T Q         A = dS^T rows     B = Q pairs
 *   dQ^T += K^T dS^T     A = K^T rows      B = dS^T pairs
 * O and dQ come out transposed and are turned once, when they are stored. P and dS are rounded to bf16, sums are fp32.
 *
 * On the diagonal, strips of kTileStrip keys or queries (two tiles) that hold no visible score are left out.
 */
namespace thalweg::cpu::THALWEG_ISA::attn {

constexpr int64_t kTileStrip = 32;

/** A matrix in memory and the bytes between its rows (rows of pairs count as one). */
template <class T>
struct Matrix {
  T* data;
  int64_t stride;
  /** The part that starts `row` rows down and `byte` bytes to the right. */
  Matrix at(int64_t row, int64_t byte) const {
    return {reinterpret_cast<T*>(reinterpret_cast<uintptr_t>(data) + static_cast<uintptr_t>(row * stride + byte)),
            stride};
  }
};
using Operand = Matrix<const bf16>;
using Result = Matrix<float>;

/** C [32, 32] (+)= A [32, 32 k] B [32 k, 32]. */
template <bool kAdd>
THALWEG_INLINE void tile_quad(int64_t k, Operand a, Operand b, Result c) {
  const Result below = c.at(16, 0);
  const size_t ldc = static_cast<size_t>(c.stride), lda = static_cast<size_t>(a.stride),
               ldb = static_cast<size_t>(b.stride);
  if constexpr (kAdd) {
    tile_load<0>(c.data, ldc);
    tile_load<1>(c.data + 16, ldc);
    tile_load<2>(below.data, ldc);
    tile_load<3>(below.data + 16, ldc);
  } else {
    tile_zero<0>();
    tile_zero<1>();
    tile_zero<2>();
    tile_zero<3>();
  }
  for (int64_t i = 0; i < k; i++) {
    const Operand ai = a.at(0, i * 64), bi = b.at(i * 16, 0);
    tile_load<4>(ai.data, lda);
    tile_load<6>(bi.data, ldb);
    tile_multiply<0, 4, 6>();
    tile_load<7>(bi.data + 32, ldb);
    tile_multiply<1, 4, 7>();
    tile_load<5>(ai.at(16, 0).data, lda);
    tile_multiply<2, 5, 6>();
    tile_multiply<3, 5, 7>();
  }
  tile_store<0>(c.data, ldc);
  tile_store<1>(c.data + 16, ldc);
  tile_store<2>(below.data, ldc);
  tile_store<3>(below.data + 16, ldc);
}

/** C [m, n] = A [m, k] B [k, n], or += ; all three multiples of 32. */
template <bool kAdd>
inline void tile_product(int64_t m, int64_t n, int64_t k, Operand a, Operand b, Result c, Ahead& ahead) {
  for (int64_t i = 0; i < m; i += 32)
    for (int64_t j = 0; j < n; j += 32) {
      ahead.step();
      tile_quad<kAdd>(k / 32, a.at(i, 0), b.at(0, j * 4), c.at(i, j * 4));
    }
}

/** S^T [keys, queries] = K Q^T (or dP^T = V dY^T) over a pair of blocks: keys [kBlock, width], queries as pairs. */
inline void tile_scores(int64_t width, const bf16* keys, const bf16* queries, float* st, bool diagonal, Ahead& ahead) {
  const Operand a{keys, width * 2}, b{queries, kBlock * 4};
  const Result c{st, kBlock * 4};
  if (!diagonal) return tile_product<false>(kBlock, kBlock, width, a, b, c, ahead);
  for (int64_t s = 0; s < kBlock; s += kTileStrip)
    tile_product<false>(kTileStrip, kBlock - s, width, a.at(s, 0), b.at(0, s * 4), c.at(s, s * 4), ahead);
}

/** Out [keys, width] += W^T X: weights as rows [keys, queries], X [queries, width] as pairs. */
inline void tile_add_to_keys(int64_t width, const bf16* weights, const bf16* x, float* out, bool diagonal,
                             Ahead& ahead) {
  const Operand a{weights, kBlock * 2}, b{x, width * 4};
  const Result c{out, width * 4};
  if (!diagonal) return tile_product<true>(kBlock, width, kBlock, a, b, c, ahead);
  for (int64_t s = 0; s < kBlock; s += kTileStrip)
    tile_product<true>(kTileStrip, width, kBlock - s, a.at(s, s * 2), b.at(s / 2, 0), c.at(s, 0), ahead);
}

/** Out^T [width, queries] += X^T W^T: X^T as rows [width, keys], weights as pairs [keys, queries]. */
inline void tile_add_to_queries(int64_t width, const bf16* xt, const bf16* weights, float* out, bool diagonal,
                                Ahead& ahead) {
  const Operand a{xt, kBlock * 2}, b{weights, kBlock * 4};
  const Result c{out, kBlock * 4};
  if (!diagonal) return tile_product<true>(width, kBlock, kBlock, a, b, c, ahead);
  for (int64_t s = 0; s < kBlock; s += kTileStrip)
    tile_product<true>(width, kTileStrip, s + kTileStrip, a, b.at(0, s * 4), c.at(0, s * 4), ahead);
}

/** Transposes 16 x 16 units of 32 bits held in 16 registers. */
THALWEG_INLINE void transpose_registers(__m512i r[16]) {
  __m512i t[16];
#pragma GCC unroll 8
  for (int i = 0; i < 8; i++) {
    t[2 * i] = _mm512_unpacklo_epi32(r[2 * i], r[2 * i + 1]);
    t[2 * i + 1] = _mm512_unpackhi_epi32(r[2 * i], r[2 * i + 1]);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 4; i++) {
    r[4 * i] = _mm512_unpacklo_epi64(t[4 * i], t[4 * i + 2]);
    r[4 * i + 1] = _mm512_unpackhi_epi64(t[4 * i], t[4 * i + 2]);
    r[4 * i + 2] = _mm512_unpacklo_epi64(t[4 * i + 1], t[4 * i + 3]);
    r[4 * i + 3] = _mm512_unpackhi_epi64(t[4 * i + 1], t[4 * i + 3]);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 4; i++) {
    t[i] = _mm512_shuffle_i32x4(r[i], r[4 + i], 0x88);
    t[4 + i] = _mm512_shuffle_i32x4(r[i], r[4 + i], 0xdd);
    t[8 + i] = _mm512_shuffle_i32x4(r[8 + i], r[12 + i], 0x88);
    t[12 + i] = _mm512_shuffle_i32x4(r[8 + i], r[12 + i], 0xdd);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 4; i++) {
    r[i] = _mm512_shuffle_i32x4(t[i], t[8 + i], 0x88);
    r[8 + i] = _mm512_shuffle_i32x4(t[i], t[8 + i], 0xdd);
    r[4 + i] = _mm512_shuffle_i32x4(t[4 + i], t[12 + i], 0x88);
    r[12 + i] = _mm512_shuffle_i32x4(t[4 + i], t[12 + i], 0xdd);
  }
}

/** out [columns, rows] = transpose of x [rows, columns] in 32-bit units, both multiples of 16. */
inline void transpose_units(const bf16* x, int64_t rows, int64_t columns, bf16* out) {
  for (int64_t r = 0; r < rows; r += 16)
    for (int64_t c = 0; c < columns; c += 16) {
      __m512i unit[16];
#pragma GCC unroll 16
      for (int i = 0; i < 16; i++) unit[i] = _mm512_loadu_si512(x + 2 * ((r + i) * columns + c));
      transpose_registers(unit);
#pragma GCC unroll 16
      for (int i = 0; i < 16; i++) _mm512_storeu_si512(out + 2 * ((c + i) * rows + r), unit[i]);
    }
}

/** Copies rows of dim activations into [kBlock, width], the padding zero. */
inline void tile_pack_rows(const bf16* x, int64_t stride, int64_t rows, int64_t dim, int64_t width, bf16* out) {
  for (int64_t r = 0; r < rows; r++)
    for (int64_t d = 0; d < width; d += 32) {
      const int64_t n = std::clamp<int64_t>(dim - d, 0, 32);
      const auto lanes = static_cast<__mmask32>((uint64_t{1} << n) - 1);
      _mm512_storeu_si512(out + r * width + d, _mm512_maskz_loadu_epi16(lanes, x + r * stride + d));
    }
  std::fill(out + rows * width, out + kBlock * width, bf16{0});
}

/** out [kBlock / 2, width] of pairs: rows 2p and 2p + 1 of x [kBlock, width] interleaved. */
inline void interleave_rows(const bf16* x, int64_t width, bf16* out) {
  alignas(64) static constexpr auto kOrder = [] {
    struct {
      uint16_t low[32], high[32];
    } order{};
    for (int i = 0; i < 32; i++) {
      order.low[i] = static_cast<uint16_t>(i / 2 + (i % 2) * 32);
      order.high[i] = static_cast<uint16_t>(order.low[i] + 16);
    }
    return order;
  }();
  const __m512i low = _mm512_loadu_si512(kOrder.low), high = _mm512_loadu_si512(kOrder.high);
  for (int64_t p = 0; p < kBlock / 2; p++)
    for (int64_t d = 0; d < width; d += 32) {
      const __m512i even = _mm512_loadu_si512(x + 2 * p * width + d);
      const __m512i odd = _mm512_loadu_si512(x + (2 * p + 1) * width + d);
      bf16* to = out + 2 * (p * width + d);
      _mm512_storeu_si512(to, _mm512_permutex2var_epi16(even, low, odd));
      _mm512_storeu_si512(to + 32, _mm512_permutex2var_epi16(even, high, odd));
    }
}

/** Two rows of 16 fp32 to bf16, the first in the lower half. */
THALWEG_INLINE __m512i round_two(F first, F second) {
  return reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(second, first));
}
/** ... and interleaved as pairs. */
THALWEG_INLINE __m512i as_pairs(__m512i rounded) {
  const __m512i order = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6, 21,
                                         5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
  return _mm512_permutexvar_epi16(order, rounded);
}
THALWEG_INLINE void store_rows(bf16* out, __m512i rounded) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(out), _mm512_castsi512_si256(rounded));
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + kBlock), _mm512_extracti64x4_epi64(rounded, 1));
}

/** One step of the online softmax: from S^T [keys, queries] (raw products; c = scale log2 e) to P^T as pairs. */
template <bool kWithin>
inline void tile_online_softmax(const float* st, float c, float* m, float* l, float* alpha, bf16* pairs, bool diagonal,
                                const float* hidden) {
  const F factor = set1(c);
  constexpr float kLowest = -__builtin_inff();
  for (int64_t v = 0; v < kBlock; v += kWidth) {
    const Column<kWithin> column(v, kTileStrip, diagonal, hidden);
    const F before = load(m + v), least = kWithin ? max(before, set1(kNothingSeen)) : before;
    F most[4] = {least, least, least, least};
    for (int64_t r = 0; r < column.masked; r += 4)
#pragma GCC unroll 4
      for (int i = 0; i < 4; i++)
        most[i] = max(most[i], column.within(load(st + (r + i) * kBlock + v) * factor, r + i, kLowest));
    for (int64_t r = column.masked; r < column.keys; r++)
      most[0] = max(most[0], column.below(load(st + r * kBlock + v) * factor, r, kLowest));
    const F now = max(max(most[0], most[1]), max(most[2], most[3]));
    const F fade = exp2<4>(before - now);
    F sum[2] = {zero(), zero()};
    const auto step = [&](int64_t r, bool mask) {
      F p0 = exp2<4>(fma(load(st + r * kBlock + v), factor, -now));
      F p1 = exp2<4>(fma(load(st + (r + 1) * kBlock + v), factor, -now));
      p0 = mask ? column.below(p0, r, 0.0f) : column.within(p0, r, 0.0f);
      p1 = mask ? column.below(p1, r + 1, 0.0f) : column.within(p1, r + 1, 0.0f);
      sum[0] += p0;
      sum[1] += p1;
      _mm512_storeu_si512(pairs + r * kBlock + 2 * v, as_pairs(round_two(p0, p1)));
    };
    for (int64_t r = 0; r < column.masked; r += 2) step(r, false);
    for (int64_t r = column.masked; r < column.keys; r += 2) step(r, true);
    store(m + v, now);
    store(alpha + v, fade);
    store(l + v, fma(load(l + v), fade, sum[0] + sum[1]));
  }
}

inline void tile_online_softmax(const float* st, float c, float* m, float* l, float* alpha, bf16* pairs, bool diagonal,
                                const float* hidden) {
  hidden ? tile_online_softmax<true>(st, c, m, l, alpha, pairs, diagonal, hidden)
         : tile_online_softmax<false>(st, c, m, l, alpha, pairs, diagonal, nullptr);
}

/** P^T = 2^(c S^T - lse2) as rows, dS^T = P^T (dP^T - delta) as rows and as pairs. */
template <bool kWithin>
inline void tile_softmax_gradient(const float* st, const float* dpt, float c, const float* lse2, const float* delta,
                                  bf16* p_rows, bf16* ds_rows, bf16* ds_pairs, bool diagonal, const float* hidden) {
  const F factor = set1(c);
  for (int64_t v = 0; v < kBlock; v += kWidth) {
    const Column<kWithin> column(v, kTileStrip, diagonal, hidden);
    const F base = load(lse2 + v), shift = load(delta + v);
    const auto step = [&](int64_t r, bool mask) {
      const int64_t at = r * kBlock + v;
      F p0 = exp2<4>(fma(load(st + at), factor, -base));
      F p1 = exp2<4>(fma(load(st + at + kBlock), factor, -base));
      p0 = mask ? column.below(p0, r, 0.0f) : column.within(p0, r, 0.0f);
      p1 = mask ? column.below(p1, r + 1, 0.0f) : column.within(p1, r + 1, 0.0f);
      store_rows(p_rows + at, round_two(p0, p1));
      const __m512i ds = round_two(p0 * (load(dpt + at) - shift), p1 * (load(dpt + at + kBlock) - shift));
      store_rows(ds_rows + at, ds);
      _mm512_storeu_si512(ds_pairs + r * kBlock + 2 * v, as_pairs(ds));
    };
    for (int64_t r = 0; r < column.masked; r += 2) step(r, false);
    for (int64_t r = column.masked; r < column.keys; r += 2) step(r, true);
  }
}

inline void tile_softmax_gradient(const float* st, const float* dpt, float c, const float* lse2, const float* delta,
                                  bf16* p_rows, bf16* ds_rows, bf16* ds_pairs, bool diagonal, const float* hidden) {
  hidden ? tile_softmax_gradient<true>(st, dpt, c, lse2, delta, p_rows, ds_rows, ds_pairs, diagonal, hidden)
         : tile_softmax_gradient<false>(st, dpt, c, lse2, delta, p_rows, ds_rows, ds_pairs, diagonal, nullptr);
}

/** The first n lanes as bf16 (the processor's rounding: to nearest even, subnormals to zero). */
THALWEG_INLINE void store_rounded(bf16* out, F x, int n) {
  _mm256_mask_storeu_epi16(out, first_lanes(n), reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(x)));
}

/** Stores `rows` rows of x [.., width], each times `factor`, as activations. */
inline void tile_unpack_rows(const float* x, int64_t width, int64_t rows, int64_t dim, float factor, bf16* out,
                             int64_t stride) {
  for (int64_t r = 0; r < rows; r++)
    for (int64_t d = 0; d < dim; d += kWidth)
      store_rounded(out + r * stride + d, load(x + r * width + d) * factor,
                    static_cast<int>(std::min<int64_t>(kWidth, dim - d)));
}

/** Stores `rows` queries of xt [width, kBlock], turned, each times its factor, as activations. */
inline void tile_unpack_transposed(const float* xt, const float* factors, int64_t rows, int64_t dim, bf16* out,
                                   int64_t stride) {
  for (int64_t v = 0; v < rows; v += kWidth) {
    const F factor = load(factors + v);
    const int64_t queries = std::min<int64_t>(kWidth, rows - v);
    for (int64_t d = 0; d < dim; d += 16) {
      __m512i unit[16];
#pragma GCC unroll 16
      for (int i = 0; i < 16; i++) unit[i] = _mm512_castps_si512(load(xt + (d + i) * kBlock + v) * factor);
      transpose_registers(unit);
      const int n = static_cast<int>(std::min<int64_t>(kWidth, dim - d));
      for (int64_t i = 0; i < queries; i++) store_rounded(out + (v + i) * stride + d, _mm512_castsi512_ps(unit[i]), n);
    }
  }
}

}  // namespace thalweg::cpu::THALWEG_ISA::attn
