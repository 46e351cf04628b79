#pragma once
#include <algorithm>
#include <cstdint>

#include "native/cuda/ptx/platform.h"
#include "native/cuda/runtime.h"

/**
 * Every choice of the matrix products C [m, n] = A [m, k] B [k, n]: tiles, stages, how the sum is cut, the order of the
 * tiles. Pure functions of shape and target, so that plans, workspaces and tests need no device.
 */
namespace thalweg::cuda::matmul {

/** Which kernel plays a tile. A kind for the warpgroup products of sm_90a would stand here, in rows of its own. */
enum class Kind : uint8_t {
  kTensorCores,  // bf16 operands, mma.sync: every GPU from sm_80 on
  kFma,          // fp32 operands on the ordinary lanes: no rounding to tf32
};

/** One block computes m x n elements of C from k elements of the sum at a time. */
struct Tile {
  Kind kind;
  int m, n, k;
  int warps_m, warps_n;  // each warp owns m / warps_m x n / warps_n of it
  int stages;            // slices of A and B in shared memory: stages - 1 are on their way while one is used
  int resident;          // blocks that share a multiprocessor, by registers and shared memory
  float rate;            // share of a multiprocessor's products reached when all residents work
  constexpr int threads() const { return 32 * warps_m * warps_n; }
  constexpr int element_bytes() const { return kind == Kind::kFma ? 4 : 2; }
  constexpr int stage_bytes() const { return (m + n) * k * element_bytes(); }
  constexpr int shared_bytes() const { return stages * stage_bytes(); }
};

/** Depth of all tiles. One for all, so that a cut of the sum does not depend on the tile, nor do the bits. */
constexpr int kDepth = 32;

/**
 * The table. Warps of 64 x 64 read (64 + 64) * 2 bytes of shared memory for 64 * 64 products of a k: 0.06 bytes a
 * product, half of what the multiprocessor can deliver at the tensor cores' rate; 64 x 32 would need 0.09. All fit the
 * 99 KB of sm_86, 89 and 120.
 *  0  128 x 256, 8 warps, 4 x 24 KB: reads a quarter less from L2 than row 1 (85 products a byte, not 64), which a GPU
 *     with fast tensor cores needs; its 255 registers leave room for one block, whose epilogue nothing hides.
 *  1  128 x 128, 4 warps, 3 x 16 KB: two blocks a multiprocessor even with 100 KB, one stores while the other sums.
 *  2  64 x 64, 4 warps of 32 x 32, 4 x 8 KB: for few rows or columns, and the one with loads of single elements, for
 *     leading dimensions that are not a multiple of 16 bytes.
 *  3  fp32, 128 x 128, 8 warps, 3 x 32 KB: each thread 8 x 8, so that 16 FMA stand against each 16-byte load.
 */
constexpr Tile kTiles[] = {
    {Kind::kTensorCores, 128, 256, kDepth, 2, 4, 4, 1, 0.90f},
    {Kind::kTensorCores, 128, 128, kDepth, 2, 2, 3, 2, 0.85f},
    {Kind::kTensorCores, 64, 64, kDepth, 2, 2, 4, 3, 0.55f},
    {Kind::kFma, 128, 128, kDepth, 4, 2, 3, 1, 0.80f},
};
constexpr int kTileCount = sizeof kTiles / sizeof kTiles[0];
constexpr int kSmall = 2, kFp32 = 3;

struct Shape {
  int64_t m, n, k;
  bool fp32;     // operands; else bf16
  bool aligned;  // both leading dimensions are multiples of 16 bytes
};

struct Plan {
  int tile = 0;             // row of kTiles
  int splits = 1;           // parts of the sum, each into an fp32 slice, added up in order by a second kernel
  int64_t k_per_split = 0;  // multiple of kDepth; the last part may be shorter
  int group = 8;            // tiles along m that share their columns of B while these are in L2
  double time = 0;          // predicted, in products of one multiprocessor
  double efficiency = 0;    // useful products / those the multiprocessors had time for, at full rate in every wave
};

constexpr int64_t round_up(int64_t value, int64_t to) { return (value + to - 1) / to * to; }
constexpr int64_t cut(int64_t value, int64_t into) { return (value + into - 1) / into; }

/** Where a cut of the sum writes: rows padded so that slices take vectors of 16 bytes whatever n is. */
constexpr int64_t slice_columns(const Shape& s) { return round_up(s.n, 8); }
constexpr int64_t slice_bytes(const Shape& s, const Plan& p) {
  return p.splits == 1 ? 0 : 4 * p.splits * s.m * slice_columns(s);
}

/**
 * Cost of a plan. A multiprocessor with work for b blocks takes b times as long, whatever the residents; filling the
 * pipeline and the epilogue cost kIdle steps of k; slices go to L2 and back at kProductsPerByte, and the kernel that
 * adds them up starts after kLaunch.
 */
inline Plan costed(const Shape& s, const Target& target, int row, int splits) {
  constexpr double kIdle = 5, kProductsPerByte = 50, kLaunch = 4e6;
  const Tile& t = kTiles[row];
  Plan p;
  p.tile = row;
  p.k_per_split = round_up(cut(s.k, splits), kDepth);
  p.splits = static_cast<int>(cut(s.k, p.k_per_split));
  const int64_t blocks = cut(s.m, t.m) * cut(s.n, t.n) * p.splits, busiest = cut(blocks, target.multiprocessors);
  const double steps = static_cast<double>(p.k_per_split / kDepth), slots = static_cast<double>(busiest) * t.m * t.n;
  // A lone block of a tile that wants company leaves the tensor cores idle while it waits.
  const double alone = busiest < t.resident ? 0.75 : 1;
  p.time = slots * kDepth * (steps + kIdle) / (t.rate * alone);
  if (p.splits > 1)
    p.time += kLaunch + static_cast<double>(2 * slice_bytes(s, p)) * kProductsPerByte / target.multiprocessors;
  p.efficiency = static_cast<double>(s.m) * static_cast<double>(s.n) * static_cast<double>(s.k) /
                 (slots * target.multiprocessors * static_cast<double>(p.k_per_split));
  // Square groups: the blocks that run together should touch as few rows of A as columns of B, in bytes.
  const int64_t together = static_cast<int64_t>(target.multiprocessors) * t.resident;
  p.group = 4;
  while (p.group < 32 && static_cast<int64_t>(p.group) * p.group * t.m < together * t.n) p.group *= 2;
  return p;
}

/** The fastest plan by the cost above; ties go to the larger tile and the fewest parts. */
inline Plan plan(const Shape& s, const Target& target) {
  constexpr int kMaxSplits = 32;
  constexpr int64_t kLeastSteps = 8;  // a part sums at least so many tiles' depths
  const int64_t most = std::clamp<int64_t>(s.k / (kLeastSteps * kDepth), 1, kMaxSplits);
  Plan best;
  for (int row = 0; row < kTileCount; row++) {
    if ((kTiles[row].kind == Kind::kFma) != s.fp32) continue;
    if (!s.fp32 && !s.aligned && row != kSmall) continue;
    for (int splits = 1; splits <= most; splits++) {
      const Plan p = costed(s, target, row, splits);
      if (best.k_per_split == 0 || p.time < best.time) best = p;
    }
  }
  return best;
}

struct Place {
  int64_t m, n;
};

/** Tile number `index`: groups of rows of tiles, within a group down the rows first. */
HOST_DEVICE Place place_of(int64_t index, int64_t tiles_m, int64_t tiles_n, int64_t group) {
  const int64_t in_group = group * tiles_n, first = index / in_group * group, local = index % in_group;
  const int64_t rows = tiles_m - first < group ? tiles_m - first : group;
  return {first + local % rows, local / rows};
}

}  // namespace thalweg::cuda::matmul
