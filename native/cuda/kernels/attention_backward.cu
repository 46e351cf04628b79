#include "native/cuda/kernels.h"
#include "native/cuda/kernels/attention_backward_fma.cuh"
#include "native/cuda/kernels/attention_mma.cuh"
#include "native/cuda/kernels/attention_statistics.cuh"
#include "native/cuda/kernels/hopper_attention.h"

/**
 * attentionBackward: gradient of attention with respect to its packed rows. With P = 2^(c S - lse2) recomputed from the
 * saved log-sum-exp, per query head:
 *
 *   delta = rowsum(dy * y)      dP = dy V^T      dS = P * (dP - delta)
 *   dV += P^T dy                dK += scale dS^T Q               dQ = scale dS K
 *
 * (FlashAttention-2, Dao 2023, algorithm 2). Floor: five products, 10 D FLOPs per visible pair. dK and dV sum over
 * queries but dQ over keys; one kernel for all three would have to add dQ tiles in memory in an order that atomics do
 * not keep, or wait in turn for each other. Here two kernels each keep their own sums in registers, at the price of
 * computing S and dP twice: seven products instead of five, 1.4 times the FLOPs, no fp32 dQ in memory, no atomics, no
 * waiting, the same bits always. (Turns cost published kernels about a fifth.) A third, first, writes lse2 and delta.
 *
 *   key_value_kernel: a block owns keys of a kv head and streams the queries that see them past it, for each query head
 *   of the group, so the sum over the group needs no memory either. It computes S^T = K Q^T and dP^T = V dy^T: their
 *   accumulators are, as they stand, the A fragments of dV += P^T dy and dK += dS^T Q.
 *
 *        queries 0   64  128  192                     keys 0   64  128
 *   keys   0 [\]  [ ]  [ ]  [ ]  longest first   queries 0 [\]
 *         64      [\]  [ ]  [ ]                         64 [ ]  [\]
 *        128           [\]  [ ]                        128 [ ]  [ ]  [\]  longest first
 *
 *   query_kernel: a block owns queries of a head and streams keys and values: S = Q K^T, dP = dy V^T, dQ += dS K.
 *
 * With documents (attention_documents.h) keys stream the queries up to the last that sees one of them, queries the keys
 * from the first that one of them sees; warps mask the tiles that not all their pairs belong to.
 *
 * Tiles are copied into one of two stages while the other is used: one barrier a tile. On compute capability 9.0 the
 * head dims of hopper_attention_tiles.h go to hopper_attention_backward.cu, where turns are cheap and five products do.
 */
