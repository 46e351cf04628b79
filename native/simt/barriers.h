#pragma once
#include <cstdint>

/** Barriers as the hardware has them: named barriers of a block, mbarriers in shared memory, the cluster's barrier. */
namespace thalweg::simt {

/** bar.sync id, threads: waits until `threads` threads have come. Id 0 with all threads is __syncthreads. */
void named_barrier_sync(int id, unsigned threads);
/** bar.arrive: counts this thread without waiting. */
void named_barrier_arrive(int id, unsigned threads);
void sync_threads();
void sync_warp();

/**
 * An mbarrier: 64 bits in shared memory, with our own encoding. A phase ends when no arrivals and no bytes are pending;
 * waiting names the parity of the phase to end (the first phase has parity 0).
 */
void mbarrier_init(uint64_t* barrier, unsigned arrivals);
/** fence.mbarrier_init: from now on TMA and other blocks may use the barriers this thread initialised. */
void mbarrier_init_fence();
/** barrier may belong to another block of the cluster. */
void mbarrier_arrive(uint64_t* barrier, unsigned count);
void mbarrier_expect_bytes(uint64_t* barrier, uint32_t bytes, bool arrive);
/** An asynchronous unit delivered bytes. */
void mbarrier_complete_bytes(uint64_t* barrier, uint32_t bytes);
void mbarrier_wait(uint64_t* barrier, unsigned parity);
bool mbarrier_test(uint64_t* barrier, unsigned parity);

void cluster_arrive();
void cluster_wait();
unsigned cluster_rank();
unsigned cluster_size();
/** The same place in the shared memory of another block of the cluster. */
void* map_shared(const void* pointer, unsigned rank);

/** Counters in global memory: blocks take tickets of one, or turns by one. */
int take_ticket(int* counter);
void wait_for_turn(const int* counter, int turn);
void pass_turn(int* counter, int turn);

/** setmaxnreg: moves registers between the warpgroups of a block; asking for more waits until they are free. */
void set_max_registers(unsigned registers, bool increase);

}  // namespace thalweg::simt
