#pragma once
#include "native/cuda/kernels/matmul_tiles.h"

/**
 * Every choice of the Hopper matrix product (sm_90a, bf16): its tiles, how many blocks share loads, how the sum is cut,
 * the order of the tiles, and whether it or the mma.sync kernel is the faster. Pure functions of shape and target.
 */
namespace thalweg::cuda::matmul::hopper {

constexpr int kPanel = 64;                        // elements along a side of a panel: 128 bytes, what the swizzle spans
constexpr int kPanelBytes = kPanel * kPanel * 2;  // one TMA box, of A, B, the addend or C alike
constexpr int kGroups = 2;                        // consumer warpgroups
constexpr int kThreads = 128 * (1 + kGroups);
constexpr int kSlabs = 2;  // panels of C a warpgroup has on their way out

/** A block makes tiles of m x n elements of C, from panels of the sum 64 deep. */
struct Tile {
  int m, n;
  int stages;      // slots of the ring: so many steps of the sum are loaded ahead
  bool ping_pong;  // each consumer warpgroup makes tiles of its own, in turns; else both make one, half the rows each
  double rate;     // share of the tensor cores' products that the main loop reaches
  constexpr int panels_m() const { return m / kPanel; }
  constexpr int panels_n() const { return n / kPanel; }
  constexpr int stage_bytes() const { return (panels_m() + panels_n()) * kPanelBytes; }
  constexpr int sharers() const { return ping_pong ? 1 : kGroups; }  // warpgroups that read a slot
  constexpr int rows() const { return m / sharers(); }               // of a warpgroup
  constexpr int shared_bytes() const {
    return stages * stage_bytes() + kGroups * kSlabs * kPanelBytes + stages * 16 + kGroups * 8;
  }
  /** The addend of a tile comes through the ring too, so many columns of panels in a slot. */
  constexpr int addend_columns() const { return (panels_m() + panels_n()) / panels_m(); }
  constexpr int addend_steps() const { return (panels_n() + addend_columns() - 1) / addend_columns(); }
  /** So do gate and up for SwiGLU's gradient: a slot holds both, of one column of panels. */
  constexpr int gated_steps() const { return panels_n(); }
};

/**
 * The table. A multiprocessor makes 2048 products a clock and reads 128 bytes of shared memory: wgmma reads A (2 KB)
 * and B once for each 64 x n x 16, so n = 256 needs 80 bytes a clock, 192 needs 85, 128 needs 96, and 64 would need
 * all 128. From L2 a step needs (m + n) * 128 bytes, B's half of it shared by a cluster of two.
 *  0  cooperative 128 x 256, 4 x 48 KB: 128 sums a thread, 32 bytes a clock from L2 in a cluster. Least traffic, but
 *     nothing multiplies during its epilogue: for long sums.
 *  1  ping-pong 128 x 192, 4 x 40 KB: 192 sums a thread; one warpgroup stores while the other multiplies, for sums so
 *     short that row 0's epilogue shows. 37 bytes a clock.
 *  2  cooperative 128 x 128, 6 x 32 KB: for shapes that leave larger tiles without company. 48 bytes a clock.
 * No rate has been measured: 0.95 and 0.90 make rows 0 and 1 meet near a sum of 2048, where CUTLASS's two schedules do.
 */
constexpr Tile kTiles[] = {
    {128, 256, 4, false, 0.95},
    {128, 192, 4, true, 0.90},
    {128, 128, 6, false, 0.85},
};
constexpr int kTileCount = sizeof kTiles / sizeof kTiles[0];

struct Plan {
  int tile = 0;     // row of kTiles
  int cluster = 1;  // blocks, one above the other, that share what they load of B
  int splits = 1;   // parts of the sum, as in matmul::Plan
  int64_t k_per_split = 0;
  int group = 4;  // rows of clusters of tiles whose B stays in L2
  double clocks = 0;
  double efficiency = 0;  // predicted share of all tensor cores' products
};

/** Bytes a clock that a multiprocessor gets from L2, and those its epilogue sends there. */
constexpr double kL2Bytes = 40, kStoreBytes = 48;

/** What a tile costs after its last product: registers to shared memory or straight to L2, barriers, latency, and what
 * is fused into it. */
constexpr double epilogue_clocks(const Tile& t, bool half, Fusion fusion = Fusion::kNone) {
  constexpr double kLatency = 400;
  const FusedWork more = fused_work(fusion);
  return kLatency +
         static_cast<double>(t.m) * t.n *
             (((half ? 2 : 4) + more.stored) / kStoreBytes + more.loaded / kL2Bytes + more.special / kSpecial);
}

/**
 * One plan with its cost. The block with the most tiles is the last to finish. A step takes as long as its products or
 * its bytes from L2; a cooperative tile adds its epilogue, a ping-pong one hides it behind the other warpgroup's
 * products if these last longer. Slices are read by a second kernel, from L2 or from memory if they are many, which
 * reads and writes C.
 */
inline Plan costed(const Shape& s, const Target& target, int row, int cluster, int splits, bool half,
                   Fusion fusion = Fusion::kNone) {
  constexpr double kStart = 2500, kLaunch = 5000, kMemoryBytes = 16, kProducts = 2048;
  constexpr int64_t kStayInL2 = int64_t{24} << 20;
  const Tile& t = kTiles[row];
  Plan p;
  p.tile = row;
  p.cluster = cluster;
  p.k_per_split = round_up(cut(s.k, splits), kPanel);
  p.splits = static_cast<int>(cut(s.k, p.k_per_split));
  const int clusters = target.multiprocessors / cluster;
  const int64_t tiles = cut(cut(s.m, t.m), cluster) * cut(s.n, t.n) * p.splits;
  const auto most = static_cast<double>(cut(tiles, clusters));
  while (p.group < 16 && int64_t{p.group} * p.group * cluster * cluster * t.m < int64_t{target.multiprocessors} * t.n)
    p.group *= 2;
  const double step = std::max(t.m * t.n * kPanel / (kProducts * t.rate),
                               (t.m + static_cast<double>(t.n) / cluster) * 2 * kPanel / kL2Bytes);
  const double sum = step * static_cast<double>(p.k_per_split / kPanel);
  const double rest = epilogue_clocks(t, half && p.splits == 1, fusion);
  p.clocks = kStart + (t.ping_pong ? most * std::max(sum, (sum + rest) / 2) + rest : most * (sum + rest));
  const int64_t slices = slice_bytes(s, p.splits);
  const double pace = (slices <= kStayInL2 ? kL2Bytes : kMemoryBytes) * target.multiprocessors;
  if (p.splits > 1) p.clocks += kLaunch + static_cast<double>(slices + 8 * s.m * s.n) / pace;
  p.efficiency = static_cast<double>(s.m) * static_cast<double>(s.n) * static_cast<double>(s.k) /
                 (p.clocks * kProducts * target.multiprocessors);
  return p;
}

/** Whether a device can run these kernels at all. */
constexpr bool supported(const Target& target) {
  for (const Tile& t : kTiles)
    if (static_cast<size_t>(t.shared_bytes()) > target.shared_limit) return false;
  return target.capability == 90;
}

/** The cheapest plan; ties go to the earlier row, the smaller cluster and the fewer parts. `half`: C is bf16. What is
 * added to C has no say: plans made before its address is known must be the same. */
inline Plan plan(const Shape& s, const Target& target, bool half, Fusion fusion = Fusion::kNone) {
  constexpr int64_t kMostSplits = 32, kLeastSteps = 4;
  constexpr int64_t kMostSliceBytes = int64_t{128} << 20;
  const bool whole = fusion != Fusion::kNone;  // slices leave nothing to fuse
  const int64_t most = whole ? 1 : std::clamp<int64_t>(s.k / (kLeastSteps * kPanel), 1, kMostSplits);
  Plan best;
  for (int row = 0; row < kTileCount; row++)
    for (int cluster = 1; cluster <= std::min(2, target.multiprocessors); cluster++)
      for (int splits = 1; splits <= most; splits++) {
        if (splits > 1 && slice_bytes(s, splits) > kMostSliceBytes) break;
        const Plan p = costed(s, target, row, cluster, splits, half, fusion);
        if (best.k_per_split == 0 || p.clocks < best.clocks) best = p;
      }
  return best;
}

/** Whether `plan` should run rather than the mma.sync kernel's plan `other`. C's rows must be of whole vectors, or the
 * sum cut (slices are). */
constexpr bool preferred(const Plan& plan, const matmul::Plan& other, const Target& target, bool vectors) {
  return supported(target) && plan.clocks < other.clocks && (vectors || plan.splits > 1);
}

/** What the kernel must know of shape and plan. */
struct Problem {
  int m, n, k;
  int k_per_split, splits;
  int clusters_m, tiles_n;  // C in clusters of tiles, one above the other, by tiles
  int group, cluster;
  bool addend;  // of bf16: comes through the ring
  HOST_DEVICE int count() const { return clusters_m * tiles_n * splits; }
};

inline Problem problem_of(const Shape& s, const Plan& plan, bool addend) {
  const auto small = [](int64_t value) { return static_cast<int>(value); };
  const Tile& t = kTiles[plan.tile];
  return {small(s.m),           small(s.n),
          small(s.k),           small(plan.k_per_split),
          plan.splits,          small(cut(cut(s.m, t.m), plan.cluster)),
          small(cut(s.n, t.n)), plan.group,
          plan.cluster,         addend};
}

/** A tile of C, and the part of the sum that goes into it. */
struct Work {
  int m, n;  // first row and column
  int k, steps;
  int split;
};

/** Piece of work `index` of a cluster, for its block `rank`. Parts of the sum outermost: a wave shares its panels. */
template <Tile T>
HOST_DEVICE Work work_of(const Problem& p, int index, int rank) {
  const int tiles = p.clusters_m * p.tiles_n, split = index / tiles;
  const Place<int> at = place_of(index - split * tiles, p.clusters_m, p.tiles_n, p.group);
  const int k = split * p.k_per_split, left = p.k - k, depth = left < p.k_per_split ? left : p.k_per_split;
  return {(at.m * p.cluster + rank) * T.m, at.n * T.n, k, (depth + kPanel - 1) / kPanel, split};
}

}  // namespace thalweg::cuda::matmul::hopper
