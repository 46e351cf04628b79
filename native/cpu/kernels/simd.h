#pragma once
#include "native/base/tensor.h"

#if THALWEG_SIMD >= 1
// g++ 12 calls the deliberately undefined operands inside its own intrinsics uninitialized (GCC bug 105593).
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wuninitialized"
#ifndef __clang__
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#include <immintrin.h>
#pragma GCC diagnostic pop
#endif

/**
 * The vectors every kernel is written in: F holds kWidth fp32 lanes (16 AVX-512, 8 AVX2, 4 portable), H half as many
 * fp64 lanes. All types are GCC vector types, so + - * / are lane-wise operators everywhere. Functions are static and
 * always inlined inside this path's namespace: code built for one path can never be merged into another. bf16 is
 * widened exactly and rounded to nearest even with integer arithmetic; NaN stays NaN, infinities and subnormals are
 * kept (vcvtneps2bf16 would flush subnormals, so paths would disagree).
 */
namespace thalweg::cpu::THALWEG_ISA {

#define THALWEG_INLINE static inline __attribute__((always_inline))

#if THALWEG_SIMD >= 2

constexpr int kWidth = 16;
using F = __m512;
using H = __m512d;
using I = int32_t __attribute__((vector_size(64)));
using M = __mmask16;

THALWEG_INLINE M first_lanes(int n) { return static_cast<M>((1u << n) - 1u); }
THALWEG_INLINE F set1(float x) { return _mm512_set1_ps(x); }
THALWEG_INLINE F load(const float* p) { return _mm512_loadu_ps(p); }
THALWEG_INLINE void store(float* p, F x) { _mm512_storeu_ps(p, x); }
/** Streams past the caches; p must be 64-byte aligned. Followed by stream_fence() before others read. */
THALWEG_INLINE void stream(float* p, F x) { _mm512_stream_ps(p, x); }
THALWEG_INLINE void stream_fence() { _mm_sfence(); }
THALWEG_INLINE F load_n(const float* p, int n) { return _mm512_maskz_loadu_ps(first_lanes(n), p); }
THALWEG_INLINE void store_n(float* p, F x, int n) { _mm512_mask_storeu_ps(p, first_lanes(n), x); }

THALWEG_INLINE F widen(__m256i h) { return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(h), 16)); }
THALWEG_INLINE __m256i narrow(F x) {
  const __m512i bits = _mm512_castps_si512(x);
  // half - 1, plus 1 where the last kept bit is odd: ties go to even.
  const M odd = _mm512_test_epi32_mask(bits, _mm512_set1_epi32(0x10000));
  __m512i rounded = _mm512_add_epi32(bits, _mm512_set1_epi32(0x7fff));
  rounded = _mm512_mask_add_epi32(rounded, odd, rounded, _mm512_set1_epi32(1));
  const M nan = _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q);
  rounded = _mm512_mask_or_epi32(rounded, nan, bits, _mm512_set1_epi32(0x400000));
  return _mm512_cvtepi32_epi16(_mm512_srli_epi32(rounded, 16));
}
THALWEG_INLINE F load(const bf16* p) { return widen(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))); }
THALWEG_INLINE void store(bf16* p, F x) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), narrow(x)); }
THALWEG_INLINE F load_n(const bf16* p, int n) { return widen(_mm256_maskz_loadu_epi16(first_lanes(n), p)); }
THALWEG_INLINE void store_n(bf16* p, F x, int n) { _mm256_mask_storeu_epi16(p, first_lanes(n), narrow(x)); }

