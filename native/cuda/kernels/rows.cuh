#pragma once
#include <algorithm>

#include "native/cuda/kernels.h"
#include "native/cuda/launch.h"
#include "native/cuda/ptx/thread.h"

/** What kernels over rows share: the shape of their grids, faults, and sums over rows in a fixed order. */
namespace thalweg::cuda {

/**
 * Threads side by side along a row, each the owner of one column (a vector) in all rows its block takes: what belongs
 * to a column (a head, a weight) is found once. Rows too wide for a block are cut along the grid's second axis.
 */
inline GridShape columns_shape(int64_t row_blocks, int64_t columns, int64_t most = 256) {
  const int64_t cuts = std::max<int64_t>(1, ceil_div(columns, most));
  const int64_t threads = ceil_div(ceil_div(columns, cuts), kWarp) * kWarp;
  return {{static_cast<unsigned>(columns == 0 ? 0 : row_blocks), static_cast<unsigned>(cuts), 1},
          static_cast<unsigned>(threads)};
}

DEVICE int64_t owned_column() { return static_cast<int64_t>(blockIdx.y) * blockDim.x + threadIdx.x; }

/** One store, so that faults noted at the same time do not mix. */
DEVICE void note_fault(Fault* fault, Fault::Kind kind, int64_t row, int64_t value, int64_t limit) {
  Vector<int32_t, 4> words;
  words[0] = kind;
  words[1] = static_cast<int32_t>(row);
  words[2] = static_cast<int32_t>(value);
  words[3] = static_cast<int32_t>(limit);
  store<4>(reinterpret_cast<int32_t*>(fault), words);
}

/** Whether an output is added to, given the attribute: ops::accumulates on the device, as graphs outlive a step. */
DEVICE bool adds(int64_t accumulate, const int32_t* integers) {
  return accumulate == ops::kAdd || (accumulate == ops::kAddUnlessFirst && integers[ops::kIntegerFirstMicroBatch] == 0);
}

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
