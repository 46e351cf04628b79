#pragma once
#include "native/cpu/kernels/simd.h"
#include "native/cpu/kernels/tiles.h"

/** Sums of many fp32 terms in fp64: fixed blocks side by side, then the blocks in order. Used by sum, dot and gradNorm.
 */
namespace thalweg::cpu::THALWEG_ISA {

/** Terms per block: 256 KiB of fp32, far more than a tile costs to hand out. */
constexpr int64_t kReduceBlock = 65536;

/** Places of a whole block read side by side: the prefetchers follow several streams faster than one. */
constexpr int kStreams = 4;
constexpr int64_t kPart = kReduceBlock / kStreams;

static inline size_t reduce_workspace(int64_t n) { return lines(static_cast<size_t>(blocks_of(n, kReduceBlock)) * 8); }

/** Total over [0, n) of what accumulate(i, lanes, low, high) adds to the two fp64 halves for the vector at i. */
template <class Accumulate>
static inline double reduce_blocks(Context& ctx, int64_t n, Accumulate&& accumulate) {
  double* partial = reinterpret_cast<double*>(ctx.workspace);
  run_blocks(ctx.pool, n, kReduceBlock, [&](int64_t begin, int64_t end, int) {
    H low[kStreams], high[kStreams];
    for (int s = 0; s < kStreams; s++) low[s] = high[s] = zero_half();
    int64_t i = begin;
    if (end - begin == kReduceBlock) {
      for (; i < begin + kPart; i += kWidth)
        for (int s = 0; s < kStreams; s++) accumulate(i + s * kPart, kWidth, low[s], high[s]);
      i = end;
    }
    for (; i < end; i += kWidth) accumulate(i, static_cast<int>(i + kWidth <= end ? kWidth : end - i), low[0], high[0]);
    for (int s = 1; s < kStreams; s++) {
      low[0] = low[0] + low[s];
      high[0] = high[0] + high[s];
    }
    partial[begin / kReduceBlock] = reduce_add(low[0] + high[0]);
  });
  double total = 0;
  for (int64_t b = 0; b < blocks_of(n, kReduceBlock); b++) total += partial[b];
  return total;
}

}  // namespace thalweg::cpu::THALWEG_ISA