namespace thalweg::cuda {

namespace {

// --- dK and dV
// --------------------------------------------------------------------------------------------------------

template <int D>
struct KeyValueShared {
  static constexpr AttentionTiles kTiles = key_value_tiles(D);
  AttentionTile<kTiles.rows(), D> keys, values;
  struct Stage {
    AttentionTile<kTiles.step, D> queries, grads;
    alignas(16) float lse2[kTiles.step], delta[kTiles.step];
  } stages[2];
};

/** Where a block stands in its walk over the query heads of a group and, for each, the queries from `begin` on. */
struct QueryTile {
  int head, query, begin;
  DEVICE void advance(int step, int end) {
    query += step;
    if (query >= end) query = begin, head++;
  }
};

/** Starts the copy of one tile of queries with what belongs to them. */
template <int D>
DEVICE void fetch_queries(typename KeyValueShared<D>::Stage& stage, const bf16* qkv, const bf16* dy,
                          const RowStatistics& statistics, const AttentionShape& shape, int sequence,
                          const QueryTile& tile) {
  constexpr AttentionTiles kTiles = key_value_tiles(D);
  constexpr int kThreads = kTiles.threads(), kQuads = kTiles.step / 4;
  fetch_rows<kThreads>(stage.queries, shape.query(qkv, sequence, tile.head, tile.query));
  fetch_rows<kThreads>(stage.grads, shape.output(dy, sequence, tile.head, tile.query));
  const int quad = static_cast<int>(threadIdx.x);
  const int64_t at = statistics.at(shape, sequence, tile.head, tile.query);
  static_assert(2 * kQuads <= kThreads, "a thread copies four numbers");
  if (quad < kQuads)
    copy_async_16(&stage.lse2[4 * quad], statistics.lse2 + at + 4 * quad);
  else if (quad < 2 * kQuads)
    copy_async_16(&stage.delta[4 * quad - kTiles.step], statistics.delta + at + 4 * quad - kTiles.step);
}

/** S^T and dP^T -> P^T and dS^T. `distance` = first query of the strip - first key of the warp. */
template <int M, int N>
DEVICE void differentiate(float (&p)[M][N][4], float (&ds)[M][N][4], const float* lse2, const float* delta, float c,
                          int distance) {
  const int g = lane_index() / 4, t = lane_index() % 4;
  const bool masked = distance < 16 * M - 1;  // the strip's first query does not see the warp's last key
  UNROLL
  for (int n = 0; n < N; n++) {
    const Vector<float, 2> l = load<2>(lse2 + 8 * n + 2 * t), d = load<2>(delta + 8 * n + 2 * t);
    UNROLL
    for (int m = 0; m < M; m++) {
      UNROLL
      for (int e = 0; e < 4; e++) {
        float weight = exp2_fast(p[m][n][e] * c - l[e % 2]);
        if (masked && 16 * m + e / 2 * 8 + g > distance + 8 * n + 2 * t + e % 2) weight = 0.0f;
        p[m][n][e] = weight;
        ds[m][n][e] = weight * (ds[m][n][e] - d[e % 2]);
      }
    }
  }
}

/** P^T and dS^T are zero where a query's document begins after the key. `query`: the strip's first. */
template <int M, int N>
DEVICE void separate(float (&p)[M][N][4], float (&ds)[M][N][4], const WarpRows& ends, int query) {
  const int g = lane_index() / 4, t = lane_index() % 4;
  UNROLL
  for (int m = 0; m < M; m++) {
    UNROLL
    for (int half = 0; half < 2; half++) {
      const int end = ends.of(16 * m + 8 * half + g) - query;
      UNROLL
      for (int n = 0; n < N; n++) {
        UNROLL
        for (int e = 0; e < 2; e++)
          if (8 * n + 2 * t + e >= end) p[m][n][2 * half + e] = ds[m][n][2 * half + e] = 0.0f;
      }
    }
  }
}

template <int D, class Visible>
__global__ void __launch_bounds__(key_value_tiles(D).threads(), 1)
    key_value_kernel(const bf16* qkv, const bf16* dy, bf16* dqkv, RowStatistics statistics, Visible visible,
                     AttentionShape shape) {
  constexpr AttentionTiles kTiles = key_value_tiles(D);
  constexpr int kThreads = kTiles.threads(), M = kTiles.blocks, kStep = kTiles.step, kStrip = kTiles.strip;
  auto& shared = shared_memory<KeyValueShared<D>>();
  const auto block = AttentionBlock::of(kTiles.rows(), shape.seq, shape.kv_heads, shape.batch, false);
  const int kv = block.head, sequence = block.sequence;
  const int local = warp_index() * 16 * M, first = block.first_row + local;  // of the warp's keys
  const int end = visible.end(shape, sequence, block.first_row + kTiles.rows() - 1);
  const WarpRows ends{visible.end(shape, sequence, first + lane_index())};
  const int whole = Visible::kDocuments ? ends.of(0) : 0;  // queries before it see all the warp's keys
  const int tiles = (end - block.first_row + kStep - 1) / kStep * shape.group();
  const float c = shape.scale * kLog2E;
  static_assert(kTiles.rows() % kStep == 0, "the first query that sees a key of the block begins a tile");
  QueryTile here{kv * shape.group(), block.first_row, block.first_row}, next = here;
  float dk[M][D / 8][4] = {}, dv[M][D / 8][4] = {};

  fetch_rows<kThreads>(shared.keys, shape.key(qkv, sequence, kv, block.first_row));
  fetch_rows<kThreads>(shared.values, shape.value(qkv, sequence, kv, block.first_row));
  fetch_queries<D>(shared.stages[0], qkv, dy, statistics, shape, sequence, here);
  copy_async_commit();
  for (int i = 0; i < tiles; i++, here = next) {
    copy_async_wait<0>();
    sync_threads();  // tile i has come, tile i - 1 is read
    next.advance(kStep, end);
    if (i + 1 < tiles) fetch_queries<D>(shared.stages[(i + 1) % 2], qkv, dy, statistics, shape, sequence, next);
    copy_async_commit();
    const auto& stage = shared.stages[i % 2];
    for (int strip = 0; strip < kStep; strip += kStrip) {
      const int distance = here.query + strip - first;
      if (distance + kStrip <= 0) continue;  // its last query sees none of the warp's keys
      const int query = here.query + strip;
      if (Visible::kDocuments && query >= whole && query >= ends.of(16 * M - 1)) continue;
      float p[M][kStrip / 8][4], ds[M][kStrip / 8][4];
      scores<D>(p, shared.keys.at[local], stage.queries.at[strip]);
      scores<D>(ds, shared.values.at[local], stage.grads.at[strip]);
      differentiate(p, ds, stage.lse2 + strip, stage.delta + strip, c, distance);
      if constexpr (Visible::kDocuments)
        if (query + kStrip > whole) separate(p, ds, ends, query);
      weigh<D>(dv, p, stage.grads.at[strip]);
      weigh<D>(dk, ds, stage.queries.at[strip]);
    }
  }
  float scale[M][2], one[M][2];
  UNROLL
  for (int m = 0; m < M; m++) scale[m][0] = scale[m][1] = shape.scale, one[m][0] = one[m][1] = 1.0f;
  store_rows<D>(shape.key(dqkv, sequence, kv, first), dk, scale, shared.keys.at[local]);
  store_rows<D>(shape.value(dqkv, sequence, kv, first), dv, one, shared.values.at[local]);
}

// --- dQ
// ---------------------------------------------------------------------------------------------------------------

template <int D>
struct QueryShared {
  static constexpr AttentionTiles kTiles = query_tiles(D);
  AttentionTile<kTiles.rows(), D> queries, grads;
  struct Stage {
    AttentionTile<kTiles.step, D> keys, values;
  } stages[2];
};

template <int D>
DEVICE void fetch_keys(typename QueryShared<D>::Stage& stage, const bf16* qkv, const AttentionShape& shape,
                       int sequence, int kv, int key) {
  constexpr int kThreads = query_tiles(D).threads();
  fetch_rows<kThreads>(stage.keys, shape.key(qkv, sequence, kv, key));
  fetch_rows<kThreads>(stage.values, shape.value(qkv, sequence, kv, key));
}

/** S and dP -> dS in the latter. `distance` = first key of the strip - first query of the warp. */
template <int M, int N>
DEVICE void differentiate_rows(const float (&s)[M][N][4], float (&ds)[M][N][4], const float (&lse2)[M][2],
                               const float (&delta)[M][2], float c, int distance) {
  const int g = lane_index() / 4, t = lane_index() % 4;
  const bool masked = distance + 8 * N > 1;  // the warp's first query does not see the strip's last key
  UNROLL
  for (int m = 0; m < M; m++) {
    UNROLL
    for (int n = 0; n < N; n++) {
      UNROLL
      for (int e = 0; e < 4; e++) {
        float weight = exp2_fast(s[m][n][e] * c - lse2[m][e / 2]);
        if (masked && distance + 8 * n + 2 * t + e % 2 > 16 * m + e / 2 * 8 + g) weight = 0.0f;
        ds[m][n][e] = weight * (ds[m][n][e] - delta[m][e / 2]);
      }
    }
  }
}

template <int D, class Visible>
__global__ void __launch_bounds__(query_tiles(D).threads(), 1)
    query_kernel(const bf16* qkv, const bf16* dy, bf16* dqkv, RowStatistics statistics, Visible visible,
                 AttentionShape shape) {
  constexpr AttentionTiles kTiles = query_tiles(D);
  constexpr int kThreads = kTiles.threads(), M = kTiles.blocks, kStep = kTiles.step, kStrip = kTiles.strip;
  auto& shared = shared_memory<QueryShared<D>>();
  const auto block = AttentionBlock::of(kTiles.rows(), shape.seq, shape.heads, shape.batch, true);
  const int kv = block.head / shape.group(), sequence = block.sequence;
  const int local = warp_index() * 16 * M, first = block.first_row + local;  // of the warp's queries
  const int end = block.first_row + kTiles.rows() < shape.seq ? block.first_row + kTiles.rows() : shape.seq;
  const int tiles = (end + kStep - 1) / kStep, begin = visible.start(shape, sequence, block.first_row) / kStep;
  const WarpRows starts{visible.start(shape, sequence, first + lane_index())};
  const int whole =
      Visible::kDocuments ? starts.of(16 * M - 1) : 0;  // from this key on, all queries of the warp see all
  const float c = shape.scale * kLog2E;
  float dq[M][D / 8][4] = {}, lse2[M][2], delta[M][2], scale[M][2];
  UNROLL
  for (int m = 0; m < M; m++) {
    UNROLL
    for (int half = 0; half < 2; half++) {
      const int64_t at = statistics.at(shape, sequence, block.head, first + 16 * m + 8 * half + lane_index() / 4);
      lse2[m][half] = statistics.lse2[at];
      delta[m][half] = statistics.delta[at];
      scale[m][half] = shape.scale;
    }
  }

  fetch_rows<kThreads>(shared.queries, shape.query(qkv, sequence, block.head, block.first_row));
  fetch_rows<kThreads>(shared.grads, shape.output(dy, sequence, block.head, block.first_row));
  fetch_keys<D>(shared.stages[begin % 2], qkv, shape, sequence, kv, begin * kStep);
  copy_async_commit();
  for (int i = begin; i < tiles; i++) {
    copy_async_wait<0>();
    sync_threads();  // tile i has come, tile i - 1 is read
    if (i + 1 < tiles) fetch_keys<D>(shared.stages[(i + 1) % 2], qkv, shape, sequence, kv, (i + 1) * kStep);
    copy_async_commit();
    const auto& stage = shared.stages[i % 2];
    for (int strip = 0; strip < kStep; strip += kStrip) {
      const int distance = i * kStep + strip - first;
      if (distance >= 16 * M) continue;  // the warp's last query does not see its first key
      const int key = i * kStep + strip;
      if (Visible::kDocuments && key < whole && key + kStrip <= starts.of(0)) continue;
      float s[M][kStrip / 8][4], ds[M][kStrip / 8][4];
      scores<D>(s, shared.queries.at[local], stage.keys.at[strip]);
      scores<D>(ds, shared.grads.at[local], stage.values.at[strip]);
      differentiate_rows(s, ds, lse2, delta, c, distance);
      if constexpr (Visible::kDocuments)
        if (key < whole) fill_before_documents(ds, starts, key, 0.0f);
      weigh<D>(dq, ds, stage.keys.at[strip]);
    }
  }
  store_rows<D>(shape.query(dqkv, sequence, block.head, first), dq, scale, shared.queries.at[local]);
}

// --- launchers
// --------------------------------------------------------------------------------------------------------

template <int D, class Visible>
void launch_backward(Stream& stream, const bf16* qkv, const bf16* dy, bf16* dqkv, const RowStatistics& statistics,
                     const Visible& visible, const AttentionShape& shape) {
  constexpr AttentionTiles kKeys = key_value_tiles(D), kQueries = query_tiles(D);
  static_assert(RowStatistics::kPadding % kKeys.step == 0 && RowStatistics::kPadding % kQueries.rows() == 0);
  launch(stream, key_value_kernel<D, Visible>,
         GridShape{{AttentionBlock::count(kKeys.rows(), shape.seq, shape.kv_heads, shape.batch), 1, 1},
                   static_cast<unsigned>(kKeys.threads()),
                   1,
                   sizeof(KeyValueShared<D>)},
         qkv, dy, dqkv, statistics, visible, shape);
  launch(stream, query_kernel<D, Visible>,
         GridShape{{AttentionBlock::count(kQueries.rows(), shape.seq, shape.heads, shape.batch), 1, 1},
                   static_cast<unsigned>(kQueries.threads()),
                   1,
                   sizeof(QueryShared<D>)},
         qkv, dy, dqkv, statistics, visible, shape);
}

template <class Visible>
bool backward_by_mma(const Context& ctx, const bf16* qkv, const bf16* dy, bf16* dqkv, const RowStatistics& statistics,
                     const Visible& visible, bool any_order, std::byte* workspace, const AttentionShape& shape) {
  Stream& stream = ctx.stream;
  if (!is_aligned(qkv, 16) || !is_aligned(dy, 16) || !is_aligned(dqkv, 16)) return false;
  if (on_hopper(ctx.target, shape)) {
    hopper_attention_backward(stream, ctx.target, qkv, dy, dqkv, statistics, visible, any_order, workspace, shape);
    return true;
  }
  switch (shape.head_dim) {
#define THALWEG_CASE(D)                                                    \
  case D:                                                                  \
    launch_backward<D>(stream, qkv, dy, dqkv, statistics, visible, shape); \
    return true;
    THALWEG_ATTENTION_HEAD_DIMS(THALWEG_CASE)
#undef THALWEG_CASE
    default:
      return false;
  }
}

/** `workspace`: what follows the row statistics and, with documents, their ends. */
template <class T, class Visible>
void backward_of(const ops::AttentionBackward& p, Context& ctx, const Visible& visible, std::byte* workspace,
                 const AttentionShape& shape) {
  const RowStatistics statistics = make_statistics<T>(p, ctx, shape);
  const auto *qkv = p.qkv.as<const T>(), *dy = p.dy.as<const T>();
  auto* dqkv = p.dqkv.as<T>();
  if constexpr (std::is_same_v<T, bf16>)
    if (backward_by_mma(ctx, qkv, dy, dqkv, statistics, visible, p.any_order != 0, workspace, shape)) return;
  fma::attention_backward(ctx.stream, qkv, dy, dqkv, statistics, visible, shape);
}

template <class T>
void backward_of(const ops::AttentionBackward& p, Context& ctx) {
  const AttentionShape shape = attention_shape(p);
  std::byte* workspace = ctx.workspace + RowStatistics::bytes(shape);
  if (!p.starts.present()) return backward_of<T>(p, ctx, WholeSequences{}, workspace, shape);
  const Documents documents = document_ends(ctx.stream, p.starts.as<const int>(), workspace, shape);
  backward_of<T>(p, ctx, documents, workspace + Documents::bytes(shape), shape);
}

/** Whether dQ is added up in memory, by the kernel of compute capability 9.0. */
bool sums_in_memory(const ops::AttentionBackward& p, const Target& target) {
  return p.qkv.dtype == DType::BF16 && on_hopper(target, attention_shape(p));
}

}  // namespace

void attention_backward(const ops::AttentionBackward& p, Context& ctx) {
  p.qkv.dtype == DType::F32 ? backward_of<float>(p, ctx) : backward_of<bf16>(p, ctx);
}

size_t attention_backward_workspace(const ops::AttentionBackward& p, const Target& target) {
  const AttentionShape shape = attention_shape(p);
  return RowStatistics::bytes(shape) + (p.starts.present() ? Documents::bytes(shape) : 0) +
         (sums_in_memory(p, target) ? hopper_backward_workspace(shape) : 0);
}

bool adds_in_any_order(const ops::AttentionBackward& p, const Target& target) {
  return p.any_order != 0 && sums_in_memory(p, target);
}

}  // namespace thalweg::cuda