THALWEG_INLINE F fma(F a, F b, F c) { return _mm512_fmadd_ps(a, b, c); }
/** The second operand is returned when either is NaN, so clamp(NaN) stays NaN with the bound first. */
THALWEG_INLINE F min(F a, F b) { return _mm512_min_ps(a, b); }
THALWEG_INLINE F max(F a, F b) { return _mm512_max_ps(a, b); }
THALWEG_INLINE F sqrt(F x) { return _mm512_sqrt_ps(x); }
THALWEG_INLINE F abs(F x) { return _mm512_abs_ps(x); }
THALWEG_INLINE M less(F a, F b) { return _mm512_cmp_ps_mask(a, b, _CMP_LT_OQ); }
/** Lanes of a where m, else of b. */
THALWEG_INLINE F select(M m, F a, F b) { return _mm512_mask_blend_ps(m, b, a); }
THALWEG_INLINE F round_even(F x) { return _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
/** x * 2^n for integral n, rounded once (subnormals and overflow included). */
THALWEG_INLINE F scale_by_power(F x, F n) { return _mm512_scalef_ps(x, n); }

THALWEG_INLINE H low_half(F x) { return _mm512_cvtps_pd(_mm512_castps512_ps256(x)); }
THALWEG_INLINE H high_half(F x) { return _mm512_cvtps_pd(_mm512_extractf32x8_ps(x, 1)); }
THALWEG_INLINE H zero_half() { return _mm512_setzero_pd(); }

#elif THALWEG_SIMD == 1

constexpr int kWidth = 8;
using F = __m256;
using H = __m256d;
using I = int32_t __attribute__((vector_size(32)));
using M = __m256;  // all bits of a chosen lane set

THALWEG_INLINE M first_lanes(int n) {
  const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  return _mm256_castsi256_ps(_mm256_cmpgt_epi32(_mm256_set1_epi32(n), lane));
}
THALWEG_INLINE F set1(float x) { return _mm256_set1_ps(x); }
THALWEG_INLINE F load(const float* p) { return _mm256_loadu_ps(p); }
THALWEG_INLINE void store(float* p, F x) { _mm256_storeu_ps(p, x); }
THALWEG_INLINE void stream(float* p, F x) { _mm256_stream_ps(p, x); }
THALWEG_INLINE void stream_fence() { _mm_sfence(); }
THALWEG_INLINE F load_n(const float* p, int n) { return _mm256_maskload_ps(p, _mm256_castps_si256(first_lanes(n))); }
THALWEG_INLINE void store_n(float* p, F x, int n) { _mm256_maskstore_ps(p, _mm256_castps_si256(first_lanes(n)), x); }

THALWEG_INLINE F widen(__m128i h) { return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(h), 16)); }
THALWEG_INLINE __m128i narrow(F x) {
  const __m256i bits = _mm256_castps_si256(x);
  const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
  const __m256i rounded = _mm256_add_epi32(_mm256_add_epi32(bits, _mm256_set1_epi32(0x7fff)), odd);
  const __m256i quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x400000));
  const __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(x, x, _CMP_UNORD_Q));
  const __m256i top = _mm256_srli_epi32(_mm256_blendv_epi8(rounded, quiet, nan), 16);
  return _mm_packus_epi32(_mm256_castsi256_si128(top), _mm256_extracti128_si256(top, 1));
}
THALWEG_INLINE F load(const bf16* p) { return widen(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))); }
THALWEG_INLINE void store(bf16* p, F x) { _mm_storeu_si128(reinterpret_cast<__m128i*>(p), narrow(x)); }
THALWEG_INLINE F load_n(const bf16* p, int n) {
  __m128i h = _mm_setzero_si128();
  __builtin_memcpy(&h, p, static_cast<size_t>(n) * 2);
  return widen(h);
}
THALWEG_INLINE void store_n(bf16* p, F x, int n) {
  const __m128i h = narrow(x);
  __builtin_memcpy(p, &h, static_cast<size_t>(n) * 2);
}

THALWEG_INLINE F fma(F a, F b, F c) { return _mm256_fmadd_ps(a, b, c); }
THALWEG_INLINE F min(F a, F b) { return _mm256_min_ps(a, b); }
THALWEG_INLINE F max(F a, F b) { return _mm256_max_ps(a, b); }
THALWEG_INLINE F sqrt(F x) { return _mm256_sqrt_ps(x); }
THALWEG_INLINE F abs(F x) { return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), x); }
THALWEG_INLINE M less(F a, F b) { return _mm256_cmp_ps(a, b, _CMP_LT_OQ); }
THALWEG_INLINE F select(M m, F a, F b) { return _mm256_blendv_ps(b, a, m); }
THALWEG_INLINE F round_even(F x) { return _mm256_round_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }

THALWEG_INLINE H low_half(F x) { return _mm256_cvtps_pd(_mm256_castps256_ps128(x)); }
THALWEG_INLINE H high_half(F x) { return _mm256_cvtps_pd(_mm256_extractf128_ps(x, 1)); }
THALWEG_INLINE H zero_half() { return _mm256_setzero_pd(); }

#else

constexpr int kWidth = 4;
using F = float __attribute__((vector_size(16)));
using H = double __attribute__((vector_size(16)));
using I = int32_t __attribute__((vector_size(16)));
using U = uint32_t __attribute__((vector_size(16)));
using M = I;

