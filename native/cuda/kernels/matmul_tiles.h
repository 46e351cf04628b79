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

/** Which kernel plays a tile. The warpgroup products of sm_90a have a table of their own, in hopper_matmul_tiles.h. */
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
  double rate;           // share of the multiprocessor's products that the main loop reaches, memory permitting
  constexpr int threads() const { return 32 * warps_m * warps_n; }
  constexpr int element_bytes() const { return kind == Kind::kFma ? 4 : 2; }
  constexpr int stage_bytes() const { return (m + n) * k * element_bytes(); }
  constexpr int shared_bytes() const { return stages * stage_bytes(); }
};

/** Depth of all tiles. One for all, so that a cut of the sum does not depend on the tile, nor do the bits. */
constexpr int kDepth = 32;

/**
 * The table. A warp of 64 x 64 reads (64 + 64) * 2 bytes of shared memory for 64 * 64 products of a k: 0.06 bytes a
 * product, where 128 bytes a clock and 1024 products a clock allow 0.125; 32 x 64 reads 0.09, 32 x 32 reads 0.125 and
 * waits. All fit the 99 KB of sm_86, 89 and 120. No rate has been measured yet: they are what these ratios suggest.
 *  0  128 x 256, 8 warps, 4 x 24 KB: 85 products a byte from L2, which a GPU with fast tensor cores needs; its 250
 *     registers leave room for one block a multiprocessor, whose epilogue nothing hides.
 *  1  128 x 128, 4 warps, 3 x 16 KB: 64 products a byte; two blocks even with 100 KB, one stores while the other sums.
 *  2  64 x 128, 4 warps of 32 x 64, 4 x 12 KB: 43 products a byte, for shapes of which larger tiles are too few.
 *  3  64 x 64, 4 warps of 32 x 32, 4 x 8 KB: for few rows or columns.
 *  4  fp32, 128 x 128, 8 warps, 3 x 32 KB: each thread 8 x 8, so that 16 FMA stand against each 16-byte load.
 */
constexpr Tile kTiles[] = {
    {Kind::kTensorCores, 128, 256, kDepth, 2, 4, 4, 1, 0.90}, {Kind::kTensorCores, 128, 128, kDepth, 2, 2, 3, 2, 0.90},
    {Kind::kTensorCores, 64, 128, kDepth, 2, 2, 4, 2, 0.80},  {Kind::kTensorCores, 64, 64, kDepth, 2, 2, 4, 3, 0.65},
    {Kind::kFma, 128, 128, kDepth, 4, 2, 3, 1, 0.80},
};
constexpr int kTileCount = sizeof kTiles / sizeof kTiles[0];

/** What one multiprocessor does in a clock. */
struct Speed {
  double products;  // by the kind's instructions
  double l2_bytes;  // its share of what L2 delivers
};

/** From NVIDIA's data sheets; mma.sync on sm_90 and sm_100 at the rate of sm_80, a lower bound. */
constexpr Speed speed_of(Kind kind, int capability) {
  const bool data_center = capability == 80 || capability == 90 || capability == 100 || capability == 103;
  if (kind == Kind::kFma) return {capability == 80 ? 64.0 : 128.0, 40};
  return {data_center ? 1024.0 : 512.0, 40};
}

/** What a product may do with its sums before they leave the multiprocessor, beside adding and rounding. */
enum class Fusion : uint8_t {
  kNone,
  kSwiglu,          // C [m, 2 ffn] = [gate | up], and silu(gate) * up beside it
  kSwigluGradient,  // C [m, ffn] is that gradient: read gate and up, write theirs instead
};

/** What a fusion adds to a block's work, for each element of its tile: bytes it moves and exponentials or reciprocals
 * it takes, of which a multiprocessor makes kSpecial a clock. */
struct FusedWork {
  double stored, loaded, special;
};
constexpr double kSpecial = 16;
constexpr FusedWork fused_work(Fusion f) {
  if (f == Fusion::kSwiglu) return {1, 0, 1};  // half as many results as sums, of 2 bytes and two special functions
  if (f == Fusion::kSwigluGradient) return {2, 4, 2};
  return {0, 0, 0};
}

struct Shape {
  int64_t m, n, k;
  bool fp32;  // operands; else bf16
};

struct Plan {
  int tile = 0;             // row of kTiles
  int splits = 1;           // parts of the sum, each into an fp32 slice, added up in order by a second kernel
  int64_t k_per_split = 0;  // multiple of kDepth; the last part may be shorter
  int group = 4;            // tiles along m that share their columns of B while these are in L2
  double clocks = 0;        // predicted
  double efficiency = 0;    // useful products / those the multiprocessors have room for until the last is done
};

