#pragma once
/**
 * The bf16 tile engine: blocks of 32 x 32 as 2 x 2 accumulator tiles, 32 k per step: 4 tile loads feed 4 products of
 * 16 cycles each, so operands must arrive at 64 bytes a cycle in all; kBlock of k keeps a strip of B (32 x 512, 32 KiB)
 * in L1 and leaves only A to L2.
 *
 *   panel of B: [k / 32][2 halves of columns][16 pairs of k][16 columns][2]   (2 KiB a step)
 *   panel of A: [k / 32][2 halves of rows][16 rows][32 k]                     (2 KiB a step)
 *
 * Activations that are row-major along k need no panel: tile loads take rows at any stride. Only a last strip of fewer
 * than 32 rows, and a k that is no multiple of 32, are packed (and padded with zeros).
 * Transposed activations (weight gradients) are packed by interleaving two rows, then transposing 16 x 16 dwords.
 */
#if THALWEG_SIMD >= 3
#include "native/cpu/kernels/amx.h"
#include "native/cpu/kernels/gemm.h"
#include "native/cpu/kernels/linear_transpose.h"

namespace thalweg::cpu::THALWEG_ISA::gemm {

/** The first `count` of 32 bf16 (fp32 sources are rounded to nearest even); the others are zero. */
inline __m512i load32(const bf16* p, int count) {
  if (count >= 32) return _mm512_loadu_si512(p);
  return _mm512_maskz_loadu_epi16(static_cast<__mmask32>((1u << count) - 1), p);
}
inline __m512i load32(const float* p, int count) {
  if (count >= 32) return (__m512i)_mm512_cvtne2ps_pbh(_mm512_loadu_ps(p + 16), _mm512_loadu_ps(p));
  const uint32_t mask = (1u << count) - 1;
  return (__m512i)_mm512_cvtne2ps_pbh(_mm512_maskz_loadu_ps(static_cast<__mmask16>(mask >> 16), p + 16),
                                      _mm512_maskz_loadu_ps(static_cast<__mmask16>(mask), p));
}

/** Two rows of 32 become 32 pairs: low = columns 0..15, high = columns 16..31. */
inline void interleave(__m512i even, __m512i odd, __m512i& low, __m512i& high) {
  const __m512i a = _mm512_unpacklo_epi16(even, odd), b = _mm512_unpackhi_epi16(even, odd);
  low = _mm512_permutex2var_epi64(a, _mm512_setr_epi64(0, 1, 8, 9, 2, 3, 10, 11), b);
  high = _mm512_permutex2var_epi64(a, _mm512_setr_epi64(4, 5, 12, 13, 6, 7, 14, 15), b);
}

/** One step (32 k x 32 columns) of a panel of B from rows along k: src[i * ld + p], i < columns, p < steps. */
template <class T>
void pack_pairs_transposed(const T* src, int64_t ld, int columns, int steps, bf16* dst) {
  for (int half = 0; half < 2; half++) {
    __m512i block[16];
    for (int i = 0; i < 16; i++) {
      const int row = half * 16 + i;
      block[i] = row < columns ? load32(src + row * ld, steps) : _mm512_setzero_si512();
    }
    transpose(block);
    for (int i = 0; i < 16; i++) _mm512_storeu_si512(dst + half * kTileElements + i * 32, block[i]);
  }
}

/** The same step from rows along the columns: src[p * ld + i]. Transposed gives a step of a panel of A from src[p * ld
 * + row]. */
template <bool Transposed, class T>
void pack_pairs(const T* src, int64_t ld, int columns, int steps, bf16* dst) {
  __m512i low[16], high[16];
  for (int pair = 0; pair < 16; pair++) {
    const int p = 2 * pair;
    // Pieces of far rows are no stream the hardware would follow; the next step reads the 32 rows after these.
    __builtin_prefetch(src + (p + kTileK) * ld);
    __builtin_prefetch(src + (p + 1 + kTileK) * ld);
    const __m512i even = p < steps ? load32(src + p * ld, columns) : _mm512_setzero_si512();
    const __m512i odd = p + 1 < steps ? load32(src + (p + 1) * ld, columns) : _mm512_setzero_si512();
    interleave(even, odd, low[pair], high[pair]);
  }
  if constexpr (Transposed) {
    transpose(low);
    transpose(high);
  }
  for (int i = 0; i < 16; i++) {
    _mm512_storeu_si512(dst + i * 32, low[i]);
    _mm512_storeu_si512(dst + kTileElements + i * 32, high[i]);
  }
}

/** One step of a panel of A from rows along k. */
inline void pack_rows(const bf16* src, int64_t ld, int rows, int steps, bf16* dst) {
  for (int i = 0; i < 32; i++)
    _mm512_storeu_si512(dst + i * 32, i < rows ? load32(src + i * ld, steps) : _mm512_setzero_si512());
}

struct AmxEngine {
  using Element = bf16;
  static constexpr int kMr = 32, kNr = 32;
  static constexpr int kStep = kTileK;
  static constexpr int64_t kPackSteps = 64;
  static constexpr int64_t kBlock = 512;
  static constexpr int kTileM = 128, kTileN = 256, kMinTileM = 32;
  static constexpr bool kPacksInTile = false;  // transposing dy again for every tile would cost more than memory does
  static constexpr int64_t kStepElements = 2 * kTileElements;

