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

constexpr int64_t kMemoryBytes = 16;  // a clock and multiprocessor

/**
 * Squares of a gradient of `size` elements, `begin` elements into the tensor, in clocks at the memory's pace, once a
 * step both. Spared: gradNorm reads no whole unit of it. Cost, where `splits` slices are added up in units: the end of
 * the kernel waits for the sum of a block's last unit, its barrier and shuffles; and the busiest multiprocessor may get
 * more of slices to read and C to read and write than from the plain kernel, whose blocks take half a unit.
 */
constexpr int64_t squares_spared(int64_t begin, int64_t size, const Target& target) {
  return 4 * kUnit * whole_units(begin, size) / (kMemoryBytes * target.multiprocessors);
}
constexpr int64_t squares_cost(int64_t begin, int64_t size, int splits, const Target& target) {
  constexpr int64_t kPlainBlock = 4 * kUnitThreads, kLastSum = 500;
  const auto busiest = [&](int64_t blocks, int64_t elements) {
    return (blocks + target.multiprocessors - 1) / target.multiprocessors * elements;
  };
  const int64_t more =
      busiest(units_of(begin, size).count, kUnit) - busiest((size + kPlainBlock - 1) / kPlainBlock, kPlainBlock);
  return kLastSum + 4 * (splits + 2) * more / kMemoryBytes;
}
/** Whether to make them. */
constexpr bool squares_pay(int64_t begin, int64_t size, int splits, const Target& target) {
  return squares_spared(begin, size, target) > squares_cost(begin, size, splits, target);
}

}  // namespace thalweg::cuda
