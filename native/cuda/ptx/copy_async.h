#pragma once
#include "native/cuda/ptx/thread.h"

/** cp.async (sm_80): copies from global to shared memory that pass by the registers, in groups of one thread. */
namespace thalweg::cuda {

/** 16 bytes, of which the first `source_bytes` are read and the rest is zero. Both addresses are multiples of 16. */
DEVICE void copy_async_16(void* shared, const void* global, uint32_t source_bytes = 16) {
#if defined(__CUDACC__)
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(shared)), "l"(global),
               "r"(source_bytes)
               : "memory");
#else
  simt::copy_async(shared, global, 16, source_bytes);
#endif
}

DEVICE void copy_async_commit() {
#if defined(__CUDACC__)
  asm volatile("cp.async.commit_group;" ::: "memory");
#else
  simt::copy_async_commit();
#endif
}

/** Waits until at most Groups of this thread's newest groups are under way. Other threads need a barrier after it. */
template <int Groups>
DEVICE void copy_async_wait() {
#if defined(__CUDACC__)
  asm volatile("cp.async.wait_group %0;" ::"n"(Groups) : "memory");
#else
  simt::copy_async_wait(Groups);
#endif
}

}  // namespace thalweg::cuda
