#pragma once
#include "native/cuda/kernels/hopper_attention.h"
#include "native/cuda/kernels/hopper_attention_operands.cuh"
#include "native/cuda/ptx/turn.h"

/**
 * dQ of the sm_90a gradient, a sum over blocks of keys: which block owns which keys, in what order blocks begin, and
 * how the fp32 tiles that they make are added up in memory.
 *
 * In turns. Blocks begin with their diagonal, so that block j is at query tile i in its step i - j, and tile i is met
 * by block i first, then i - 1, ... 0, each a step after the one before: in the steady state nobody waits.
 *
 *   step          0      1      2      3            sum of dQ 3 in fp32, in this order:
 *   keys 3 (starts first)  dQ3                        block 3 stores, 2 adds, 1 adds, 0 adds
 *   keys 2        dQ2    dQ3
 *   keys 1        dQ1    dQ2    dQ3                 a counter per tile of queries says whose turn it is
 *   keys 0        dQ0    dQ1    dQ2    dQ3
 *
 * So bits do not depend on what runs when; the first one stores, so nothing needs zeroing but the counters. Blocks wait
 * for blocks of lower index only, which the hardware starts in that order: the last keys of a sequence, the shortest
 * work, before the others.
 *
 * In any order. Sums begin at zero (4 bytes an element written once more) and every block adds when it has something to
 * add. Nobody waits, so blocks begin in the order that balances best, the longest first; the last bits of dQ are those
 * of the order in which additions happened to arrive. dK and dV stay what they are.
 *
 * With documents (attention_documents.h) a block stops after the last query that sees one of its keys. What tile i's
 * first query sees begins in some block b: blocks i down to b meet the tile and those before do not, so turns count as
 * without documents and nobody waits for a block that does not come.
 */
namespace thalweg::cuda {

namespace {

struct InTurns {
  static constexpr bool kTurns = true;
};
struct InAnyOrder {
  static constexpr bool kTurns = false;
};

/** Where a block stands in its walk over the query heads of its group and, for each, the tiles of queries. */
struct QueryStep {
  int head, first;  // query head, position of the tile's first query
  DEVICE void advance(int queries, int begin, int end) {
    first += queries;
    if (first >= end) first = begin, head++;
  }
};

/** The keys of a block, and the queries that see one of them. */
struct KeyBlock {
  int first, end, kv, sequence, steps;  // first key, end of the queries

  /** `queries`: of a step. */
  template <class Order, class Visible>
  static DEVICE KeyBlock of(const HopperTileOrder& order, const Visible& visible, const AttentionShape& shape,
                            int queries) {
    const auto tile = order.at(static_cast<int>(blockIdx.x));
    const int first = (Order::kTurns ? tile.index : order.tiles - 1 - tile.index) * kBackwardKeys;
    const int end = visible.end(shape, tile.sequence, first + kBackwardKeys - 1);
    return {first, end, tile.head, tile.sequence, (end - first + queries - 1) / queries * shape.group()};
  }
  DEVICE QueryStep begin(const AttentionShape& shape) const { return {kv * shape.group(), first}; }
};

/** Named barriers. 1: dS^T stands in shared memory. 2, 3: a warpgroup has written its part of dQ; 4, 5: it may again.
 */
struct Meeting {
  static constexpr int kThreads = 128 + kWarp;  // a warpgroup and the warp that adds dQ

  static DEVICE void consumers() { named_barrier_sync<1, 256>(); }
  static DEVICE void written(int w) {
    if (w == 0)
      named_barrier_arrive<2, kThreads>();
    else
      named_barrier_arrive<3, kThreads>();
  }
  static DEVICE void wait_written(int w) {
    if (w == 0)
      named_barrier_sync<2, kThreads>();
    else
      named_barrier_sync<3, kThreads>();
  }
  static DEVICE void read(int w) {
    if (w == 0)
      named_barrier_arrive<4, kThreads>();
    else
      named_barrier_arrive<5, kThreads>();
  }
  static DEVICE void wait_read(int w) {
    if (w == 0)
      named_barrier_sync<4, kThreads>();
    else
      named_barrier_sync<5, kThreads>();
  }
  /** A barrier of warpgroup w alone. */
  static DEVICE void warpgroup(int w) {
    if (w == 0)
      named_barrier_sync<6, 128>();
    else
      named_barrier_sync<7, 128>();
  }
};

/** The part of one warp: adds both warpgroups' halves of each tile of dQ, of Part numbers, to the sums in memory. */
template <class Order, int Part>
DEVICE void add_query_gradients(float (&dq)[2][Part], const QueryGradients& gradients, const KeyBlock& block,
                                const AttentionShape& shape, int queries) {
  const bool chosen = lane_index() == 0;
  for (int w = 0; w < 2; w++) Meeting::read(w);
  QueryStep at = block.begin(shape);
  NO_UNROLL
  for (int step = 0; step < block.steps; step++, at.advance(queries, block.first, block.end)) {
    const int64_t tile = gradients.at(shape, block.sequence, at.head, at.first / queries);
    const int turn = (at.first - block.first) / kBackwardKeys;
    if constexpr (Order::kTurns)
      if (chosen) wait_for_turn(gradients.turns + tile, turn);
    for (int w = 0; w < 2; w++) {
      Meeting::wait_written(w);
      if (chosen) {
        float* to = gradients.sums + tile * gradients.tile_size + w * Part;
        if (Order::kTurns && turn == 0)
          bulk_store(to, dq[w], Part * sizeof(float));
        else
          bulk_store_add(to, dq[w], Part * sizeof(float));
        bulk_commit();
      }
    }
    for (int w = 0; w < 2; w++) {
      if (chosen) {
        if (w == 0)
          bulk_wait_read<1>();
        else
          bulk_wait_read<0>();
      }
      sync_warp();
      Meeting::read(w);
    }
    if constexpr (Order::kTurns) {
      if (chosen) {
        bulk_wait<0>();
        pass_turn(gradients.turns + tile, turn);
      }
      sync_warp();
    }
  }
}

}  // namespace

}  // namespace thalweg::cuda
