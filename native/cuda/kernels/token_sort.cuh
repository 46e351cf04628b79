#pragma once
#include "native/cuda/kernels/rows.cuh"

/**
 * Rows of a batch sorted by token, rows of one token in row order: a stable radix sort (least significant digit first;
 * Satish, Harris & Garland 2009), 8 bits a pass, two passes up to 65535 tokens. 24 bytes a row and pass, a few
 * microseconds. A tile of rows is one block's: count_kernel counts the digits of each tile, scatter_kernel finds from
 * all counts where the tile's digits start and ranks rows within a tile by ballots, in order. No atomics.
 */
namespace thalweg::cuda {

namespace {

constexpr int kDigitBits = 8;
constexpr int kDigits = 1 << kDigitBits;
constexpr int kSortThreads = kDigits;  // thread d looks after digit d
constexpr int kSortWarps = kSortThreads / kWarp;

constexpr int kLaneRows = 8;                             // a lane holds these, loaded at once
constexpr int64_t kSortTile = kSortThreads * kLaneRows;  // rows of a block; a warp's lie together, 32 by 32

/** Where a pass reads its keys and rows: the tokens themselves at first. */
struct SortPass {
  const int32_t* tokens;  // first pass, else null
  const uint32_t *keys, *order;
  uint32_t *to_keys, *to_order;
  uint32_t* counts;   // [tiles, kDigits]
  uint32_t* present;  // [vocab], set to 1 where a token occurs
  Fault* fault;
  int64_t rows;
  uint32_t vocab;
  int shift;
};

/** The rows of one lane: key, and which row of the batch it is. */
struct LaneRows {
  uint32_t keys[kLaneRows], order[kLaneRows];
};

/** Where the lane's k-th row lies among those of the pass. */
DEVICE int64_t lane_row(int k) {
  return blockIdx.x * kSortTile + (warp_index() * kLaneRows + k) * kWarp + lane_index();
}

/** A token that does not exist sorts behind all others, as `vocab`. */
DEVICE LaneRows load_rows(const SortPass& p) {
  LaneRows out;
  UNROLL
  for (int k = 0; k < kLaneRows; k++) {
    const int64_t i = lane_row(k);
    out.keys[k] = out.order[k] = 0;
    if (i >= p.rows) continue;
    out.keys[k] = p.tokens != nullptr ? static_cast<uint32_t>(p.tokens[i]) : p.keys[i];
    out.order[k] = p.tokens != nullptr ? static_cast<uint32_t>(i) : p.order[i];
    if (out.keys[k] > p.vocab) out.keys[k] = p.vocab;
  }
  return out;
}

/** Lanes with this lane's digit; 0 for lanes that hold no row. */
DEVICE uint32_t lanes_with(uint32_t digit, bool valid) {
  uint32_t same = warp_ballot(valid);
  if (!valid) same = 0;
  UNROLL
  for (int b = 0; b < kDigitBits; b++) {
    const bool bit = (digit >> b & 1) != 0;
    const uint32_t votes = warp_ballot(bit);
    same &= bit ? votes : ~votes;
  }
  return same;
}

DEVICE uint32_t lanes_below() { return (uint32_t{1} << lane_index()) - 1; }

struct SortShared {
  uint32_t digits[kSortWarps][kDigits];
  uint32_t warp_sums[kSortWarps];
};

/** Counts the digits of the warp's rows into `counts`. */
DEVICE void count_rows(const SortPass& p, const LaneRows& rows, uint32_t* counts) {
  UNROLL
  for (int k = 0; k < kLaneRows; k++) {
    const bool valid = lane_row(k) < p.rows;
    const uint32_t digit = rows.keys[k] >> p.shift & (kDigits - 1), same = lanes_with(digit, valid);
    if (valid && (same & lanes_below()) == 0) counts[digit] += static_cast<uint32_t>(count_bits(same));
    sync_warp();
  }
}

/** Puts every row where `places` (of the warp, one a digit) says, in order. */
DEVICE void place_rows(const SortPass& p, const LaneRows& rows, uint32_t* places) {
  UNROLL
  for (int k = 0; k < kLaneRows; k++) {
    const bool valid = lane_row(k) < p.rows;
    const uint32_t digit = rows.keys[k] >> p.shift & (kDigits - 1), same = lanes_with(digit, valid);
    const uint32_t place = valid ? places[digit] + static_cast<uint32_t>(count_bits(same & lanes_below())) : 0;
    sync_warp();  // all have read before one counts on
    if (valid) {
      if ((same & lanes_below()) == 0) places[digit] += static_cast<uint32_t>(count_bits(same));
      p.to_keys[place] = rows.keys[k];
      p.to_order[place] = rows.order[k];
    }
    sync_warp();
  }
}

/** Digits of the tile, by warp, in shared memory. */
DEVICE void count_tile(const SortPass& p, const LaneRows& rows, SortShared& shared) {
  UNROLL
  for (int w = 0; w < kSortWarps; w++) shared.digits[w][threadIdx.x] = 0;
  sync_threads();
  count_rows(p, rows, shared.digits[warp_index()]);
  sync_threads();
}

__global__ void __launch_bounds__(kSortThreads) count_kernel(const SortPass p) {
  auto& shared = shared_memory<SortShared>();
  const LaneRows rows = load_rows(p);
  count_tile(p, rows, shared);
  uint32_t total = 0;
  UNROLL
  for (int w = 0; w < kSortWarps; w++) total += shared.digits[w][threadIdx.x];
  p.counts[static_cast<int64_t>(blockIdx.x) * kDigits + threadIdx.x] = total;
  if (p.tokens == nullptr) return;
  UNROLL
  for (int k = 0; k < kLaneRows; k++) {
    const int64_t i = lane_row(k);
    if (i >= p.rows) continue;
    if (rows.keys[k] < p.vocab)
      p.present[rows.keys[k]] = 1;
    else
      note_fault(p.fault, Fault::kToken, i, p.tokens[i], p.vocab);
  }
}

/** Sum of `value` over the threads before this one. */
DEVICE uint32_t sum_before(uint32_t value, uint32_t* warp_sums) {
  uint32_t sum = value;
  UNROLL
  for (int distance = 1; distance < kWarp; distance *= 2) {
    const uint32_t other = shuffle_up(sum, distance);
    if (lane_index() >= distance) sum += other;
  }
  if (lane_index() == kWarp - 1) warp_sums[warp_index()] = sum;
  sync_threads();
  uint32_t before = sum - value;
  for (int w = 0; w < warp_index(); w++) before += warp_sums[w];
  return before;
}

__global__ void __launch_bounds__(kSortThreads) scatter_kernel(const SortPass p) {
  auto& shared = shared_memory<SortShared>();
  const LaneRows rows = load_rows(p);
  count_tile(p, rows, shared);
  uint32_t total = 0, before = 0;  // rows with this thread's digit: all, and those of tiles before
  for (int64_t t = 0; t < gridDim.x; t++) {
    const uint32_t count = p.counts[t * kDigits + threadIdx.x];
    if (t < blockIdx.x) before += count;
    total += count;
  }
  uint32_t place = sum_before(total, shared.warp_sums) + before;
  UNROLL
  for (int w = 0; w < kSortWarps; w++) {
    const uint32_t count = shared.digits[w][threadIdx.x];
    shared.digits[w][threadIdx.x] = place;
    place += count;
  }
  sync_threads();
  place_rows(p, rows, shared.digits[warp_index()]);
}

/** What the sort needs of the workspace, and where its result is. */
struct TokenSort {
  uint32_t *keys[2], *order[2], *counts, *present;

