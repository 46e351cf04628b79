#include "native/cuda/kernels/hopper_attention.h"
#include "native/cuda/kernels/hopper_attention_operands.cuh"
#include "native/cuda/kernels/hopper_ring.cuh"
#include "native/cuda/ptx/math.h"
#include "native/cuda/ptx/turn.h"

/**
 * attentionBackward on sm_90a (contract, formulas and floor: attention_backward.cu; pictures:
 * docs/kernels/attention.md).
 *
 * One kernel, five products. A block owns 128 keys of a kv head, 64 a warpgroup, and streams the queries that see them
 * past, for every query head of the group: dK and dV stay in its registers. With rows of keys,
 *
 *   S^T = K Q^T    dP^T = V dy^T    P^T = 2^(c S^T - lse2)    dS^T = P^T * (dP^T - delta)
 *   dV += P^T dy   dK += dS^T Q     both with the A operand in the registers where P^T and dS^T were made
 *   dQ  = dS K     needs all 128 keys: dS^T goes to shared memory, and each warpgroup makes half of the tile
 *
 * dQ sums over blocks, in turns. Blocks begin with their diagonal, so that block j is at query tile i in its step i -
 * j, and tile i is met by block i first, then i - 1, ... 0, each a step after the one before: in the steady state
 * nobody waits.
 *
 *   step          0      1      2      3            sum of dQ 3 in fp32, in this order:
 *   keys 3 (starts first)  dQ3                        block 3 stores, 2 adds, 1 adds, 0 adds
 *   keys 2        dQ2    dQ3
 *   keys 1        dQ1    dQ2    dQ3                 a counter per tile of queries says whose turn it is
 *   keys 0        dQ0    dQ1    dQ2    dQ3
 *
 * So bits do not depend on what runs when; the first one stores, so nothing needs zeroing but the counters. Blocks wait
 * for blocks of lower index only, which the hardware starts in that order.
 *
 * With documents (attention_documents.h) a block stops after the last query that sees one of its keys. What tile i's
 * first query sees begins in some block b: blocks i down to b meet the tile and those before do not, so turns count as
 * without documents and nobody waits for a block that does not come.
 */
namespace thalweg::cuda {

namespace {

constexpr int kSlots = 2;

template <int D>
struct BackwardShared {
  static constexpr HopperTiles kTiles = hopper_backward_tiles(D);
  static constexpr int kQueries = kTiles.step;
  HeadTile<kBackwardKeys, D> keys, values;  // later dK, dV
  HeadTile<kQueries, D> queries[kSlots], grads[kSlots];
  HeadTile<kBackwardKeys, kQueries> ds[2];     // dS^T: while one is read the other is written
  alignas(128) float dq[2][kQueries * D / 2];  // by warpgroup
  alignas(128) float lse2[kSlots][kQueries], delta[kSlots][kQueries];
  Ring<kSlots> query_ring, grad_ring;
  uint64_t keys_full;
};

/** Where a block stands in its walk over the query heads of its group and, for each, the tiles of queries. */
struct QueryStep {
  int head, first;  // query head, position of the tile's first query
  DEVICE void advance(int queries, int begin, int end) {
    first += queries;
    if (first >= end) first = begin, head++;
  }
};

struct BackwardBlock {
  int first, end, kv, sequence, steps;  // first key, end of the queries that see one

