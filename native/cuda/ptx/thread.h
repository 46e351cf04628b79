#pragma once
#include "native/cuda/ptx/types.h"

/** What threads of a block do together: barriers, shuffles, votes. Every lane of a warp must take part. */
namespace thalweg::cuda {

constexpr int kWarp = 32;

DEVICE int lane_index() { return static_cast<int>(threadIdx.x) % kWarp; }
/** Blocks are one-dimensional. */
DEVICE int warp_index() { return static_cast<int>(threadIdx.x) / kWarp; }

DEVICE void sync_threads() {
#if defined(__CUDACC__)
  __syncthreads();
#else
  simt::sync_threads();
#endif
}

DEVICE void sync_warp() {
#if defined(__CUDACC__)
  __syncwarp();
#else
  simt::sync_warp();
#endif
}

/** Barrier Id (1 to 15; 0 is sync_threads) for `threads` threads. An immediate: in a register, ptxas reserves all 16.
 */
template <int Id, int Threads>
DEVICE void named_barrier_sync() {
#if defined(__CUDACC__)
  asm volatile("bar.sync %0, %1;" ::"n"(Id), "n"(Threads) : "memory");
#else
  simt::named_barrier_sync(Id, Threads);
#endif
}

template <int Id, int Threads>
DEVICE void named_barrier_arrive() {
#if defined(__CUDACC__)
  asm volatile("bar.arrive %0, %1;" ::"n"(Id), "n"(Threads) : "memory");
#else
  simt::named_barrier_arrive(Id, Threads);
#endif
}

DEVICE uint32_t shuffle_xor(uint32_t value, int mask, int width = kWarp) {
#if defined(__CUDACC__)
  return __shfl_xor_sync(0xFFFFFFFFu, value, mask, width);
#else
  return simt::shuffle(value, mask, simt::Shuffle::Xor, width);
#endif
}

DEVICE uint32_t shuffle_down(uint32_t value, int distance, int width = kWarp) {
#if defined(__CUDACC__)
  return __shfl_down_sync(0xFFFFFFFFu, value, distance, width);
#else
  return simt::shuffle(value, distance, simt::Shuffle::Down, width);
#endif
}

DEVICE uint32_t shuffle_up(uint32_t value, int distance, int width = kWarp) {
#if defined(__CUDACC__)
  return __shfl_up_sync(0xFFFFFFFFu, value, distance, width);
#else
  return simt::shuffle(value, distance, simt::Shuffle::Up, width);
#endif
}

/** The value of lane `source` of the segment. */
DEVICE uint32_t shuffle_from(uint32_t value, int source, int width = kWarp) {
#if defined(__CUDACC__)
  return __shfl_sync(0xFFFFFFFFu, value, source, width);
#else
  return simt::shuffle(value, source, simt::Shuffle::Index, width);
#endif
}

DEVICE float shuffle_xor(float value, int mask, int width = kWarp) {
  return float_of_bits(shuffle_xor(bits_of_float(value), mask, width));
}
DEVICE float shuffle_from(float value, int source, int width = kWarp) {
  return float_of_bits(shuffle_from(bits_of_float(value), source, width));
}

DEVICE double shuffle_xor(double value, int mask) {
  uint64_t bits;
  memcpy(&bits, &value, 8);
  const uint64_t low = shuffle_xor(static_cast<uint32_t>(bits), mask);
  const uint64_t high = shuffle_xor(static_cast<uint32_t>(bits >> 32), mask);
  bits = low | high << 32;
  memcpy(&value, &bits, 8);
  return value;
}

/** Bit i = predicate of lane i. */
DEVICE uint32_t warp_ballot(bool predicate) {
#if defined(__CUDACC__)
  return __ballot_sync(0xFFFFFFFFu, predicate);
#else
  return simt::ballot(predicate);
#endif
}

DEVICE int count_bits(uint32_t bits) {
#if defined(__CUDACC__)
  return __popc(bits);
#else
  return std::popcount(bits);
#endif
}

/** The block's dynamic shared memory, 1024-byte aligned. */
template <class T>
DEVICE T& shared_memory() {
#if defined(__CUDACC__)
  extern __shared__ __align__(1024) std::byte dynamic_shared[];
  return *reinterpret_cast<T*>(dynamic_shared);
#else
  if (sizeof(T) > simt::current->cta->shared_bytes)
    simt::fault("a kernel that uses ", sizeof(T), " bytes of shared memory was launched with ",
                simt::current->cta->shared_bytes);
  return *reinterpret_cast<T*>(simt::current->cta->shared);
#endif
}

DEVICE uint32_t shared_address(const void* pointer) {
#if defined(__CUDACC__)
  return static_cast<uint32_t>(__cvta_generic_to_shared(pointer));
#else
  return simt::shared_address(pointer);
#endif
}

}  // namespace thalweg::cuda
