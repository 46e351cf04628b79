#pragma once
#include <cstddef>
#include <cstdint>

/** mbarrier objects (PTX ISA, "Parallel synchronization and communication instructions: mbarrier"). The 8 bytes at an
 * address aligned to 8 hold the whole state: the phase's parity, the expected and the pending arrivals (1 .. 2^20 - 1),
 * the bytes of the transactions still expected (+- 2^20 - 1). All fault when there is no initialised object at the
 * address. */
namespace thalweg::emulator {

/** mbarrier.init. That no live object is there already, ProxyState::barrier_init checks. */
void mbarrier_init(std::byte* barrier, uint32_t arrivals);
/** mbarrier.inval. */
void mbarrier_invalidate(std::byte* barrier);
/** mbarrier.arrive: `count` pending arrivals fewer; the phase ends when no arrivals and no bytes are pending. */
void mbarrier_arrive(std::byte* barrier, uint32_t count);
/** The expect-tx operation: `bytes` more to come in this phase. mbarrier.arrive.expect_tx is this, then an arrival
 * of 1. */
void mbarrier_expect(std::byte* barrier, uint32_t bytes);
/** The complete-tx operation of a copy: `bytes` have come. May come before they are expected. */
void mbarrier_complete(std::byte* barrier, uint32_t bytes);
/** mbarrier.test_wait.parity: whether the phase of that parity is over (0 is the first phase's). */
bool mbarrier_phase_over(const std::byte* barrier, uint32_t parity);

/** For messages: "parity 1, 3 of 4 arrivals and 2048 bytes pending". */
struct MbarrierState {
  bool valid;
  uint32_t parity, expected, pending;
  int32_t bytes;
};
MbarrierState mbarrier_state(const std::byte* barrier);

}  // namespace thalweg::emulator
