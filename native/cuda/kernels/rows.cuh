#pragma once
#include <algorithm>

#include "native/cuda/kernels.h"
#include "native/cuda/launch.h"
#include "native/cuda/ptx/thread.h"

/** What kernels over rows share: the shape of their grids, faults, whether to add. */
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
  store_global<4>(reinterpret_cast<int32_t*>(fault), words);
}

/** Whether an output is added to, given the attribute: ops::accumulates on the device, as graphs outlive a step. */
DEVICE bool adds(int64_t accumulate, const int32_t* integers) {
  return accumulate == ops::kAdd || (accumulate == ops::kAddUnlessFirst && integers[ops::kIntegerFirstMicroBatch] == 0);
}

}  // namespace thalweg::cuda