THALWEG_INLINE M first_lanes(int n) { return I{0, 1, 2, 3} < n; }
THALWEG_INLINE F set1(float x) { return F{x, x, x, x}; }
THALWEG_INLINE F load(const float* p) {
  F x;
  __builtin_memcpy(&x, p, sizeof x);
  return x;
}
THALWEG_INLINE void store(float* p, F x) { __builtin_memcpy(p, &x, sizeof x); }
THALWEG_INLINE void stream(float* p, F x) { store(p, x); }
THALWEG_INLINE void stream_fence() {}
THALWEG_INLINE F load_n(const float* p, int n) {
  F x = {};
  __builtin_memcpy(&x, p, static_cast<size_t>(n) * 4);
  return x;
}
THALWEG_INLINE void store_n(float* p, F x, int n) { __builtin_memcpy(p, &x, static_cast<size_t>(n) * 4); }

using U16 = uint16_t __attribute__((vector_size(8)));
THALWEG_INLINE F widen(U16 h) { return reinterpret_cast<F>(__builtin_convertvector(h, U) << 16); }
THALWEG_INLINE U16 narrow(F x) {
  const U bits = reinterpret_cast<U>(x);
  const U rounded = bits + 0x7fffu + ((bits >> 16) & 1u);
  const U chosen = x == x ? rounded : bits | 0x400000u;
  return __builtin_convertvector(chosen >> 16, U16);
}
THALWEG_INLINE F load(const bf16* p) {
  U16 h;
  __builtin_memcpy(&h, p, sizeof h);
  return widen(h);
}
THALWEG_INLINE void store(bf16* p, F x) {
  const U16 h = narrow(x);
  __builtin_memcpy(p, &h, sizeof h);
}
THALWEG_INLINE F load_n(const bf16* p, int n) {
  U16 h = {};
  __builtin_memcpy(&h, p, static_cast<size_t>(n) * 2);
  return widen(h);
}
THALWEG_INLINE void store_n(bf16* p, F x, int n) {
  const U16 h = narrow(x);
  __builtin_memcpy(p, &h, static_cast<size_t>(n) * 2);
}

THALWEG_INLINE F fma(F a, F b, F c) { return a * b + c; }
THALWEG_INLINE F min(F a, F b) { return a < b ? a : b; }
THALWEG_INLINE F max(F a, F b) { return a > b ? a : b; }
THALWEG_INLINE F sqrt(F x) {
  return F{__builtin_sqrtf(x[0]), __builtin_sqrtf(x[1]), __builtin_sqrtf(x[2]), __builtin_sqrtf(x[3])};
}
THALWEG_INLINE F abs(F x) { return reinterpret_cast<F>(reinterpret_cast<U>(x) & 0x7fffffffu); }
THALWEG_INLINE M less(F a, F b) { return a < b; }
THALWEG_INLINE F select(M m, F a, F b) { return m ? a : b; }
/** For |x| < 2^22: adding 1.5 * 2^23 leaves no fraction bits. Kept in a variable the optimiser may not reassociate (no
 * -ffast-math). */
THALWEG_INLINE F round_even(F x) {
  const F magic = set1(12582912.0f);
  return (x + magic) - magic;
}

THALWEG_INLINE H low_half(F x) { return H{x[0], x[1]}; }
THALWEG_INLINE H high_half(F x) { return H{x[2], x[3]}; }
THALWEG_INLINE H zero_half() { return H{0, 0}; }

#endif

THALWEG_INLINE F zero() { return set1(0.0f); }

#if THALWEG_SIMD < 2
/** x * 2^n in two factors, so that neither factor leaves the normal range for -252 <= n <= 254. */
THALWEG_INLINE F scale_by_power(F x, F n) {
  const I whole = __builtin_convertvector(n, I);
  const I half = whole >> 1;
  const F first = reinterpret_cast<F>((half + 127) << 23);
  const F second = reinterpret_cast<F>((whole - half + 127) << 23);
  return (x * first) * second;
}
#endif

#if THALWEG_SIMD >= 1
THALWEG_INLINE float add_quarters(__m128 x) {
  const __m128 pairs = _mm_add_ps(x, _mm_movehl_ps(x, x));
  return _mm_cvtss_f32(_mm_add_ss(pairs, _mm_movehdup_ps(pairs)));
}
THALWEG_INLINE float max_quarters(__m128 x) {
  const __m128 pairs = _mm_max_ps(x, _mm_movehl_ps(x, x));
  return _mm_cvtss_f32(_mm_max_ss(pairs, _mm_movehdup_ps(pairs)));
}
#endif

/** Sum of the lanes, in a fixed order (pairs at half distance). */
THALWEG_INLINE float reduce_add(F x) {
#if THALWEG_SIMD >= 2
  const __m256 half = _mm256_add_ps(_mm512_castps512_ps256(x), _mm512_extractf32x8_ps(x, 1));
  return add_quarters(_mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1)));
#elif THALWEG_SIMD == 1
  return add_quarters(_mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1)));
