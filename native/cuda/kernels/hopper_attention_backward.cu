#include "native/cuda/kernels/hopper_attention_sums.cuh"
#include "native/cuda/kernels/hopper_ring.cuh"
#include "native/cuda/ptx/math.h"

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
 * dQ sums over blocks of keys: in turns, the same bits always, or in any order (hopper_attention_sums.cuh; a template
 * parameter of the kernel). A warp of the block's first warpgroup adds what the others make.
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

/** One thread loads everything, as slots become free. */
template <int D>
DEVICE void produce(BackwardShared<D>& shared, const TensorMap& qkv, const TensorMap& dy,
                    const RowStatistics& statistics, const KeyBlock& block, const AttentionShape& shape) {
  constexpr int kQueries = BackwardShared<D>::kQueries;
  constexpr uint32_t kBytes = HeadTile<kQueries, D>::kBytes, kNumbers = kQueries * sizeof(float);
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
DEVICE void differentiate_keys(BackwardShared<D>& shared, const TensorMap& dqkv, const KeyBlock& block,
                               const Visible& visible, const AttentionShape& shape, int w) {
  constexpr int kQueries = BackwardShared<D>::kQueries;
  constexpr int kColumns = kQueries == 64 ? D / 2 : D;                      // of dQ that a warpgroup makes
  const int row = 64 * w + warp_index() % 4 * 16;                           // of this warp's keys in the block
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

template <int D, class Visible, class Order>
__global__ void __launch_bounds__(hopper_backward_tiles(D).threads(), 1)
    hopper_attention_backward_kernel(const __grid_constant__ TensorMap qkv, const __grid_constant__ TensorMap dy,
                                     const __grid_constant__ TensorMap dqkv, RowStatistics statistics,
                                     QueryGradients gradients, Visible visible, AttentionShape shape,
                                     HopperTileOrder order) {
  constexpr HopperTiles kTiles = hopper_backward_tiles(D);
  auto& shared = shared_memory<BackwardShared<D>>();
  if (threadIdx.x == 0) {
    shared.query_ring.init(4 * kTiles.warpgroups);
    shared.grad_ring.init(4 * kTiles.warpgroups);
    mbarrier_init(&shared.keys_full, 1);
    mbarrier_init_fence();
  }
  sync_threads();
  // Asked by each role apart: kept over the change of registers, it would be spilled.
  const auto block_of = [&] { return KeyBlock::of<Order>(order, visible, shape, kTiles.step); };
  if (threadIdx.x < 128) {
    release_registers<kTiles.producer_registers>();
    const KeyBlock block = block_of();
    if (threadIdx.x == 0) produce<D>(shared, qkv, dy, statistics, block, shape);
    if (warp_index() == 1) add_query_gradients<Order>(shared.dq, gradients, block, shape, kTiles.step);
  } else {
    claim_registers<kTiles.consumer_registers>();
    const KeyBlock block = block_of();
    const uint32_t w = shuffle_from(static_cast<uint32_t>(threadIdx.x) / 128, 0) - 1;  // the same in a warp
    differentiate_keys<D>(shared, dqkv, block, visible, shape, static_cast<int>(w));
  }
}

template <class Order, int D, class Visible>
void launch_backward(Stream& stream, const Target& target, const bf16* qkv, const bf16* dy, bf16* dqkv,
                     const RowStatistics& statistics, const QueryGradients& gradients, const Visible& visible,
                     const AttentionShape& shape) {
  constexpr HopperTiles kTiles = hopper_backward_tiles(D);
  static_assert(RowStatistics::kPadding % kTiles.step == 0 && kBackwardKeys % kTiles.step == 0);
  const int heads = shape.heads + 2 * shape.kv_heads;
  const auto order = HopperTileOrder::of_keys(hopper_work<Visible>(shape), Order::kTurns, target.multiprocessors);
  const auto blocks = static_cast<unsigned>(order.count());
  launch(stream, hopper_attention_backward_kernel<D, Visible, Order>,
         GridShape{{blocks, 1, 1}, static_cast<unsigned>(kTiles.threads()), 1, sizeof(BackwardShared<D>)},
         head_boxes(qkv, shape, heads), head_boxes(dy, shape, shape.heads), head_boxes(dqkv, shape, heads), statistics,
         gradients, visible, shape, order);
}

template <class Order, class Visible>
void backward(Stream& stream, const Target& target, const bf16* qkv, const bf16* dy, bf16* dqkv,
              const RowStatistics& statistics, const Visible& visible, const QueryGradients& gradients,
              const AttentionShape& shape) {
  const auto tiles = static_cast<size_t>(gradients.count(shape));
  if (Order::kTurns)
    stream.fill_bytes(gradients.turns, 0, tiles * sizeof(int));
  else
    stream.fill_bytes(gradients.sums, 0, tiles * static_cast<size_t>(gradients.tile_size) * sizeof(float));
  switch (shape.head_dim) {
#define THALWEG_CASE(D)                                                                              \
  case D:                                                                                            \
    launch_backward<Order, D>(stream, target, qkv, dy, dqkv, statistics, gradients, visible, shape); \
    return hopper_query_gradient(stream, gradients, dqkv, shape);
    THALWEG_HOPPER_HEAD_DIMS(THALWEG_CASE)
#undef THALWEG_CASE
  }
}

template <class Visible>
void backward(Stream& stream, const Target& target, const bf16* qkv, const bf16* dy, bf16* dqkv,
              const RowStatistics& statistics, const Visible& visible, bool any_order, std::byte* workspace,
              const AttentionShape& shape) {
  const auto gradients = QueryGradients::in(workspace, shape);
  if (any_order)
    backward<InAnyOrder>(stream, target, qkv, dy, dqkv, statistics, visible, gradients, shape);
  else
    backward<InTurns>(stream, target, qkv, dy, dqkv, statistics, visible, gradients, shape);
}

}  // namespace

void hopper_attention_backward(Stream& stream, const Target& target, const bf16* qkv, const bf16* dy, bf16* dqkv,
                               const RowStatistics& statistics, const WholeSequences& visible, bool any_order,
                               std::byte* workspace, const AttentionShape& shape) {
  backward(stream, target, qkv, dy, dqkv, statistics, visible, any_order, workspace, shape);
}

void hopper_attention_backward(Stream& stream, const Target& target, const bf16* qkv, const bf16* dy, bf16* dqkv,
                               const RowStatistics& statistics, const Documents& visible, bool any_order,
                               std::byte* workspace, const AttentionShape& shape) {
  backward(stream, target, qkv, dy, dqkv, statistics, visible, any_order, workspace, shape);
}

size_t hopper_backward_workspace(const AttentionShape& shape) {
  const auto gradients = QueryGradients::in(nullptr, shape);
  const auto tiles = static_cast<size_t>(gradients.count(shape));
  return tiles * (static_cast<size_t>(gradients.tile_size) * sizeof(float) + sizeof(int));
}

}  // namespace thalweg::cuda
