#pragma once
#include "native/cuda/ptx/thread.h"

/** Sums and maxima over a warp and a block, in an order that never changes; every thread gets the result. */
namespace thalweg::cuda {

template <class T>
DEVICE T warp_sum(T value) {
  UNROLL
  for (int mask = kWarp / 2; mask > 0; mask /= 2) value += shuffle_xor(value, mask);
  return value;
}

DEVICE float warp_max(float value) {
  UNROLL
  for (int mask = kWarp / 2; mask > 0; mask /= 2) value = fmaxf(value, shuffle_xor(value, mask));
  return value;
}

/** `scratch`: one T per warp of shared memory. Begins with a barrier, so scratch may be used again at once. */
template <int Threads, class T>
DEVICE T block_sum(T value, T* scratch) {
  constexpr int kWarps = Threads / kWarp;
  value = warp_sum(value);
  if constexpr (kWarps > 1) {
    sync_threads();
    if (lane_index() == 0) scratch[warp_index()] = value;
    sync_threads();
    value = scratch[0];
    UNROLL
    for (int w = 1; w < kWarps; w++) value += scratch[w];
  }
  return value;
}

template <int Threads>
DEVICE float block_max(float value, float* scratch) {
  constexpr int kWarps = Threads / kWarp;
  value = warp_max(value);
  if constexpr (kWarps > 1) {
    sync_threads();
    if (lane_index() == 0) scratch[warp_index()] = value;
    sync_threads();
    value = scratch[0];
    UNROLL
    for (int w = 1; w < kWarps; w++) value = fmaxf(value, scratch[w]);
  }
  return value;
}

}  // namespace thalweg::cuda
