#pragma once
#include "native/cuda/ptx/thread.h"

/** mbarriers (sm_90): 8-byte objects in shared memory that count arrivals and bytes of asynchronous copies. */
namespace thalweg::cuda {

DEVICE void mbarrier_init(uint64_t* barrier, int arrivals) {
#if defined(__CUDACC__)
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(barrier)), "r"(arrivals) : "memory");
#else
  simt::mbarrier_init(barrier, static_cast<unsigned>(arrivals));
#endif
}

/** After the inits and before the block's (or cluster's) barrier: makes them visible to TMA and to other blocks. */
DEVICE void mbarrier_init_fence() {
#if defined(__CUDACC__)
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
#else
  simt::mbarrier_init_fence();
#endif
}

DEVICE void mbarrier_arrive(uint64_t* barrier) {
#if defined(__CUDACC__)
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(shared_address(barrier)) : "memory");
#else
  simt::mbarrier_arrive(barrier, 1);
#endif
}

/** One arrival, and `bytes` more that TMA must deliver before the phase ends: whole boxes, clipped parts included. */
DEVICE void mbarrier_arrive_expect(uint64_t* barrier, uint32_t bytes) {
#if defined(__CUDACC__)
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(barrier)), "r"(bytes)
               : "memory");
#else
  simt::mbarrier_expect_bytes(barrier, bytes, true);
#endif
}

/** Waits for the end of the phase of this parity: 0 for the first. On a fresh barrier parity 1 is over already. */
DEVICE void mbarrier_wait(uint64_t* barrier, uint32_t parity) {
#if defined(__CUDACC__)
  asm volatile(
      "{\n"
      ".reg .pred done;\n"
      "WAIT_%=:\n"
      "mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
      "@!done bra WAIT_%=;\n"
      "}" ::"r"(shared_address(barrier)),
      "r"(parity)
      : "memory");
#else
  simt::mbarrier_wait(barrier, parity);
#endif
}

/** Writes of this thread to shared memory become visible to wgmma and TMA: before the barrier that tells them. */
DEVICE void fence_proxy_async() {
#if defined(__CUDACC__)
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
#else
  simt::fence_proxy_async();
#endif
}

/** A store that wgmma or TMA will read after fence_proxy_async. 16 bytes. */
template <class T>
DEVICE void store_for_async(T* shared, const Vector<T, kVector<T>>& value) {
  store<kVector<T>>(shared, value);
#if !defined(__CUDACC__)
  simt::note_shared_write(shared, 16);
#endif
}

}  // namespace thalweg::cuda
