#pragma once
#include "native/cuda/ptx/platform.h"

/** Tiles and tile orders of the sm_90a attention kernels, with their reasons; pure functions, tested on the host. */
namespace thalweg::cuda {

/** Head dims that have sm_90a kernels; 48 lies in panels of 64 columns of which wgmma reads 48. */
#define THALWEG_HOPPER_HEAD_DIMS(X) X(48) X(64) X(128)

HOST_DEVICE constexpr bool has_hopper_attention(int head_dim) {
  return head_dim == 48 || head_dim == 64 || head_dim == 128;
}

/** A warpgroup of a block owns 64 rows; one more warpgroup moves the data. */
struct HopperTiles {
  int warpgroups;  // that compute
  int step;        // rows of the streamed side that arrive together
  int producer_registers, consumer_registers;
  HOST_DEVICE constexpr int rows() const { return 64 * warpgroups; }
  HOST_DEVICE constexpr int threads() const { return 128 * (warpgroups + 1); }
  /** Whether all warpgroups get their registers: those of a block are what it was started with, and a claim of more
   * waits for ever. */
  HOST_DEVICE constexpr bool fits() const {
    return producer_registers + warpgroups * consumer_registers <= 65536 / threads() / 8 * 8 * (warpgroups + 1);
  }
};

/**
 * Forward: registers of a consumer are S (64) + P (32) + O (head dim / 2). Up to 64 columns they fit in 160, so three
 * warpgroups share each tile of K and V; at 128 two of 232. 128 keys a step: wgmma of N = 128 reads 96 of the 128 bytes
 * a clock that shared memory gives.
 */
HOST_DEVICE constexpr HopperTiles hopper_forward_tiles(int head_dim) {
  if (head_dim <= 64) return {3, 128, 32, 160};
  return {2, 128, 40, 232};
}

/** Backward: a block owns 128 keys, 64 a warpgroup, and streams queries past them. */
constexpr int kBackwardKeys = 128;
/**
 * Queries of a step. Registers of a consumer: S^T and dP^T (queries / 2 each) and dK and dV (head dim / 2 each) stand
 * at once, 192 of 240 in both cases; so do 192 KB of shared memory. Fewer queries would make wgmma of N = 64, which
 * reads shared memory at its limit, also where head dim leaves room for N = 128.
 */
HOST_DEVICE constexpr HopperTiles hopper_backward_tiles(int head_dim) {
  return {2, head_dim <= 64 ? 128 : 64, 24, 240};
}
static_assert(hopper_forward_tiles(64).fits() && hopper_forward_tiles(128).fits() && hopper_backward_tiles(64).fits() &&
              hopper_backward_tiles(128).fits());

/** What is attended to, as far as the order of tiles depends on it. */
struct HopperWork {
  int seq, head_dim, heads, kv_heads, batch;
  bool documents;  // each query sees its own alone

  int pairs() const { return kv_heads * batch; }
  int group() const { return heads / kv_heads; }
};

/**
 * The order in which tiles are begun, a permutation of all (tile, head, sequence). Pairs (sequence, kv head) form
 * sections of which all that tiles share stays in L2 together; in a section the longest tiles go first, and the query
 * heads of a group, which read the same keys and values, are neighbours. With documents tiles share only what is near
 * them, so that all pairs are one section. A tile's index is its place in the sequence, but for blocks of keys that
 * wait for nobody: these count from the end, where they are shortest. Balance by section: docs/kernels/attention.md.
 */
struct HopperTileOrder {
  int tiles, group, kv_heads, pairs, section;  // section: pairs in one

  struct Tile {
    int index, head, sequence;
  };

  static constexpr int64_t kSectionBytes = int64_t{32} << 20;  // of 50 (H100) or 60 (H200) MB of L2

  /** Forward: tiles of queries. Those of a pair share its keys and values. */
  static HopperTileOrder of_queries(int tiles, const HopperWork& w) {
    const int64_t bytes = static_cast<int64_t>(w.seq) * w.head_dim * 2 * 2;
    return {tiles, w.group(), w.kv_heads, w.pairs(), w.documents ? w.pairs() : pairs_that_fit(bytes, w.pairs())};
  }
  /**
   * Gradient: blocks of keys, by kv head. Those of a pair share its group's queries and dy in bf16 and sums of dQ in
   * fp32. As many pairs as run at once are in a section, whether they fit or not, and sections are equal where they can
   * be: the last one levels the end. In turns the last keys go first, so that one block ends what others wait for, and
   * the shortest do; then sections stay small.
   */
  static HopperTileOrder of_keys(const HopperWork& w, bool turns, int multiprocessors) {
    const int tiles = (w.seq + kBackwardKeys - 1) / kBackwardKeys, pairs = w.pairs();
    const int64_t bytes = static_cast<int64_t>(w.seq) * w.head_dim * w.group() * (2 + 2 + 4);
    const int fit = pairs_that_fit(bytes, pairs), running = (multiprocessors + tiles - 1) / tiles;
    int section = fit > running ? fit : running;
    for (int even = section; even <= 2 * section; even++) {
      if (pairs % even != 0) continue;
      section = even;
      break;
    }
    if (w.documents) section = turns ? kTurnPairs : pairs;
    return {tiles, 1, w.kv_heads, pairs, section < pairs ? section : pairs};
  }
  HOST_DEVICE int count() const { return tiles * group * pairs; }
  HOST_DEVICE Tile at(int i) const {
    const int whole = section * group * tiles, first = i / whole * section, rest = i % whole;
    const int width = (pairs - first < section ? pairs - first : section) * group;
    const int pair = first + rest % width / group;
    return {tiles - 1 - rest / width, pair % kv_heads * group + rest % group, pair / kv_heads};
  }

 private:
  static constexpr int kTurnPairs = 8;
  static int pairs_that_fit(int64_t bytes, int pairs) {
    const int64_t fit = kSectionBytes / bytes;
    return static_cast<int>(fit < 1 ? 1 : fit < pairs ? fit : pairs);
  }
};

}  // namespace thalweg::cuda
