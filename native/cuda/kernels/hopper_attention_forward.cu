#include "native/cuda/kernels/hopper_attention.h"
#include "native/cuda/kernels/hopper_attention_operands.cuh"
#include "native/cuda/kernels/hopper_ring.cuh"
#include "native/cuda/ptx/math.h"
#include "native/cuda/ptx/turn.h"

/**
 * attention on sm_90a: y = softmax(scale q k^T) v per query head, causal, over packed rows, and each row's log-sum-exp
 * (contract and floor: attention_forward.cu; the whole story with its pictures: docs/kernels/attention.md).
 *
 * Plan (FlashAttention-3, Shah et al. 2024). One warpgroup gives its registers away and feeds TMA; two or three others
 * own 64 queries each. Keys come in tiles of 128, from the diagonal leftwards, so that the one tile with a mask is the
 * first and the loop has no compare:
 *
 *   producer      K4 Q  V4 K3    V3 K2    V2 K1    V1 K0    V0      a ring of two slots for K, one for V
 *   warpgroup 1   S4 |softmax 4| S3 O4 |softmax 3| S2 O3 |softmax 2| ...
 *   warpgroup 2        S4 |softmax 4| S3 O4 |softmax 3| S2 O3 | ...
 *
 * S = Q K^T of the next tile and O += P V of this one are issued together, and the softmax waits for S only: it runs
 * under P V. Warpgroups take turns at the tensor cores, so it also runs under the others' products. P never leaves its
 * registers: S's accumulators are the A operand of P V. Blocks are persistent: the next tile's first keys are loaded
 * while this one's result is stored. Which block gets which tile is settled by tickets as they become free, longest
 * tiles first (HopperTileOrder); the bits do not depend on it.
 *
 * With documents (attention_documents.h) a tile's keys end, leftwards, at the first that its first query sees. Each
 * warpgroup stops at the first that its own first query sees, passes the rest over, and masks what a row does not see.
 */
namespace thalweg::cuda {

namespace {

constexpr int kSlots = 2;
/** The maximum that is subtracted may lag behind by 2^kHeadroom (see attention_forward.cu). */
constexpr float kHeadroom = 8.0f;

template <int D>
struct ForwardShared {
  static constexpr HopperTiles kTiles = hopper_forward_tiles(D);
  HeadTile<64, D> queries[kTiles.warpgroups];  // later the warpgroup's result
  HeadTile<kTiles.step, D> keys[kSlots], values[kSlots];
  Ring<kSlots> key_ring, value_ring;
  Ring<1> query_ring;
  int tile;  // comes with the queries: whose they are; past the last one when there are no more
};

/** A tile of queries: its first query, and the tiles of keys it sees. */
struct ForwardTile {
  int first, head, sequence, keys_begin, keys_end;

