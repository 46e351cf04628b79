#include "native/emulator/mbarrier.h"

#include <cstring>

#include "native/emulator/fault.h"

namespace thalweg::emulator {

namespace {

constexpr uint32_t kMost = (1u << 20) - 1;  // arrivals, and bytes of either sign

/** From bit 0: pending 20, expected 20, bytes + 2^20 - 1: 21, parity 1, mark 2. */
constexpr uint64_t kMark = 1;  // neither zeros nor ones are an mbarrier

void store(std::byte* barrier, const MbarrierState& s) {
  const uint64_t bits = static_cast<uint64_t>(s.pending) | static_cast<uint64_t>(s.expected) << 20 |
                        static_cast<uint64_t>(static_cast<uint32_t>(s.bytes + static_cast<int32_t>(kMost))) << 40 |
                        static_cast<uint64_t>(s.parity) << 61 | kMark << 62;
  std::memcpy(barrier, &bits, sizeof bits);
}

MbarrierState live(const std::byte* barrier, const char* what) {
  if (reinterpret_cast<uintptr_t>(barrier) % 8 != 0) fault(what, ": the mbarrier's address is not aligned to 8");
  const MbarrierState s = mbarrier_state(barrier);
  if (!s.valid) fault(what, ": no mbarrier is at this address (never initialised, or its bytes were written over)");
  return s;
}

/** Ends the phase when nothing is pending, and keeps the state. */
void settle(std::byte* barrier, MbarrierState s) {
  if (s.pending == 0 && s.bytes == 0) {
    s.pending = s.expected;
    s.parity ^= 1;
  }
  store(barrier, s);
}

}  // namespace

MbarrierState mbarrier_state(const std::byte* barrier) {
  uint64_t bits;
  std::memcpy(&bits, barrier, sizeof bits);
  MbarrierState s{};
  s.pending = static_cast<uint32_t>(bits & kMost);
  s.expected = static_cast<uint32_t>(bits >> 20 & kMost);
  s.bytes = static_cast<int32_t>(bits >> 40 & 0x1fffff) - static_cast<int32_t>(kMost);
  s.parity = static_cast<uint32_t>(bits >> 61 & 1);
  s.valid = bits >> 62 == kMark && s.expected > 0 && s.pending <= s.expected && s.bytes <= static_cast<int32_t>(kMost);
  return s;
}

void mbarrier_init(std::byte* barrier, uint32_t arrivals) {
  if (reinterpret_cast<uintptr_t>(barrier) % 8 != 0) fault("mbarrier.init: the address is not aligned to 8");
  if (arrivals == 0 || arrivals > kMost) fault("mbarrier.init with ", arrivals, " arrivals, expected 1 to ", kMost);
  store(barrier, {true, 0, arrivals, arrivals, 0});
}

void mbarrier_invalidate(std::byte* barrier) {
  live(barrier, "mbarrier.inval");
  std::memset(barrier, 0xff, 8);
}

void mbarrier_arrive(std::byte* barrier, uint32_t count) {
  MbarrierState s = live(barrier, "mbarrier.arrive");
  if (count == 0 || count > kMost) fault("mbarrier.arrive with a count of ", count, ", expected 1 to ", kMost);
  if (count > s.pending)
    fault("mbarrier.arrive of ", count, " where ", s.pending, " of ", s.expected, " arrivals are pending, ", s.bytes,
          " bytes too (parity ", s.parity, "): an arrival too many, or one of the next phase before this one is over");
  s.pending -= count;
  settle(barrier, s);
}

void mbarrier_expect(std::byte* barrier, uint32_t bytes) {
  MbarrierState s = live(barrier, "mbarrier expect-tx");
  if (bytes > kMost || s.bytes + static_cast<int32_t>(bytes) > static_cast<int32_t>(kMost))
    fault("mbarrier expect-tx of ", bytes, " bytes over ", s.bytes, " pending: the count ends at ", kMost);
  s.bytes += static_cast<int32_t>(bytes);
  // An expect-tx by itself ends no phase: the arrival or the completion that follows does.
  store(barrier, s);
}

void mbarrier_complete(std::byte* barrier, uint32_t bytes) {
  MbarrierState s = live(barrier, "mbarrier complete-tx");
  if (bytes > kMost || s.bytes - static_cast<int32_t>(bytes) < -static_cast<int32_t>(kMost))
    fault("mbarrier complete-tx of ", bytes, " bytes over ", s.bytes, " pending: the count ends at -", kMost);
  if (s.pending == 0 && s.bytes < static_cast<int32_t>(bytes))
    fault("mbarrier complete-tx of ", bytes, " bytes where all have arrived and ", s.bytes,
          " bytes are pending: more bytes came than expect-tx announced, the phase can not end");
  s.bytes -= static_cast<int32_t>(bytes);
  settle(barrier, s);
}

bool mbarrier_phase_over(const std::byte* barrier, uint32_t parity) {
  const MbarrierState s = live(barrier, "mbarrier.test_wait");
  if (parity > 1) fault("mbarrier.test_wait.parity with parity ", parity, ", expected 0 or 1");
  return s.parity != parity;
}

}  // namespace thalweg::emulator
