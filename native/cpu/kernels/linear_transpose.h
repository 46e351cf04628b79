#pragma once
/** The kWidth x kWidth transposition of dwords every packing rests on, and rounding to what bf16 can hold. */
#include "native/cpu/kernels/simd.h"

namespace thalweg::cpu::THALWEG_ISA::gemm {

/** Round to nearest even, kept as fp32. */
THALWEG_INLINE F rounded(F x) { return widen(narrow(x)); }

#if THALWEG_SIMD >= 2
/** 16 x 16 dwords in place: 64 shuffles, two rounds inside 128-bit lanes and two across them. */
THALWEG_INLINE void transpose(__m512i (&r)[16]) {
  __m512i t[16];
  for (int i = 0; i < 8; i++) {
    t[2 * i] = _mm512_unpacklo_epi32(r[2 * i], r[2 * i + 1]);
    t[2 * i + 1] = _mm512_unpackhi_epi32(r[2 * i], r[2 * i + 1]);
  }
  for (int i = 0; i < 4; i++) {
    r[4 * i] = _mm512_unpacklo_epi64(t[4 * i], t[4 * i + 2]);
    r[4 * i + 1] = _mm512_unpackhi_epi64(t[4 * i], t[4 * i + 2]);
    r[4 * i + 2] = _mm512_unpacklo_epi64(t[4 * i + 1], t[4 * i + 3]);
    r[4 * i + 3] = _mm512_unpackhi_epi64(t[4 * i + 1], t[4 * i + 3]);
  }
  for (int i = 0; i < 4; i++) {
    t[i] = _mm512_shuffle_i32x4(r[i], r[i + 4], 0x88);
    t[i + 4] = _mm512_shuffle_i32x4(r[i], r[i + 4], 0xdd);
    t[i + 8] = _mm512_shuffle_i32x4(r[i + 8], r[i + 12], 0x88);
    t[i + 12] = _mm512_shuffle_i32x4(r[i + 8], r[i + 12], 0xdd);
  }
  for (int i = 0; i < 4; i++) {
    r[i] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0x88);
    r[i + 8] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0xdd);
    r[i + 4] = _mm512_shuffle_i32x4(t[i + 4], t[i + 12], 0x88);
    r[i + 12] = _mm512_shuffle_i32x4(t[i + 4], t[i + 12], 0xdd);
  }
}
THALWEG_INLINE void transpose(F (&v)[16]) {
  __m512i r[16];
  for (int i = 0; i < 16; i++) r[i] = (__m512i)v[i];
  transpose(r);
  for (int i = 0; i < 16; i++) v[i] = (F)r[i];
}
#elif THALWEG_SIMD == 1
THALWEG_INLINE void transpose(F (&v)[8]) {
  F t[8];
  for (int i = 0; i < 4; i++) {
    t[2 * i] = (F)_mm256_unpacklo_ps((__m256)v[2 * i], (__m256)v[2 * i + 1]);
    t[2 * i + 1] = (F)_mm256_unpackhi_ps((__m256)v[2 * i], (__m256)v[2 * i + 1]);
  }
  for (int i = 0; i < 2; i++)
    for (int h = 0; h < 2; h++) {
      const __m256d a = (__m256d)t[4 * i + h], b = (__m256d)t[4 * i + 2 + h];
      v[4 * i + 2 * h] = (F)_mm256_unpacklo_pd(a, b);
      v[4 * i + 2 * h + 1] = (F)_mm256_unpackhi_pd(a, b);
    }
  for (int i = 0; i < 4; i++) {
    const __m256 low = (__m256)v[i], high = (__m256)v[i + 4];
    t[i] = (F)_mm256_permute2f128_ps(low, high, 0x20);
    t[i + 4] = (F)_mm256_permute2f128_ps(low, high, 0x31);
  }
  for (int i = 0; i < 8; i++) v[i] = t[i];
}
#else
THALWEG_INLINE void transpose(F (&v)[4]) {
  const F a = __builtin_shufflevector(v[0], v[1], 0, 4, 1, 5), b = __builtin_shufflevector(v[0], v[1], 2, 6, 3, 7);
  const F c = __builtin_shufflevector(v[2], v[3], 0, 4, 1, 5), d = __builtin_shufflevector(v[2], v[3], 2, 6, 3, 7);
  v[0] = __builtin_shufflevector(a, c, 0, 1, 4, 5);
  v[1] = __builtin_shufflevector(a, c, 2, 3, 6, 7);
  v[2] = __builtin_shufflevector(b, d, 0, 1, 4, 5);
  v[3] = __builtin_shufflevector(b, d, 2, 3, 6, 7);
}
#endif

}  // namespace thalweg::cpu::THALWEG_ISA::gemm
