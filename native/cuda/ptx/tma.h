#pragma once
#include "native/cuda/ptx/cluster.h"

/** The tensor memory accelerator (sm_90): one thread moves a box of a tensor between global and shared memory. */
namespace thalweg::cuda {

/** Made by native/cuda/tensor_map.h; kernels take it as `const __grid_constant__ TensorMap`. */
#if defined(__CUDACC__)
struct alignas(128) TensorMap {
  uint64_t opaque[16];
};
#else
using TensorMap = simt::TensorMap;
#endif

/** The box at column x (innermost), row y. All its bytes count towards `barrier`; outside the tensor it is zero. */
DEVICE void tma_load_2d(void* shared, const TensorMap& map, uint64_t* barrier, int x, int y) {
#if defined(__CUDACC__)
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4}], [%2];" ::"r"(
          shared_address(shared)),
      "l"(&map), "r"(shared_address(barrier)), "r"(x), "r"(y)
      : "memory");
#else
  const int32_t at[5] = {x, y, 0, 0, 0};
  simt::tma_load(shared, map, barrier, at, 0);
#endif
}

DEVICE void tma_load_4d(void* shared, const TensorMap& map, uint64_t* barrier, int x, int y, int z, int w) {
#if defined(__CUDACC__)
  asm volatile(
      "cp.async.bulk.tensor.4d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4, %5, %6}], "
      "[%2];" ::"r"(shared_address(shared)),
      "l"(&map), "r"(shared_address(barrier)), "r"(x), "r"(y), "r"(z), "r"(w)
      : "memory");
#else
  const int32_t at[5] = {x, y, z, w, 0};
  simt::tma_load(shared, map, barrier, at, 0);
#endif
}

/** The box into the same place of every block of the cluster whose bit is set; each block's barrier counts its copy. */
DEVICE void tma_load_2d_multicast(void* shared, const TensorMap& map, uint64_t* barrier, int x, int y,
                                  uint16_t blocks) {
#if defined(__CUDACC__)
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster [%0], [%1, {%3, "
      "%4}], [%2], %5;" ::"r"(shared_address(shared)),
      "l"(&map), "r"(shared_address(barrier)), "r"(x), "r"(y), "h"(blocks)
      : "memory");
#else
  const int32_t at[5] = {x, y, 0, 0, 0};
  simt::tma_load(shared, map, barrier, at, blocks);
#endif
}

/** A box out of shared memory, in this thread's open bulk group. */
DEVICE void tma_store_2d(const TensorMap& map, const void* shared, int x, int y) {
#if defined(__CUDACC__)
  asm volatile("cp.async.bulk.tensor.2d.global.shared::cta.bulk_group [%0, {%2, %3}], [%1];" ::"l"(&map),
               "r"(shared_address(shared)), "r"(x), "r"(y)
               : "memory");
#else
  const int32_t at[5] = {x, y, 0, 0, 0};
  simt::tma_store(map, shared, at, false);
#endif
}

DEVICE void tma_store_4d(const TensorMap& map, const void* shared, int x, int y, int z, int w) {
#if defined(__CUDACC__)
  asm volatile("cp.async.bulk.tensor.4d.global.shared::cta.bulk_group [%0, {%2, %3, %4, %5}], [%1];" ::"l"(&map),
               "r"(shared_address(shared)), "r"(x), "r"(y), "r"(z), "r"(w)
               : "memory");
#else
  const int32_t at[5] = {x, y, z, w, 0};
  simt::tma_store(map, shared, at, false);
#endif
}

/** The same, adding fp32 to what is there. The order of several adds to one place is not fixed. */
DEVICE void tma_store_add_2d(const TensorMap& map, const void* shared, int x, int y) {
#if defined(__CUDACC__)
  asm volatile("cp.reduce.async.bulk.tensor.2d.global.shared::cta.add.bulk_group [%0, {%2, %3}], [%1];" ::"l"(&map),
               "r"(shared_address(shared)), "r"(x), "r"(y)
               : "memory");
#else
  const int32_t at[5] = {x, y, 0, 0, 0};
  simt::tma_store(map, shared, at, true);
#endif
}

DEVICE void bulk_commit() {
#if defined(__CUDACC__)
  asm volatile("cp.async.bulk.commit_group;" ::: "memory");
#else
  simt::bulk_commit();
#endif
}

/** Waits until at most Groups of this thread's newest groups still read shared memory. */
template <int Groups>
DEVICE void bulk_wait_read() {
#if defined(__CUDACC__)
  asm volatile("cp.async.bulk.wait_group.read %0;" ::"n"(Groups) : "memory");
#else
  simt::bulk_wait_read(Groups);
#endif
}

/** Waits until at most Groups of them have not been written: what other blocks read after a release needs this. */
template <int Groups>
DEVICE void bulk_wait() {
#if defined(__CUDACC__)
  asm volatile("cp.async.bulk.wait_group %0;" ::"n"(Groups) : "memory");
#else
  simt::bulk_wait(Groups);
#endif
}

// --- dense runs of bytes, without a tensor map: 16-byte aligned, whole multiples of 16 -------------------------------

/** All bytes count towards `barrier`. */
DEVICE void bulk_load(void* shared, const void* global, uint32_t bytes, uint64_t* barrier) {
#if defined(__CUDACC__)
  asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(
                   shared_address(shared)),
               "l"(global), "r"(bytes), "r"(shared_address(barrier))
               : "memory");
#else
  simt::bulk_load(shared, global, bytes, barrier);
#endif
}

/** In this thread's open bulk group. */
DEVICE void bulk_store(void* global, const void* shared, uint32_t bytes) {
#if defined(__CUDACC__)
  asm volatile("cp.async.bulk.global.shared::cta.bulk_group [%0], [%1], %2;" ::"l"(global), "r"(shared_address(shared)),
               "r"(bytes)
               : "memory");
#else
  simt::bulk_store(global, shared, bytes, false);
#endif
}

/** The same, adding fp32 to what is there. The order of several adds to one place is not fixed. */
DEVICE void bulk_store_add(float* global, const float* shared, uint32_t bytes) {
#if defined(__CUDACC__)
  asm volatile("cp.reduce.async.bulk.global.shared::cta.bulk_group.add.f32 [%0], [%1], %2;" ::"l"(global),
               "r"(shared_address(shared)), "r"(bytes)
               : "memory");
#else
  simt::bulk_store(global, shared, bytes, true);
#endif
}

}  // namespace thalweg::cuda