  template <class Visible>
  static DEVICE BackwardBlock of(const Visible& visible, const AttentionShape& shape, int queries) {
    const int tiles = (shape.seq + kBackwardKeys - 1) / kBackwardKeys, pair = static_cast<int>(blockIdx.x) / tiles;
    const int first = (tiles - 1 - static_cast<int>(blockIdx.x) % tiles) * kBackwardKeys;
    const int end = visible.end(shape, pair / shape.kv_heads, first + kBackwardKeys - 1);
    return {first, end, pair % shape.kv_heads, pair / shape.kv_heads,
            (end - first + queries - 1) / queries * shape.group()};
  }
  DEVICE QueryStep begin(const AttentionShape& shape) const { return {kv * shape.group(), first}; }
};

/** One thread loads everything, as slots become free. */
template <int D, class Visible>
DEVICE void produce(BackwardShared<D>& shared, const TensorMap& qkv, const TensorMap& dy,
                    const RowStatistics& statistics, const Visible& visible, const AttentionShape& shape) {
  constexpr int kQueries = BackwardShared<D>::kQueries;
  constexpr uint32_t kBytes = HeadTile<kQueries, D>::kBytes, kNumbers = kQueries * sizeof(float);
  const auto block = BackwardBlock::of(visible, shape, kQueries);
  mbarrier_arrive_expect(&shared.keys_full, 2 * HeadTile<kBackwardKeys, D>::kBytes);
  load_rows(shared.keys, qkv, &shared.keys_full, shape.heads + block.kv, block.first, block.sequence);
  load_rows(shared.values, qkv, &shared.keys_full, shape.heads + shape.kv_heads + block.kv, block.first,
            block.sequence);
  RingPlace<kSlots> place;
  QueryStep at = block.begin(shape);
  NO_UNROLL
  for (int step = 0; step < block.steps; step++, place.advance(), at.advance(kQueries, block.first, block.end)) {
    // Heads counted through all sequences, in 32 bits: the warp that loads has 24 registers.
    const int64_t row = statistics.at(shape, 0, block.sequence * shape.heads + at.head, at.first);
    uint64_t* full = shared.grad_ring.fill(place, kBytes + kNumbers);  // its slot is free before that of the queries
    load_rows(shared.grads[place.slot], dy, full, at.head, at.first, block.sequence);
    bulk_load(shared.delta[place.slot], statistics.delta + row, kNumbers, full);
    full = shared.query_ring.fill(place, kBytes + kNumbers);
    load_rows(shared.queries[place.slot], qkv, full, at.head, at.first, block.sequence);
    bulk_load(shared.lse2[place.slot], statistics.lse2 + row, kNumbers, full);
  }
}

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

/** One warp adds the tiles of dQ to memory, each when its turn has come. */
template <int D, class Visible>
DEVICE void add_query_gradients(BackwardShared<D>& shared, const QueryGradients& gradients, const Visible& visible,
                                const AttentionShape& shape) {
  constexpr int kQueries = BackwardShared<D>::kQueries;
  constexpr int kPart = kQueries * D / 2;
  const auto block = BackwardBlock::of(visible, shape, kQueries);
  const bool chosen = lane_index() == 0;
  for (int w = 0; w < 2; w++) Meeting::read(w);
  QueryStep at = block.begin(shape);
  NO_UNROLL
  for (int step = 0; step < block.steps; step++, at.advance(kQueries, block.first, block.end)) {
    const int64_t tile = gradients.at(shape, block.sequence, at.head, at.first / kQueries);
    const int turn = (at.first - block.first) / kBackwardKeys;
    if (chosen) wait_for_turn(gradients.turns + tile, turn);
    for (int w = 0; w < 2; w++) {
      Meeting::wait_written(w);
      if (chosen) {
        float* to = gradients.sums + tile * gradients.tile_size + w * kPart;
        if (turn == 0)
          bulk_store(to, shared.dq[w], kPart * sizeof(float));
        else
          bulk_store_add(to, shared.dq[w], kPart * sizeof(float));
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
    if (chosen) {
      bulk_wait<0>();
      pass_turn(gradients.turns + tile, turn);
    }
    sync_warp();
  }
}

/** S^T -> P^T. `distance` = first query of the tile - first key of the warp. */
template <int N>
DEVICE void probabilities(float (&s)[N / 2], const float* lse2, float c, int distance) {
  const int g = lane_index() / 4, t = lane_index() % 4;
  UNROLL
  for (int n = 0; n < N / 8; n++) {
    const Vector<float, 2> l = load<2>(lse2 + 8 * n + 2 * t);
    UNROLL
    for (int e = 0; e < 4; e++) s[4 * n + e] = exp2_fast(s[4 * n + e] * c - l[e % 2]);
  }
  if (distance >= 15) return;  // the tile's first query sees the warp's last key
  const int offset = g - distance - 2 * t;
  UNROLL
  for (int i = 0; i < N / 2; i++)
    if (offset + i / 2 % 2 * 8 > i / 4 * 8 + i % 2) s[i] = 0.0f;
}

/** P^T is zero where a query's document begins after the key: `key` is the warp's first, `query` the tile's. */
template <int N>
DEVICE void separate(float (&p)[N / 2], const Documents& documents, const AttentionShape& shape, int sequence, int key,
                     int query) {
  int end[2];
  UNROLL
  for (int half = 0; half < 2; half++)
    end[half] = documents.end(shape, sequence, key + 8 * half + lane_index() / 4) - query - lane_index() % 4 * 2;
  UNROLL
  for (int i = 0; i < N / 2; i++)
    if (i / 4 * 8 + i % 2 >= end[i / 2 % 2]) p[i] = 0.0f;
}

/** dP^T -> dS^T. */
template <int N>
DEVICE void differentiate(const float (&p)[N / 2], float (&dp)[N / 2], const float* delta) {
  UNROLL
  for (int n = 0; n < N / 8; n++) {
    const Vector<float, 2> d = load<2>(delta + 8 * n + 2 * (lane_index() % 4));
    UNROLL
    for (int e = 0; e < 4; e++) dp[4 * n + e] = p[4 * n + e] * (dp[4 * n + e] - d[e % 2]);
  }
}

/** This warpgroup's part of dQ = dS K, and on to the warp that adds it. Groups: of products begun after that of dQ. */
template <int D>
DEVICE void hand_over(BackwardShared<D>& shared, const float* dq, int count, int w) {
  Meeting::wait_read(w);
  UNROLL
  for (int i = 0; i < count / 4; i++) {
    const Vector<float, 4> four{{dq[4 * i], dq[4 * i + 1], dq[4 * i + 2], dq[4 * i + 3]}};
    store_for_async(&shared.dq[w][(i * 128 + static_cast<int>(threadIdx.x) % 128) * 4], four);
  }
  fence_proxy_async();
  Meeting::written(w);
}

/** Warpgroup w: 64 keys against all queries that see them. */
template <int D, class Visible>
DEVICE void differentiate_keys(BackwardShared<D>& shared, const TensorMap& dqkv, const Visible& visible,
                               const AttentionShape& shape, int w) {
  constexpr int kQueries = BackwardShared<D>::kQueries;
  constexpr int kColumns = kQueries == 64 ? D / 2 : D;  // of dQ that a warpgroup makes
  const int row = 64 * w + warp_index() % 4 * 16;       // of this warp's keys in the block
  const auto block = BackwardBlock::of(visible, shape, kQueries);
  const int whole = visible.end(shape, block.sequence, block.first + row);  // queries before it see all the warp's keys
  const float c = shape.scale * kLog2E;
  const auto keys = operand(shared.keys, 64 * w), values = operand(shared.values, 64 * w);
  const auto all_keys = operand(shared.keys).panel(kQueries == 64 ? w : 0);
  float s[kQueries / 2], dp[kQueries / 2], dk[D / 2] = {}, dv[D / 2] = {};
  RingPlace<kSlots> place;
  QueryStep at = block.begin(shape);

  mbarrier_wait(&shared.keys_full, 0);
  NO_UNROLL
  for (int step = 0; step < block.steps; step++, place.advance(), at.advance(kQueries, block.first, block.end)) {
    const auto queries = operand(shared.queries[place.slot]), grads = operand(shared.grads[place.slot]);
    auto& ds = shared.ds[step % 2];
    shared.query_ring.wait_full(place);
    wgmma_fence();
    multiply_rows<kQueries, D>(s, keys, queries);
    wgmma_commit();
    shared.grad_ring.wait_full(place);
    wgmma_fence();
    multiply_rows<kQueries, D>(dp, values, grads);
    wgmma_commit();

    wgmma_wait<1>();
    probabilities<kQueries>(s, shared.lse2[place.slot], c, at.first - block.first - row);
    if constexpr (Visible::kDocuments)
      if (at.first + kQueries > whole)
        separate<kQueries>(s, visible, shape, block.sequence, block.first + row, at.first);
    wgmma_wait<0>();
    differentiate<kQueries>(s, dp, shared.delta[place.slot]);
    uint32_t weights[kQueries / 16][4], changes[kQueries / 16][4];
    round_weights<kQueries>(weights, s);
    round_weights<kQueries>(changes, dp);
    wgmma_fence();
    weigh_rows<kQueries, D>(dv, weights, grads);
    wgmma_commit();

    UNROLL
    for (int i = 0; i < kQueries / 16; i++) store_fragment(ds, row, i, changes[i]);
    fence_proxy_async();
    Meeting::consumers();
    float dq[kColumns / 2];
    wgmma_fence();
    multiply_columns<kBackwardKeys, kColumns>(dq, operand(ds).panel(kQueries == 64 ? 0 : w), all_keys);
    wgmma_commit();
    wgmma_fence();
    weigh_rows<kQueries, D>(dk, changes, queries);
    wgmma_commit();
    wgmma_wait<1>();
    shared.grad_ring.release_by_warp(place);
    hand_over<D>(shared, dq, kColumns / 2, w);
    wgmma_wait<0>();
    shared.query_ring.release_by_warp(place);
  }

  Meeting::consumers();  // nobody reads the keys any more
  const float scale[2] = {shape.scale, shape.scale}, one[2] = {1.0f, 1.0f};
  stage_rows(shared.keys, row, dk, scale);
  stage_rows(shared.values, row, dv, one);
  fence_proxy_async();
  Meeting::warpgroup(w);
  if (threadIdx.x % 128 != 0) return;
  const int first = block.first + 64 * w;
  store_rows(dqkv, shared.keys, 64 * w, shape.heads + block.kv, first, block.sequence);
  store_rows(dqkv, shared.values, 64 * w, shape.heads + shape.kv_heads + block.kv, first, block.sequence);
  bulk_commit();
  bulk_wait_read<0>();
}

template <int D, class Visible>
__global__ void __launch_bounds__(hopper_backward_tiles(D).threads(), 1)
    hopper_attention_backward_kernel(const __grid_constant__ TensorMap qkv, const __grid_constant__ TensorMap dy,
                                     const __grid_constant__ TensorMap dqkv, RowStatistics statistics,
                                     QueryGradients gradients, Visible visible, AttentionShape shape) {
  constexpr HopperTiles kTiles = hopper_backward_tiles(D);
  auto& shared = shared_memory<BackwardShared<D>>();
  if (threadIdx.x == 0) {
    shared.query_ring.init(4 * kTiles.warpgroups);
    shared.grad_ring.init(4 * kTiles.warpgroups);
    mbarrier_init(&shared.keys_full, 1);
    mbarrier_init_fence();
  }
  sync_threads();
  if (threadIdx.x < 128) {
    release_registers<kTiles.producer_registers>();
    if (threadIdx.x == 0) produce<D>(shared, qkv, dy, statistics, visible, shape);
    if (warp_index() == 1) add_query_gradients<D>(shared, gradients, visible, shape);
  } else {
    claim_registers<kTiles.consumer_registers>();
    const uint32_t w = shuffle_from(static_cast<uint32_t>(threadIdx.x) / 128, 0) - 1;  // the same in a warp
    differentiate_keys<D>(shared, dqkv, visible, shape, static_cast<int>(w));
  }
}

template <int D, class Visible>
void launch_backward(Stream& stream, const bf16* qkv, const bf16* dy, bf16* dqkv, const RowStatistics& statistics,
                     const QueryGradients& gradients, const Visible& visible, const AttentionShape& shape) {
  constexpr HopperTiles kTiles = hopper_backward_tiles(D);
  static_assert(RowStatistics::kPadding % kTiles.step == 0 && kBackwardKeys % kTiles.step == 0);
  const int heads = shape.heads + 2 * shape.kv_heads;
  const int64_t blocks = ceil_div(shape.seq, kBackwardKeys) * shape.kv_heads * shape.batch;
  launch(
      stream, hopper_attention_backward_kernel<D, Visible>,
      GridShape{
          {static_cast<unsigned>(blocks), 1, 1}, static_cast<unsigned>(kTiles.threads()), 1, sizeof(BackwardShared<D>)},
      head_boxes(qkv, shape, heads), head_boxes(dy, shape, shape.heads), head_boxes(dqkv, shape, heads), statistics,
      gradients, visible, shape);
}

template <class Visible>
void backward(Stream& stream, const bf16* qkv, const bf16* dy, bf16* dqkv, const RowStatistics& statistics,
              const Visible& visible, std::byte* workspace, const AttentionShape& shape) {
  const auto gradients = QueryGradients::in(workspace, shape);
  stream.fill_bytes(gradients.turns, 0, static_cast<size_t>(gradients.count(shape)) * sizeof(int));
  switch (shape.head_dim) {
#define THALWEG_CASE(D)                                                               \
  case D:                                                                             \
    launch_backward<D>(stream, qkv, dy, dqkv, statistics, gradients, visible, shape); \
    return hopper_query_gradient(stream, gradients, dqkv, shape);
    THALWEG_HOPPER_HEAD_DIMS(THALWEG_CASE)
#undef THALWEG_CASE
  }
}

}  // namespace

void hopper_attention_backward(Stream& stream, const bf16* qkv, const bf16* dy, bf16* dqkv,
                               const RowStatistics& statistics, const WholeSequences& visible, std::byte* workspace,
                               const AttentionShape& shape) {
  backward(stream, qkv, dy, dqkv, statistics, visible, workspace, shape);
}

void hopper_attention_backward(Stream& stream, const bf16* qkv, const bf16* dy, bf16* dqkv,
                               const RowStatistics& statistics, const Documents& visible, std::byte* workspace,
                               const AttentionShape& shape) {
  backward(stream, qkv, dy, dqkv, statistics, visible, workspace, shape);
}

size_t hopper_backward_workspace(const AttentionShape& shape) {
  const auto gradients = QueryGradients::in(nullptr, shape);
  const auto tiles = static_cast<size_t>(gradients.count(shape));
  return tiles * (static_cast<size_t>(gradients.tile_size) * sizeof(float) + sizeof(int));
}

}  // namespace thalweg::cuda