  template <int D, class Visible>
  static DEVICE ForwardTile of(const HopperTileOrder& order, int i, const Visible& visible,
                               const AttentionShape& shape) {
    constexpr HopperTiles kTiles = hopper_forward_tiles(D);
    const auto tile = order.at(i);
    const int first = tile.index * kTiles.rows();
    const int end = first + kTiles.rows() < shape.seq ? first + kTiles.rows() : shape.seq;
    return {first, tile.head, tile.sequence, visible.start(shape, tile.sequence, first) / kTiles.step,
            (end + kTiles.step - 1) / kTiles.step};
  }
};

/** One thread loads everything, as slots become free. */
template <int D, class Visible>
DEVICE void produce(ForwardShared<D>& shared, const TensorMap& qkv, const Visible& visible, const AttentionShape& shape,
                    const HopperTileOrder& order, int* tickets) {
  constexpr HopperTiles kTiles = hopper_forward_tiles(D);
  RingPlace<kSlots> place;
  RingPlace<1> query_place;
  int next = 0;
  NO_UNROLL
  for (int i = static_cast<int>(blockIdx.x); i < order.count(); i = next) {
    next = static_cast<int>(gridDim.x) + take_ticket(tickets);  // on its way while this tile is loaded
    const auto tile = ForwardTile::of<D>(order, i, visible, shape);
    const int kv = tile.head / shape.group();
    NO_UNROLL
    for (int j = tile.keys_end - 1; j >= tile.keys_begin; j--, place.advance()) {
      uint64_t* full = shared.key_ring.fill(place, HeadTile<kTiles.step, D>::kBytes);
      load_rows(shared.keys[place.slot], qkv, full, shape.heads + kv, j * kTiles.step, tile.sequence);
      if (j == tile.keys_end - 1) {
        shared.query_ring.wait_empty(query_place);
        shared.tile = i;
        full = shared.query_ring.expect(query_place, sizeof shared.queries);
        for (int w = 0; w < kTiles.warpgroups; w++)
          load_rows(shared.queries[w], qkv, full, tile.head, tile.first + 64 * w, tile.sequence);
        query_place.advance();
      }
      full = shared.value_ring.fill(place, HeadTile<kTiles.step, D>::kBytes);
      load_rows(shared.values[place.slot], qkv, full, shape.heads + shape.kv_heads + kv, j * kTiles.step,
                tile.sequence);
    }
  }
  shared.query_ring.wait_empty(query_place);
  shared.tile = order.count();
  mbarrier_arrive(&shared.query_ring.full[0]);
}

/** The warpgroups' turns at the tensor cores: named barrier 1 + w opens the turn of warpgroup w. The numbers must be
 * immediates. */
template <int Warpgroups>
struct Turns {
  static DEVICE void wait(int w) {
    if (w == 0)
      named_barrier_sync<1, 256>();
    else if (w == 1)
      named_barrier_sync<2, 256>();
    else
      named_barrier_sync<3, 256>();
  }
  static DEVICE void pass(int w) {
    if (w == Warpgroups - 1)
      named_barrier_arrive<1, 256>();
    else if (w == 0)
      named_barrier_arrive<2, 256>();
    else
      named_barrier_arrive<3, 256>();
  }
  /** A barrier of warpgroup w alone. */
  static DEVICE void meet(int w) {
    if (w == 0)
      named_barrier_sync<4, 128>();
    else if (w == 1)
      named_barrier_sync<5, 128>();
    else
      named_barrier_sync<6, 128>();
  }
};

/** What a thread knows of its two rows, g and g + 8 of its warp's 16. */
struct RowSums {
  float top[2] = {-INFINITY, -INFINITY};  // subtracted from scores in log2 units
  float sum[2] = {};                      // of this thread's columns
};

/** Hides the keys after a query: `distance` = first key of the tile - first row of the warp. */
template <int N>
DEVICE void hide_later_keys(float (&s)[N / 2], int distance) {
  const int offset = distance + lane_index() % 4 * 2 - lane_index() / 4;
  UNROLL
  for (int i = 0; i < N / 2; i++)
    if (offset + i / 4 * 8 + i % 2 > i / 2 % 2 * 8) s[i] = -INFINITY;
}

/** Hides what lies before a query's document: `key` is the first key of the tile, `first` the first row of the warp. */
template <int N>
DEVICE void hide_other_documents(float (&s)[N / 2], const Documents& documents, const AttentionShape& shape,
                                 int sequence, int key, int first) {
  int from[2];
  UNROLL
  for (int half = 0; half < 2; half++)
    from[half] = documents.start(shape, sequence, first + 8 * half + lane_index() / 4) - key - lane_index() % 4 * 2;
  UNROLL
  for (int i = 0; i < N / 2; i++)
    if (i / 4 * 8 + i % 2 < from[i / 2 % 2]) s[i] = -INFINITY;
}

/** Scores -> weights 2^(c s - top), summed. When a row of the warp outgrew its maximum, the maxima of all its rows
 * move: returns true, and `shrink` is what earlier results must be multiplied by. */
template <int N>
DEVICE bool softmax(float (&s)[N / 2], RowSums& rows, float (&shrink)[2], float c) {
  float most[2];
  UNROLL
  for (int half = 0; half < 2; half++) {
    most[half] = s[2 * half];
    UNROLL
    for (int i = 0; i < N / 2; i += 4) most[half] = fmaxf(most[half], fmaxf(s[i + 2 * half], s[i + 2 * half + 1]));
    most[half] *= c;
  }
  const bool moved = warp_ballot(most[0] > rows.top[0] + kHeadroom || most[1] > rows.top[1] + kHeadroom) != 0;
  if (moved) {
    UNROLL
    for (int half = 0; half < 2; half++) {
      float top = fmaxf(rows.top[half], most[half]);
      top = fmaxf(top, shuffle_xor(top, 1));
      top = fmaxf(top, shuffle_xor(top, 2));
      shrink[half] = exp2_fast(rows.top[half] - top);
      rows.top[half] = top;
      rows.sum[half] *= shrink[half];
    }
  }
  UNROLL
  for (int i = 0; i < N / 2; i++) {
    s[i] = exp2_fast(s[i] * c - rows.top[i / 2 % 2]);
    rows.sum[i / 2 % 2] += s[i];
  }
  return moved;
}

/** Stores lse of the warp's rows, which begin at `first`; returns 1 / sum. */
DEVICE void finish(const RowSums& rows, float (&factor)[2], float* lse, const AttentionShape& shape,
                   const ForwardTile& tile, int first) {
  UNROLL
  for (int half = 0; half < 2; half++) {
    float sum = rows.sum[half];
    sum += shuffle_xor(sum, 1);
    sum += shuffle_xor(sum, 2);
    factor[half] = 1.0f / sum;
    const int row = first + 8 * half + lane_index() / 4;
    if (lane_index() % 4 == 0 && row < shape.seq)
      lse[(static_cast<int64_t>(tile.sequence) * shape.seq + row) * shape.heads + tile.head] =
          kLn2 * (rows.top[half] + log2_fast(sum));
  }
}

/** Gives back a tile of keys that only other warpgroups use. */
template <int D>
DEVICE void pass_over(ForwardShared<D>& shared, int w, RingPlace<kSlots>& place) {
  using WarpTurns = Turns<hopper_forward_tiles(D).warpgroups>;
  WarpTurns::wait(w);
  WarpTurns::pass(w);
  shared.key_ring.pass_over(place);
  shared.value_ring.pass_over(place);
  place.advance();
}

/** Warpgroup w's 64 queries of a tile. */
template <int D, class Visible>
DEVICE void attend(ForwardShared<D>& shared, const TensorMap& y, float* lse, const Visible& visible,
                   const AttentionShape& shape, const ForwardTile& tile, int w, RingPlace<kSlots>& place) {
  constexpr HopperTiles kTiles = hopper_forward_tiles(D);
  constexpr int kKeys = kTiles.step;
  using WarpTurns = Turns<kTiles.warpgroups>;
  const int first = tile.first + 64 * w, row = warp_index() % 4 * 16;
  const float c = shape.scale * kLog2E;
  const auto queries = operand(shared.queries[w]);
  const int own = visible.start(shape, tile.sequence, first) / kKeys;  // the last tile of keys these queries see
  const int begin = own > tile.keys_begin ? own : tile.keys_begin;
  const int whole = visible.start(shape, tile.sequence, first + row + 15);  // from this key on, the warp sees all
  float s[kKeys / 2], out[D / 2] = {}, shrink[2];
  uint32_t weights[kKeys / 16][4];
  RowSums rows;

  int j = tile.keys_end - 1;
  if (j * kKeys > first + 63) {  // all keys of the tile's last part lie after these queries
    WarpTurns::wait(w);
    WarpTurns::pass(w);
    shared.key_ring.release_by_warp(place);
    shared.value_ring.release_by_warp(place);
    place.advance();
    j--;
  }
  WarpTurns::wait(w);
  shared.key_ring.wait_full(place);
  wgmma_fence();
  multiply_rows<kKeys, D>(s, queries, operand(shared.keys[place.slot]));
  wgmma_commit();
  WarpTurns::pass(w);
  wgmma_wait<0>();
  shared.key_ring.release_by_warp(place);
  hide_later_keys<kKeys>(s, j * kKeys - first - row);
  if constexpr (Visible::kDocuments)
    if (j * kKeys < whole) hide_other_documents<kKeys>(s, visible, shape, tile.sequence, j * kKeys, first + row);
  softmax<kKeys>(s, rows, shrink, c);
  round_weights<kKeys>(weights, s);
  for (; j > begin; j--) {
    const RingPlace<kSlots> last = place;
    place.advance();
    WarpTurns::wait(w);
    shared.key_ring.wait_full(place);
    wgmma_fence();
    multiply_rows<kKeys, D>(s, queries, operand(shared.keys[place.slot]));
    wgmma_commit();
    shared.value_ring.wait_full(last);
    wgmma_fence();
    weigh_rows<kKeys, D>(out, weights, operand(shared.values[last.slot]));
    wgmma_commit();
    WarpTurns::pass(w);
    wgmma_wait<1>();
    shared.key_ring.release_by_warp(place);
    if constexpr (Visible::kDocuments) {
      const int key = (j - 1) * kKeys;
      if (key < whole) hide_other_documents<kKeys>(s, visible, shape, tile.sequence, key, first + row);
    }
    const bool moved = softmax<kKeys>(s, rows, shrink, c);
    finish_before_waiting(rows.sum[0] + rows.sum[1]);
    wgmma_wait<0>();
    shared.value_ring.release_by_warp(last);
    if (moved) {
      UNROLL
      for (int i = 0; i < D / 2; i++) out[i] *= shrink[i / 2 % 2];
    }
    round_weights<kKeys>(weights, s);
  }
  shared.value_ring.wait_full(place);
  wgmma_fence();
  weigh_rows<kKeys, D>(out, weights, operand(shared.values[place.slot]));
  wgmma_commit();
  wgmma_wait<0>();
  shared.value_ring.release_by_warp(place);
  place.advance();
  if constexpr (Visible::kDocuments)
    for (; j > tile.keys_begin; j--) pass_over(shared, w, place);

  float factor[2];
  finish(rows, factor, lse, shape, tile, first + row);
  stage_rows(shared.queries[w], row, out, factor);
  fence_proxy_async();
  WarpTurns::meet(w);
  if (threadIdx.x % 128 == 0) {
    store_rows(y, shared.queries[w], 0, tile.head, first, tile.sequence);
    bulk_commit();
    bulk_wait_read<0>();
    mbarrier_arrive(&shared.query_ring.empty[0]);
  }
}

template <int D, class Visible>
DEVICE void consume(ForwardShared<D>& shared, const TensorMap& y, float* lse, const Visible& visible,
                    const AttentionShape& shape, const HopperTileOrder& order) {
  constexpr HopperTiles kTiles = hopper_forward_tiles(D);
  const int w = static_cast<int>(shuffle_from(static_cast<uint32_t>(threadIdx.x) / 128, 0)) - 1;  // the same in a warp
  RingPlace<kSlots> place;
  RingPlace<1> query_place;
  if (w == kTiles.warpgroups - 1) Turns<kTiles.warpgroups>::pass(w);
  NO_UNROLL
  for (;; query_place.advance()) {
    shared.query_ring.wait_full(query_place);
    const int i = shared.tile;
    if (i >= order.count()) break;
    attend<D>(shared, y, lse, visible, shape, ForwardTile::of<D>(order, i, visible, shape), w, place);
  }
}

template <int D, class Visible>
__global__ void __launch_bounds__(hopper_forward_tiles(D).threads(), 1)
    hopper_attention_kernel(const __grid_constant__ TensorMap qkv, const __grid_constant__ TensorMap y, float* lse,
                            Visible visible, AttentionShape shape, HopperTileOrder order, int* tickets) {
  constexpr HopperTiles kTiles = hopper_forward_tiles(D);
  auto& shared = shared_memory<ForwardShared<D>>();
  if (threadIdx.x == 0) {
    shared.key_ring.init(4 * kTiles.warpgroups);
    shared.value_ring.init(4 * kTiles.warpgroups);
    shared.query_ring.init(kTiles.warpgroups);
    mbarrier_init_fence();
  }
  sync_threads();
  if (threadIdx.x < 128) {
    release_registers<kTiles.producer_registers>();
    if (threadIdx.x == 0) produce<D>(shared, qkv, visible, shape, order, tickets);
  } else {
    claim_registers<kTiles.consumer_registers>();
    consume<D>(shared, y, lse, visible, shape, order);
  }
}

template <int D, class Visible>
void launch_forward(Stream& stream, const Target& target, const bf16* qkv, bf16* y, float* lse, const Visible& visible,
                    int* tickets, const AttentionShape& shape) {
  constexpr HopperTiles kTiles = hopper_forward_tiles(D);
  const int tiles = static_cast<int>(ceil_div(shape.seq, kTiles.rows()));
  const auto order = HopperTileOrder::of_queries(tiles, hopper_work<Visible>(shape));
  const int blocks = order.count() < target.multiprocessors ? order.count() : target.multiprocessors;
  const GridShape grid{
      {static_cast<unsigned>(blocks), 1, 1}, static_cast<unsigned>(kTiles.threads()), 1, sizeof(ForwardShared<D>)};
  stream.fill_bytes(tickets, 0, sizeof *tickets);
  launch(stream, hopper_attention_kernel<D, Visible>, grid, head_boxes(qkv, shape, shape.heads + 2 * shape.kv_heads),
         head_boxes(y, shape, shape.heads), lse, visible, shape, order, tickets);
}

template <class Visible>
void forward(Stream& stream, const Target& target, const bf16* qkv, bf16* y, float* lse, const Visible& visible,
             std::byte* workspace, const AttentionShape& shape) {
  auto* tickets = reinterpret_cast<int*>(workspace);
  switch (shape.head_dim) {
#define THALWEG_CASE(D) \
  case D:               \
    return launch_forward<D>(stream, target, qkv, y, lse, visible, tickets, shape);
    THALWEG_HOPPER_HEAD_DIMS(THALWEG_CASE)
#undef THALWEG_CASE
  }
}

}  // namespace

void hopper_attention(Stream& stream, const Target& target, const bf16* qkv, bf16* y, float* lse,
                      const WholeSequences& visible, std::byte* workspace, const AttentionShape& shape) {
  forward(stream, target, qkv, y, lse, visible, workspace, shape);
}

void hopper_attention(Stream& stream, const Target& target, const bf16* qkv, bf16* y, float* lse,
                      const Documents& visible, std::byte* workspace, const AttentionShape& shape) {
  forward(stream, target, qkv, y, lse, visible, workspace, shape);
}

}  // namespace thalweg::cuda