  static bool reads_in_place(const Operand& a) {
    return a.k_contiguous && a.kind == Kind::Bf16 && a.k > 0 && a.k % kStep == 0;
  }
  static constexpr bool kPacksLastStrip = true;
  static bool sums_in(DType) { return false; }
  static void enter() { ensure_tile_config(); }
  static LeftView view_in_place(const Operand& a, int64_t strip, int64_t k0) {
    return {reinterpret_cast<const char*>(static_cast<const bf16*>(a.data) + strip * kMr * a.ld + k0), a.ld * 2,
            kTileBytes};
  }
  static LeftView view_packed(const bf16* panel) {
    return {reinterpret_cast<const char*>(panel), kTileBytes, kStepElements * 2};
  }

  static void pack_left(const Operand& from, int64_t strip, int64_t k0, int64_t k, bf16* dst) {
    const auto* data = static_cast<const bf16*>(from.data);
    const int64_t row = strip * kMr;
    const int rows = static_cast<int>(std::min<int64_t>(kMr, from.extent - row));
    for (int64_t p = k0; p < k0 + k; p += kStep, dst += kStepElements) {
      const int steps = static_cast<int>(std::min<int64_t>(kStep, from.k - p));
      if (from.k_contiguous)
        pack_rows(data + row * from.ld + p, from.ld, rows, steps, dst);
      else
        pack_pairs<true>(data + p * from.ld + row, from.ld, rows, steps, dst);
    }
  }

  template <class T>
  static void pack_right_from(const Operand& from, int64_t strip, int64_t k0, int64_t k, bf16* dst) {
    const auto* data = static_cast<const T*>(from.data);
    const int64_t column = strip * kNr;
    const int columns = static_cast<int>(std::min<int64_t>(kNr, from.extent - column));
    for (int64_t p = k0; p < k0 + k; p += kStep, dst += kStepElements) {
      const int steps = static_cast<int>(std::min<int64_t>(kStep, from.k - p));
      if (from.k_contiguous)
        pack_pairs_transposed(data + column * from.ld + p, from.ld, columns, steps, dst);
      else
        pack_pairs<false>(data + p * from.ld + column, from.ld, columns, steps, dst);
    }
  }
  static void pack_right(const Operand& from, int64_t strip, int64_t k0, int64_t k, bf16* dst) {
    if (from.kind == Kind::Bf16) return pack_right_from<bf16>(from, strip, k0, k, dst);
    pack_right_from<float>(from, strip, k0, k, dst);
  }

  /** c[32, 32] (+)= A B over `steps` steps; c has row stride ld (elements). */
  static void accumulate(int64_t steps, const LeftView& a, const bf16* b, float* c, int64_t ld, bool fresh) {
    const size_t c_stride = static_cast<size_t>(ld) * 4, a_stride = static_cast<size_t>(a.row_stride);
    const char *upper = a.data, *lower = a.data + 16 * a.row_stride;
    float* c_lower = c + 16 * ld;
    if (fresh) {
      tile_zero<0>();
      tile_zero<1>();
      tile_zero<2>();
      tile_zero<3>();
    } else {
      tile_load<0>(c, c_stride);
      tile_load<1>(c + 16, c_stride);
      tile_load<2>(c_lower, c_stride);
      tile_load<3>(c_lower + 16, c_stride);
    }
    for (int64_t s = 0; s < steps; s++) {
      tile_load<6>(b, kTileBytes);
      tile_load<4>(upper, a_stride);
      tile_multiply<0, 4, 6>();
      tile_load<7>(b + kTileElements, kTileBytes);
      tile_multiply<1, 4, 7>();
      tile_load<5>(lower, a_stride);
      tile_multiply<2, 5, 6>();
      tile_multiply<3, 5, 7>();
      b += kStepElements;
      upper += a.step_stride;
      lower += a.step_stride;
    }
    tile_store<0>(c, c_stride);
    tile_store<1>(c + 16, c_stride);
    tile_store<2>(c_lower, c_stride);
    tile_store<3>(c_lower + 16, c_stride);
  }

  /** out = sums + addend, rounded once. */
  template <class T>
  static void finish(const float* sums, int64_t ld, const Destination& d) {
    for (int i = 0; i < d.rows; i++) {
      T* out = reinterpret_cast<T*>(d.out) + i * d.ld;
      const T* addend = d.addend ? reinterpret_cast<const T*>(d.addend) + i * d.ld : nullptr;
      for (int j = 0; j < d.cols; j += kWidth) {
        const F sum = load(sums + i * ld + j);
        if (d.cols - j >= kWidth)
          store(out + j, addend ? sum + load(addend + j) : sum);
        else
          store_n(out + j, addend ? sum + load_n(addend + j, d.cols - j) : sum, d.cols - j);
      }
    }
  }

  /** One block of 32 x 32 over k (a multiple of 32) of its panels. */
  static void multiply(int64_t k, const LeftView& a, const bf16* b, const Destination& d) {
    alignas(64) float block[kMr * kNr];
    float* c = d.partial ? d.partial : block;
    const int64_t ld = d.partial ? d.ld_partial : kNr;
    accumulate(k / kStep, a, b, c, ld, d.first);
    if (!d.last) return;
    if (d.dtype == DType::F32)
      finish<float>(c, ld, d);
    else
      finish<bf16>(c, ld, d);
  }
};

}  // namespace thalweg::cpu::THALWEG_ISA::gemm
#endif
