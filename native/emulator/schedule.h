#pragma once
#include <cstdint>
#include <string>

namespace thalweg::emulator {

/** When an asynchronous unit does what it was asked. */
enum class When : uint8_t { AtOnce, Sometime, Late };

/** Which warp goes on: a random one, the first that can (in order of block and warp), or the last. */
enum class Order : uint8_t { Random, First, Last };

/** One of the interleavings the hardware is free to choose. The same Schedule plays a launch the same way again. */
struct Schedule {
  When copies = When::Sometime;  // cp.async, bulk copies and reductions
  bool products_at_wait = true;  // wgmma computes when it is waited for, rather than at issue
  Order warps = Order::Random;
  uint32_t resident_blocks = 4;  // at most so many blocks at once, whole clusters, at least one
  uint64_t seed = 1;

  static constexpr int kCount = 18;
  /** All combinations, numbered; `seed` varies what remains random. */
  static Schedule numbered(int number, uint64_t seed) {
    Schedule s;
    s.copies = static_cast<When>(number % 3);
    s.products_at_wait = number / 3 % 2 != 0;
    s.warps = static_cast<Order>(number / 6 % 3);
    s.seed = seed * 1000003 + static_cast<uint64_t>(number);
    return s;
  }
  std::string describe() const {
    static const char* const kWhen[] = {"at once", "some time", "late"};
    static const char* const kOrder[] = {"in random order", "first first", "last first"};
    return std::string("copies ") + kWhen[static_cast<int>(copies)] + ", products at " +
           (products_at_wait ? "the wait" : "issue") + ", warps " + kOrder[static_cast<int>(warps)] + ", seed " +
           std::to_string(seed);
  }
};

}  // namespace thalweg::emulator
