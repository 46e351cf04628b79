#pragma once
#include "native/cuda/ptx/mbarrier.h"

/** Blocks of a cluster (sm_90): they run at the same time and see each other's shared memory. */
namespace thalweg::cuda {

DEVICE uint32_t cluster_rank() {
#if defined(__CUDACC__)
  uint32_t rank;
  asm volatile("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
  return rank;
#else
  return simt::cluster_rank();
#endif
}

DEVICE void cluster_arrive() {
#if defined(__CUDACC__)
  asm volatile("barrier.cluster.arrive.release.aligned;" ::: "memory");
#else
  simt::cluster_arrive();
#endif
}

DEVICE void cluster_wait() {
#if defined(__CUDACC__)
  asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory");
#else
  simt::cluster_wait();
#endif
}

DEVICE void cluster_sync() {
  cluster_arrive();
  cluster_wait();
}

/** The same place in the shared memory of block `rank` of the cluster, for plain loads and stores. */
template <class T>
DEVICE T* map_shared(T* pointer, uint32_t rank) {
#if defined(__CUDACC__)
  T* mapped;
  asm("mapa.u64 %0, %1, %2;" : "=l"(mapped) : "l"(pointer), "r"(rank));
  return mapped;
#else
  return static_cast<T*>(simt::map_shared(pointer, rank));
#endif
}

/** Arrives at the barrier that lies at the same place in block `rank`, when this thread has read what the other wants
 * to write. It shows the other nothing that was written here: a release to the cluster fences the whole GPU's memory.
 */
DEVICE void mbarrier_arrive_remote(uint64_t* barrier, uint32_t rank) {
#if defined(__CUDACC__)
  asm volatile(
      "{\n"
      ".reg .b32 remote;\n"
      "mapa.shared::cluster.u32 remote, %0, %1;\n"
      "mbarrier.arrive.shared::cluster.b64 _, [remote];\n"
      "}" ::"r"(shared_address(barrier)),
      "r"(rank)
      : "memory");
#else
  simt::mbarrier_arrive(static_cast<uint64_t*>(simt::map_shared(barrier, rank)), 1);
#endif
}

}  // namespace thalweg::cuda