  static int passes(int64_t vocab) {
    int bits = 1;
    while (vocab >> bits != 0) bits++;  // keys go up to vocab itself
    return (bits + kDigitBits - 1) / kDigitBits;
  }
  static int64_t tiles(int64_t rows) { return ceil_div(rows, kSortTile); }
  static size_t words(int64_t rows, int64_t vocab) {
    return static_cast<size_t>(4 * rows + tiles(rows) * kDigits + vocab);
  }
  static TokenSort in(uint32_t* room, int64_t rows) {
    TokenSort sort = {};
    sort.keys[0] = room;
    sort.keys[1] = room + rows;
    sort.order[0] = room + 2 * rows;
    sort.order[1] = room + 3 * rows;
    sort.counts = room + 4 * rows;
    sort.present = sort.counts + tiles(rows) * kDigits;
    return sort;
  }
};

/** Enqueues the sort of `tokens`; the sorted keys and rows are keys[result] and order[result] of `sort`. */
inline int sort_tokens(Context& ctx, const TokenSort& sort, const int32_t* tokens, int64_t rows, int64_t vocab) {
  ctx.stream.fill_bytes(sort.present, 0, static_cast<size_t>(vocab) * sizeof(uint32_t));
  const GridShape shape = {{static_cast<unsigned>(TokenSort::tiles(rows)), 1, 1}, kSortThreads, 1, sizeof(SortShared)};
  const int passes = TokenSort::passes(vocab);
  for (int pass = 0; pass < passes; pass++) {
    const int from = (pass + 1) % 2, to = pass % 2;
    const SortPass p = {pass == 0 ? tokens : nullptr,
                        sort.keys[from],
                        sort.order[from],
                        sort.keys[to],
                        sort.order[to],
                        sort.counts,
                        sort.present,
                        ctx.fault,
                        rows,
                        static_cast<uint32_t>(vocab),
                        pass * kDigitBits};
    launch(ctx.stream, count_kernel, shape, p);
    launch(ctx.stream, scatter_kernel, shape, p);
  }
  return (passes - 1) % 2;
}

}  // namespace

}  // namespace thalweg::cuda