constexpr int64_t round_up(int64_t value, int64_t to) { return (value + to - 1) / to * to; }
constexpr int64_t cut(int64_t value, int64_t into) { return (value + into - 1) / into; }

/** Where a cut sum writes: rows padded so that slices take vectors of 16 bytes whatever n is. */
constexpr int64_t slice_columns(const Shape& s) { return round_up(s.n, 8); }
constexpr int64_t slice_bytes(const Shape& s, int splits) {
  return splits == 1 ? 0 : 4 * splits * s.m * slice_columns(s);
}

/** Groups such that the blocks that run together touch about as many rows of A as columns of B. */
constexpr int group_of(const Tile& t, const Target& target) {
  const int64_t together = static_cast<int64_t>(target.multiprocessors) * t.resident;
  int group = 4;
  while (group < 32 && static_cast<int64_t>(group) * group * t.m < together * t.n) group *= 2;
  return group;
}

/**
 * The plan of a tile and a number of parts, with its cost: the multiprocessor with the most blocks is the last to
 * finish, and takes as long as all its blocks' products, or their bytes from L2; filling the pipeline and the epilogue
 * cost kIdle more steps; slices go to L2 and back, or to memory if they are many, and the kernel that adds them up has
 * to start.
 */
inline Plan costed(const Shape& s, const Target& target, int row, int splits, Fusion fusion = Fusion::kNone) {
  constexpr double kIdle = 5, kMemoryBytes = 16, kLaunch = 5000;
  constexpr int64_t kStayInL2 = int64_t{24} << 20;
  const Tile& t = kTiles[row];
  const Speed speed = speed_of(t.kind, target.capability);
  Plan p;
  p.tile = row;
  p.group = group_of(t, target);
  p.k_per_split = round_up(cut(s.k, splits), kDepth);
  p.splits = static_cast<int>(cut(s.k, p.k_per_split));
  const auto blocks = static_cast<double>(
      cut(cut(s.m, t.m) * cut(s.n, t.n) * p.splits, target.multiprocessors));  // of the busiest multiprocessor
  // A lone block of a tile that wants company leaves the tensor cores idle while it waits.
  const double alone = blocks < t.resident ? 0.75 : 1;
  const double step = std::max(t.m * t.n * t.k / (speed.products * t.rate * alone), t.stage_bytes() / speed.l2_bytes);
  const FusedWork more = fused_work(fusion);
  const double fused = t.m * t.n * ((more.stored + more.loaded) / speed.l2_bytes + more.special / kSpecial);
  p.clocks = blocks * (step * (static_cast<double>(p.k_per_split / kDepth) + kIdle) + fused);
  const int64_t slices = slice_bytes(s, p.splits);
  const double pace = slices <= kStayInL2 ? speed.l2_bytes : kMemoryBytes;
  if (p.splits > 1) p.clocks += kLaunch + static_cast<double>(2 * slices) / (pace * target.multiprocessors);
  p.efficiency = static_cast<double>(s.m) * static_cast<double>(s.n) * static_cast<double>(s.k) /
                 (blocks * t.m * t.n * target.multiprocessors * static_cast<double>(p.k_per_split));
  return p;
}

/** The fastest plan by that cost whose slices are not too large; ties go to the earlier row and the fewer parts. */
inline Plan plan(const Shape& s, const Target& target, Fusion fusion = Fusion::kNone) {
  constexpr int64_t kMostSplits = 32, kLeastSteps = 8;  // a part sums at least so many times kDepth
  constexpr int64_t kMostSliceBytes = int64_t{128} << 20;
  const bool whole = fusion != Fusion::kNone;  // slices leave nothing to fuse
  const int64_t most = whole ? 1 : std::clamp<int64_t>(s.k / (kLeastSteps * kDepth), 1, kMostSplits);
  Plan best;
  for (int row = 0; row < kTileCount; row++) {
    if ((kTiles[row].kind == Kind::kFma) != s.fp32) continue;
    for (int splits = 1; splits <= most; splits++) {
      const Plan p = costed(s, target, row, splits, fusion);
      if (splits > 1 && slice_bytes(s, p.splits) > kMostSliceBytes) break;
      if (best.k_per_split == 0 || p.clocks < best.clocks) best = p;
    }
  }
  return best;
}

template <class Int>
struct Place {
  Int m, n;
};

/** Tile number `index`: groups of rows of tiles, within a group down the rows first. */
template <class Int>
HOST_DEVICE Place<Int> place_of(Int index, Int tiles_m, Int tiles_n, Int group) {
  const Int in_group = group * tiles_n, first = index / in_group * group, local = index % in_group;
  const Int rows = tiles_m - first < group ? tiles_m - first : group;
  return {first + local % rows, local / rows};
}

}  // namespace thalweg::cuda::matmul
