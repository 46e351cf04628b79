#pragma once
#include <cstdint>
#include <string>

namespace thalweg::simt {

/** When an asynchronous unit does what it was asked: at once, some time, or as late as anything that waits allows. */
enum class Timing : uint8_t { Early, Random, Late };

/**
 * One way of interleaving a kernel that the hardware would be free to choose. Two runs under the same schedule do the
 * same; a correct kernel gives the same result under all.
 */
struct Schedule {
  uint64_t seed = 1;
  Timing loads = Timing::Random;   // cp.async and TMA loads
  Timing stores = Timing::Random;  // TMA stores
  bool late_products = true;       // wgmma computes when waited for, rather than when issued
  bool strict_warps = false;       // the most urgent warp that can run always runs; else a random one
  bool last_block_first = false;   // no hardware does; kernels whose blocks wait for nobody do not care

  static constexpr int kCount = 36;
  /** The kCount combinations, numbered; `seed` varies what remains random. */
  static Schedule numbered(int number, uint64_t seed) {
    Schedule s;
    s.seed = seed * 1000003 + static_cast<uint64_t>(number);
    s.loads = static_cast<Timing>(number % 3);
    s.stores = static_cast<Timing>(number / 3 % 3);
    s.late_products = number / 9 % 2 != 0;
    s.strict_warps = number / 18 % 2 != 0;
    return s;
  }
  std::string describe() const {
    static const char* const kNames[] = {"early", "random", "late"};
    return std::string("loads ") + kNames[static_cast<int>(loads)] + ", stores " + kNames[static_cast<int>(stores)] +
           ", products at " + (late_products ? "the wait" : "issue") + ", warps " +
           (strict_warps ? "by strict priority" : "in random order") + ", seed " + std::to_string(seed);
  }
};

}  // namespace thalweg::simt
