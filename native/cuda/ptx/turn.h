#pragma once
#include "native/cuda/ptx/thread.h"

/** Counters in global memory by which blocks take turns, or share out work. One thread of a block calls. */
namespace thalweg::cuda {

/** The counter, which then is one more: nobody gets the same number. */
DEVICE int take_ticket(int* counter) {
#if defined(__CUDACC__)
  int ticket;
  asm volatile("atom.relaxed.gpu.global.add.s32 %0, [%1], 1;" : "=r"(ticket) : "l"(counter) : "memory");
  return ticket;
#else
  return simt::take_ticket(counter);
#endif
}

/** Waits until the counter is `turn`; what the threads before wrote is then seen, by TMA too. The blocks waited for
 * must run or have run: give turns in the order of blockIdx, in which blocks start. */
DEVICE void wait_for_turn(const int* counter, int turn) {
#if defined(__CUDACC__)
  int now;
  do {
    asm volatile("ld.acquire.gpu.global.s32 %0, [%1];" : "=r"(now) : "l"(counter) : "memory");
  } while (now != turn);
  asm volatile("fence.proxy.async;" ::: "memory");
#else
  simt::wait_for_turn(counter, turn);
#endif
}

/** The turn after `turn`. Bulk stores of the turn must have been waited for with bulk_wait, not bulk_wait_read. */
DEVICE void pass_turn(int* counter, int turn) {
#if defined(__CUDACC__)
  asm volatile("fence.proxy.async;" ::: "memory");
  asm volatile("st.release.gpu.global.s32 [%0], %1;" ::"l"(counter), "r"(turn + 1) : "memory");
#else
  simt::pass_turn(counter, turn);
#endif
}

}  // namespace thalweg::cuda
