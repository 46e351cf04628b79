#pragma once
#include <algorithm>
#include <cstdint>

#include "native/cuda/runtime.h"

/**
 * Flat tensors are summed unit by unit, and a unit's sum does not depend on who makes it. So the kernel that adds up
 * the slices of a weight gradient makes the sums of squares of the units it writes, and gradNorm need not read those
 * again. Where units lie and whether that pays: pure functions.
 */
namespace thalweg::cuda {

constexpr int kUnitThreads = 256;
constexpr int kUnitRun = 8;  // elements a thread adds: four of every 1024, so two vectors
constexpr int64_t kUnit = kUnitThreads * kUnitRun;

constexpr int64_t unit_count(int64_t n) { return (n + kUnit - 1) / kUnit; }

/** The units that elements [begin, begin + size) of a tensor lie in, those at the edges perhaps in part. */
struct UnitRange {
  int64_t first, count;
};
constexpr UnitRange units_of(int64_t begin, int64_t size) {
  const int64_t first = begin / kUnit;
  return {first, unit_count(begin + size) - first};
}

/** Units whole inside those elements: theirs are the sums that can be made. */
constexpr int64_t whole_units(int64_t begin, int64_t size) {
  return std::max<int64_t>(0, (begin + size) / kUnit - unit_count(begin));
}

/** By so many clocks the sum of a block's last unit, its barrier and shuffles delay the end of a kernel. */
constexpr int64_t kLastSumClocks = 500;

/**
 * Whether adding up `splits` slices of a gradient of `size` elements, `begin` elements into the tensor, in units should
 * make their squares too. Both sides count once a step, in clocks at the memory's pace. What gradNorm is spared: 4
 * bytes of each element of a whole unit. What it costs: the last sum, and what a multiprocessor may get more of than
 * from the plain kernel, whose blocks take half a unit: slices to read, C to read and write.
 */
constexpr bool squares_pay(int64_t begin, int64_t size, int splits, const Target& target) {
  constexpr int64_t kPlainBlock = 4 * kUnitThreads, kMemoryBytes = 16;
  const int64_t processors = target.multiprocessors;
  const auto busiest = [&](int64_t blocks, int64_t elements) {
    return (blocks + processors - 1) / processors * elements;
  };
  const int64_t more =
      busiest(units_of(begin, size).count, kUnit) - busiest((size + kPlainBlock - 1) / kPlainBlock, kPlainBlock);
  return 4 * kUnit * whole_units(begin, size) / (kMemoryBytes * processors) >
         kLastSumClocks + 4 * (splits + 2) * more / kMemoryBytes;
}

}  // namespace thalweg::cuda
