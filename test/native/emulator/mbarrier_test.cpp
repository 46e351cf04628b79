#include "native/emulator/mbarrier.h"

#include <algorithm>

#include "test/native/emulator/support.h"

using namespace check;
using namespace thalweg::emulator;

namespace {

struct Barrier {
  alignas(8) std::byte bytes[16];
  explicit Barrier(uint32_t arrivals) { mbarrier_init(bytes, arrivals); }
  operator std::byte*() { return bytes; }
};

}  // namespace

TEST("a phase ends when all have arrived, and the next counts from the start") {
  Barrier b(3);
  CHECK(!mbarrier_phase_over(b, 0));
  CHECK(mbarrier_phase_over(b, 1));  // the phase before the first counts as over
  mbarrier_arrive(b, 1);
  mbarrier_arrive(b, 1);
  CHECK(!mbarrier_phase_over(b, 0));
  mbarrier_arrive(b, 1);
  CHECK(mbarrier_phase_over(b, 0));
  CHECK(!mbarrier_phase_over(b, 1));
  mbarrier_arrive(b, 2);
  CHECK(mbarrier_state(b).pending == 1 && !mbarrier_phase_over(b, 1));
  mbarrier_arrive(b, 1);
  CHECK(mbarrier_phase_over(b, 1) && !mbarrier_phase_over(b, 0));
}

TEST("a phase waits for the bytes it expects, whichever comes first") {
  Barrier b(1);
  mbarrier_expect(b, 4096);
  mbarrier_arrive(b, 1);
  mbarrier_complete(b, 4000);
  CHECK(!mbarrier_phase_over(b, 0));
  mbarrier_complete(b, 96);
  CHECK(mbarrier_phase_over(b, 0));
  mbarrier_complete(b, 128);  // of the second phase, before it is expected
  CHECK(mbarrier_state(b).bytes == -128 && !mbarrier_phase_over(b, 1));
  mbarrier_expect(b, 128);
  CHECK(!mbarrier_phase_over(b, 1));  // nobody has arrived
  mbarrier_arrive(b, 1);
  CHECK(mbarrier_phase_over(b, 1));
}

TEST("mbarriers fault on what the manual leaves undefined") {
  alignas(8) std::byte raw[16];
  for (const int fill : {0x00, 0xff}) {
    std::memset(raw, fill, sizeof raw);
    CHECK_FAULT("no mbarrier", mbarrier_arrive(raw, 1));
    CHECK_FAULT("no mbarrier", mbarrier_phase_over(raw, 0));
    CHECK_FAULT("no mbarrier", mbarrier_complete(raw, 16));
  }
  CHECK_FAULT("0 arrivals", mbarrier_init(raw, 0));
  CHECK_FAULT("1048576 arrivals", mbarrier_init(raw, 1u << 20));
  CHECK_FAULT("not aligned", mbarrier_init(raw + 4, 1));
  mbarrier_init(raw, (1u << 20) - 1);
  CHECK_FAULT("parity 2", mbarrier_phase_over(raw, 2));

  Barrier b(2);
  mbarrier_expect(b, 16);
  CHECK_FAULT("arrive of 3", mbarrier_arrive(b, 3));
  mbarrier_arrive(b, 2);
  CHECK_FAULT("an arrival too many", mbarrier_arrive(b, 1));  // the bytes have not come
  CHECK_FAULT("more bytes came", mbarrier_complete(b, 32));
  CHECK_FAULT("the count ends at", mbarrier_expect(b, (1u << 20) - 1));
  mbarrier_invalidate(b);
  CHECK_FAULT("no mbarrier", mbarrier_arrive(b, 1));
}

TEST("random arrivals and bytes end each phase once, in any order") {
  auto random = random_of(1);
  for (int round = 0; round < 50; round++) {
    const uint32_t arrivals = 1 + static_cast<uint32_t>(random() % 20);
    Barrier b(arrivals);
    for (uint32_t phase = 0; phase < 4; phase++) {
      // Parts: an arrival each, copies, and one expectation ahead of one of the arrivals.
      std::vector<uint32_t> copies(random() % 5);
      uint32_t total = 0;
      for (uint32_t& c : copies) total += c = 16 * static_cast<uint32_t>(1 + random() % 2000);
      std::vector<int> parts(arrivals, -1);
      for (size_t i = 0; i < copies.size(); i++) parts.push_back(static_cast<int>(i));
      std::shuffle(parts.begin(), parts.end(), random);
      bool expected = false;
      for (const int part : parts) {
        CHECK(!mbarrier_phase_over(b, phase % 2), "round ", round, " phase ", phase);
        if (part >= 0) {
          mbarrier_complete(b, copies[static_cast<size_t>(part)]);
        } else {
          if (!expected) mbarrier_expect(b, total);
          expected = true;
          mbarrier_arrive(b, 1);
        }
      }
      CHECK(mbarrier_phase_over(b, phase % 2), "round ", round, " phase ", phase);
    }
  }
}

TEST_MAIN()
