#pragma once
#include "native/cuda/kernels/rows.cuh"

/** Gradients of weights shared by all rows: partial sums over fixed runs of rows, added in a fixed order. */
namespace thalweg::cuda {

/**
 * Rows whose contributions to a weight gradient make one partial sum: a function of the shape alone, so that bits do
 * not depend on the device. At most 512 partials (about four blocks a multiprocessor), of 32 rows at least, so that
 * partials cost a few percent of the bytes of the rows.
 */
inline int64_t rows_of_partial(int64_t rows) { return std::max<int64_t>(32, ceil_div(rows, 512)); }
inline int64_t partials_of(int64_t rows) { return ceil_div(rows, rows_of_partial(rows)); }

namespace {

constexpr int kPartialThreads = 512;

/**
 * out[i] (+)= sum over p of partial[p][i], i < width, rows of partials `stride` apart. A lane owns a column; each warp
 * adds a sixteenth of the partials in order, then the warps' sums are added in order.
 */
__global__ void __launch_bounds__(kPartialThreads)
    sum_partials_kernel(const float* partial, int64_t count, int64_t width, int64_t stride, int64_t accumulate,
                        const int32_t* integers, float* out) {
  constexpr int kWarps = kPartialThreads / kWarp;
  struct Shared {
    float sums[kWarps][kWarp];
  };
  auto& shared = shared_memory<Shared>();
  const int64_t column = static_cast<int64_t>(blockIdx.x) * kWarp + lane_index();
  const int64_t share = (count + kWarps - 1) / kWarps, begin = warp_index() * share;
  const int64_t end = begin + share < count ? begin + share : count;
  float total = 0.0f;
  if (column < width) {
    int64_t p = begin;
    for (; p + 8 <= end; p += 8) {  // eight loads under way
      float held[8];
      UNROLL
      for (int k = 0; k < 8; k++) held[k] = partial[(p + k) * stride + column];
      UNROLL
      for (int k = 0; k < 8; k++) total += held[k];
    }
    for (; p < end; p++) total += partial[p * stride + column];
  }
  shared.sums[warp_index()][lane_index()] = total;
  sync_threads();
  if (warp_index() != 0 || column >= width) return;
  UNROLL
  for (int w = 1; w < kWarps; w++) total += shared.sums[w][lane_index()];
  out[column] = adds(accumulate, integers) ? out[column] + total : total;
}

inline void sum_partials(Context& ctx, const float* partial, int64_t count, int64_t width, int64_t stride,
                         int64_t accumulate, float* out) {
  const GridShape shape = {
      {static_cast<unsigned>(ceil_div(width, kWarp)), 1, 1}, kPartialThreads, 1, sizeof(float) * kPartialThreads};
  launch(ctx.stream, sum_partials_kernel, shape, partial, count, width, stride, accumulate, ctx.integers, out);
}

}  // namespace

}  // namespace thalweg::cuda
