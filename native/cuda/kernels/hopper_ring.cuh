#pragma once
#include "native/cuda/ptx/mbarrier.h"

/**
 * Barriers between a producer, one thread that starts TMA loads, and consumer warps.
 *
 *   producer:  wait empty -> expect bytes on full, load      consumer:  wait full -> use -> arrive at empty
 */
namespace thalweg::cuda {

/** Which slot of a ring comes next, and how often it has been used, modulo 2. */
template <int Slots>
struct RingPlace {
  int slot = 0;
  uint32_t parity = 0;  // of the use that comes next

  DEVICE void advance() {
    if (++slot == Slots) slot = 0, parity ^= 1;
  }
  /** Past slots that others use. */
  DEVICE void skip(int uses) {
    slot += uses;
    parity ^= static_cast<uint32_t>(slot / Slots & 1);
    slot %= Slots;
  }
};

template <int Slots>
struct Ring {
  uint64_t full[Slots], empty[Slots];

  /** By one thread, before mbarrier_init_fence. `releases`: arrivals that give a slot back. */
  DEVICE void init(int releases) {
    UNROLL
    for (int i = 0; i < Slots; i++) {
      mbarrier_init(&full[i], 1);
      mbarrier_init(&empty[i], releases);
    }
  }
  /** The producer's: at first all slots are free. */
  DEVICE void wait_empty(const RingPlace<Slots>& place) { mbarrier_wait(&empty[place.slot], place.parity ^ 1); }
  /** Says how much will come. Returns the barrier of the loads. */
  DEVICE uint64_t* expect(const RingPlace<Slots>& place, uint32_t bytes) {
    mbarrier_arrive_expect(&full[place.slot], bytes);
    return &full[place.slot];
  }
  DEVICE uint64_t* fill(const RingPlace<Slots>& place, uint32_t bytes) {
    wait_empty(place);
    return expect(place, bytes);
  }
  DEVICE void wait_full(const RingPlace<Slots>& place) { mbarrier_wait(&full[place.slot], place.parity); }
  /** One arrival per warp: a warp's wgmma_wait says nothing of the other warps' products. */
  DEVICE void release_by_warp(const RingPlace<Slots>& place) {
    if (lane_index() == 0) mbarrier_arrive(&empty[place.slot]);
  }
  /** By a warp that does not use it. Not before it has come: until then a release would count for the slot's use
   * before. Nor before all lanes know that: the slot may be filled again meanwhile, and the last lane wait for ever. */
  DEVICE void pass_over(const RingPlace<Slots>& place) {
    wait_full(place);
    sync_warp();
    release_by_warp(place);
  }
};

}  // namespace thalweg::cuda
