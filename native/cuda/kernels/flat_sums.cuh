#pragma once
#include "native/cuda/kernels/gradient_units.h"
#include "native/cuda/ptx/math.h"
#include "native/cuda/reduce.h"

/**
 * The sum of a unit of a flat tensor (gradient_units.h), of its values or of products with another tensor's, in fp64
 * and one order.
 *
 * Consumer GPUs do two fp64 operations a clock and multiprocessor, too few for one an element: their memory delivers up
 * to 1.8 elements in that time and converting costs as much as adding. So each thread adds its run of kUnitRun elements
 * in pairs of fp32 (Dekker 1971, Knuth's two-sum: p + e = a b exactly by an fma, s + e = s + p exactly), whose error is
 * about 2^-45 of the run's absolute sum, and only runs are added in fp64: 0.6 fp64 operations an element.
 * Where fp32 products would overflow or lose digits to underflow, the run is done again in fp64 (rare: a branch).
 *
 * Thread t owns elements 4 t to 4 t + 3 of every 1024, also where they are not read in vectors.
 */
namespace thalweg::cuda {

enum class Terms { Values, Products };

constexpr int kRunVectors = kUnitRun / 4;
using Run = Vector<float, 4>[kRunVectors];

/** Where in its unit vector k of this thread's run begins. */
DEVICE int64_t run_place(int k) { return 4 * (static_cast<int64_t>(threadIdx.x) + k * kUnitThreads); }

/** The sum of a run in fp64, whatever the magnitudes. */
template <Terms kTerms>
DEVICE double run_wide(const Run& a, const Run& b) {
  double total = 0.0;
  UNROLL
  for (int k = 0; k < kUnitRun; k++) {
    const double x = a[k / 4][k % 4];
    total += kTerms == Terms::Values ? x : x * b[k / 4][k % 4];
  }
  return total;
}

/** The same in pairs of fp32 where they hold it. */
template <Terms kTerms>
DEVICE double run_sum(const Run& a, const Run& b) {
  float high = 0.0f, low = 0.0f, size = 0.0f;
  bool any = false;  // a product that is not 0
  UNROLL
  for (int k = 0; k < kUnitRun; k++) {
    const float x = a[k / 4][k % 4], y = b[k / 4][k % 4];
    float term = x;
    if constexpr (kTerms == Terms::Products) {
      term = multiply_rounded(x, y);
      low += fmaf(x, y, -term);
      any = any || (x != 0.0f && y != 0.0f);
    }
    const float sum = high + term, back = sum - high;
    low += (high - (sum - back)) + (term - back);
    high = sum;
    size += fabsf(term);
  }
  const bool holds = size < 1e38f && (kTerms == Terms::Values || size > 1e-30f || !any);
  return holds ? static_cast<double>(high) + static_cast<double>(low) : run_wide<kTerms>(a, b);
}

/** What the kUnitThreads threads of a block found, added up by one warp after a barrier; every lane gets it. */
DEVICE double add_threads(const double (&sums)[kUnitThreads]) {
  double total = sums[lane_index()];
  UNROLL
  for (int i = kWarp; i < kUnitThreads; i += kWarp) total += sums[i + lane_index()];
  return warp_sum(total);
}

}  // namespace thalweg::cuda
