#pragma once
#include <cstddef>
#include <cstdint>
#include <map>
#include <string>

/** A GPU on the host that plays compiled PTX. Here: which bytes of the host are the device's global memory. */
namespace thalweg::emulator {

/**
 * Global addresses are host pointers; an access must lie in one allocation. Not for several threads at once.
 * Two allocations that touch are still two: what runs past the end of one is found.
 */
class GlobalMemory {
 public:
  struct Allocation {
    uint64_t start = 0;
    size_t bytes = 0;
    std::string what;  // for messages: "the device's arena", "cudaMalloc of 4096 bytes"
  };

  /** Faults when the bytes overlap an allocation that is there. */
  void add(const void* start, size_t bytes, std::string what);
  /** `start` as given to add. */
  void remove(const void* start);
  /** The allocation that holds all of [address, address + bytes); null when none does. */
  const Allocation* find(uint64_t address, size_t bytes) const;
  /** Where an address that is in no allocation lies: "400 bytes behind the end of ...". */
  std::string nearest(uint64_t address) const;
  /** Changes with every add and remove: what a caller remembers of find holds as long as this does. */
  uint64_t version() const { return version_; }

 private:
  std::map<uint64_t, Allocation> allocations_;  // by start
  uint64_t version_ = 1;
};

/** Generic addresses of shared memory: this, plus the 32-bit address in the shared window. */
constexpr uint64_t kSharedWindow = uint64_t{1} << 62;
/** Addresses of another block's shared memory in the 32-bit window: (rank + 1) << kRankShift, plus the offset. */
constexpr int kRankShift = 24;

}  // namespace thalweg::emulator
