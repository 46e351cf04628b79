#pragma once
#include "native/cuda/ptx/types.h"

/** Functions of the special function unit, with their error on the GPU; the host's are exact to rounding. */
namespace thalweg::cuda {

/** x * y rounded: never fused with a sum that follows. */
DEVICE float multiply_rounded(float x, float y) {
#if defined(__CUDACC__)
  return __fmul_rn(x, y);
#else
  return x * y;
#endif
}

/** 2^x, relative error 2^-22; -inf gives 0. */
DEVICE float exp2_fast(float x) {
#if defined(__CUDACC__)
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
#else
  return std::exp2(x);
#endif
}

/** log2(x), absolute error 2^-22 near 1, relative elsewhere. */
DEVICE float log2_fast(float x) {
#if defined(__CUDACC__)
  float y;
  asm("lg2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
#else
  return std::log2(x);
#endif
}

/** 1 / x, 1 ulp. */
DEVICE float reciprocal_fast(float x) {
#if defined(__CUDACC__)
  float y;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
#else
  return 1.0f / x;
#endif
}

constexpr float kLog2E = 1.4426950408889634f;
constexpr float kLn2 = 0.6931471805599453f;

}  // namespace thalweg::cuda