#else
  return (x[0] + x[2]) + (x[1] + x[3]);
#endif
}

/** Largest lane; a NaN lane may be dropped. */
THALWEG_INLINE float reduce_max(F x) {
#if THALWEG_SIMD >= 2
  const __m256 half = _mm256_max_ps(_mm512_castps512_ps256(x), _mm512_extractf32x8_ps(x, 1));
  return max_quarters(_mm_max_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1)));
#elif THALWEG_SIMD == 1
  return max_quarters(_mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1)));
#else
  const float even = x[0] > x[2] ? x[0] : x[2], odd = x[1] > x[3] ? x[1] : x[3];
  return even > odd ? even : odd;
#endif
}
THALWEG_INLINE double reduce_add(H x) {
  double total = x[0];
  for (int i = 1; i < kWidth / 2; i++) total += x[i];
  return total;
}

/**
 * e^x for -104 <= x <= 89 or NaN: x = n ln 2 + r with n integral (adding 1.5 * 2^23 rounds it), ln 2 in two parts as in
 * Cephes (Moshier), then 1 + r + r^2 P(r), P of degree 4 interpolated at Chebyshev nodes (relative error 1.1e-8). Bound
 * by the arithmetic ports with AVX-512: handling several vectors step by step was measured and gains nothing.
 */
THALWEG_INLINE F exp_bounded(F x) {
  const F magic = set1(12582912.0f);
  const F n = fma(x, set1(1.44269504088896341f), magic) - magic;
  F r = fma(n, set1(-0.693359375f), x);
  r = fma(n, set1(2.12194440e-4f), r);
  F p = fma(set1(0x1.6d113cp-10f), r, set1(0x1.120ba2p-7f));
  p = fma(p, r, set1(0x1.55551ap-5f));
  p = fma(p, r, set1(0x1.5554dcp-3f));
  p = fma(p, r, set1(0.5f));
  p = fma(p, r, set1(1.0f));
  p = fma(p, r, set1(1.0f));
  return scale_by_power(p, n);
}

/**
 * e^x, at most 2 ulp from the true value over the whole range (subnormal results included); -inf gives 0, +inf and
 * everything above 88.73 gives inf, NaN stays NaN.
 */
THALWEG_INLINE F exp(F x) { return exp_bounded(min(set1(89.0f), max(set1(-104.0f), x))); }

/** e^x for x <= 0 (or NaN), as in a softmax: one bound less. */
THALWEG_INLINE F exp_nonpositive(F x) { return exp_bounded(max(set1(-104.0f), x)); }

/** 1 / x within 2 ulp for 1e-38 <= x <= 1e38. */
THALWEG_INLINE F reciprocal(F x) {
#if THALWEG_SIMD >= 2
  const F guess = _mm512_rcp14_ps(x);  // 14 bits, then one Newton step: a third of a division's cost
  return guess * fma(-x, guess, set1(2.0f));
#else
  return set1(1.0f) / x;
#endif
}

/** 1 / (1 + e^-x) within 4 ulp; below -87 it stays at e^-87 = 1.6e-38, NaN stays NaN. */
THALWEG_INLINE F sigmoid(F x) { return reciprocal(set1(1.0f) + exp_bounded(-min(set1(104.0f), max(set1(-87.0f), x)))); }

/** 1 / sqrt(x), two correctly rounded steps. */
THALWEG_INLINE F rsqrt(F x) { return set1(1.0f) / sqrt(x); }

/** Scalars of either activation type. */
THALWEG_INLINE float widen_one(float x) { return x; }
THALWEG_INLINE float widen_one(bf16 x) { return __builtin_bit_cast(float, static_cast<uint32_t>(x) << 16); }

/** body(i, n) over [0, count) in steps of kWidth; n == kWidth except perhaps last. load_part and store_part take the
 * same n. */
template <class T>
THALWEG_INLINE F load_part(const T* p, int n) {
  return n == kWidth ? load(p) : load_n(p, n);
}
template <class T>
THALWEG_INLINE void store_part(T* p, F x, int n) {
  if (n == kWidth) {
    store(p, x);
  } else {
    store_n(p, x, n);
  }
}

/** body(i, n) for i = 0, kWidth, ... < count with n = kWidth, except a shorter last one. Write body always_inline: n is
 * then a constant in the main loop. */
template <class Body>
THALWEG_INLINE void for_lanes(int64_t count, Body&& body) {
  int64_t i = 0;
  for (; i + kWidth <= count; i += kWidth) body(i, kWidth);
  if (i < count) body(i, static_cast<int>(count - i));
}

}  // namespace thalweg::cpu::THALWEG_ISA
