#include "native/cuda/kernels.h"
#include "native/cuda/kernels/attention_forward_fma.cuh"
#include "native/cuda/kernels/attention_mma.cuh"
#include "native/cuda/kernels/hopper_attention.h"

/**
 * attention: packed rows [q heads | k heads | v heads] -> y = softmax(scale q k^T) v per query head, causal, and the
 * natural log-sum-exp of each row of scaled scores, for the gradient.
 *
 * Floor: 4 D FLOPs for each of the seq (seq + 1) / 2 visible pairs of a head; q, k, v and y move once, so beyond some
 * hundred positions the tensor cores are the bound, and seq^2 must never reach memory. Plan (FlashAttention-2, Dao
 * 2023): a block owns a tile of queries and streams the keys and values past it, left to right up to the diagonal:
 *
 *              keys 0  64 128 192          each warp owns 32 rows of the tile:
 *    queries 0   [\] [\]                     S = Q K^T            ldmatrix, mma
 *          128   [ ] [ ] [\] [\]             P = 2^(c S - max)    in registers; c = scale log2(e)
 *          256   [ ] [ ] [ ] [ ] [\] [\]     O = O + P V          P is its own A fragment
 *                                           \ masked, the only tiles that compare; right of it nothing is loaded
 *
 * The next tile of K and V is copied into the second of two stages meanwhile: one barrier a tile. The sum of a row is
 * divided out at the end. The maximum that is subtracted need not be the true one, only near it: it moves when a row of
 * the warp outgrows it by 2^8 (so P <= 2^8, the same relative error in bf16), which after the first tiles is rare, and
 * saves rescaling O (FlashAttention-4). With documents (attention_documents.h) a block begins at the tile of the first
 * key its first query sees, and each warp masks the tiles that some row of it does not see whole. Tiles and their
 * reasons: attention_tiles.h. On compute capability 9.0 the head dims of hopper_attention_tiles.h go to
 * hopper_attention_forward.cu.
 */
namespace thalweg::cuda {

namespace {

constexpr float kHeadroom = 8.0f;

template <int D>
struct ForwardShared {
  static constexpr AttentionTiles kTiles = forward_tiles(D);
  AttentionTile<kTiles.rows(), D> queries;
  struct Stage {
    AttentionTile<kTiles.step, D> keys, values;
  } stages[2];
};

template <int D>
DEVICE void fetch_keys(typename ForwardShared<D>::Stage& stage, const bf16* qkv, const AttentionShape& shape,
                       int sequence, int kv, int key) {
  constexpr int kThreads = forward_tiles(D).threads();
  fetch_rows<kThreads>(stage.keys, shape.key(qkv, sequence, kv, key));
  fetch_rows<kThreads>(stage.values, shape.value(qkv, sequence, kv, key));
}

/** What a warp keeps of its 16 M rows: thread 4 g + t has rows g and g + 8 of each block. */
template <int D, int M>
struct Rows {
  float out[M][D / 8][4] = {};
  float top[M][2];       // subtracted from scores in log2 units
  float sum[M][2] = {};  // of this thread's columns

  DEVICE explicit Rows(float lowest) {
    UNROLL
    for (int m = 0; m < M; m++) top[m][0] = top[m][1] = lowest;
  }
};

/** Hides what lies after a query: `distance` = first key - first row of the warp. */
template <int M, int N>
DEVICE void mask(float (&s)[M][N][4], int distance) {
  const int g = lane_index() / 4, t = lane_index() % 4;
  UNROLL
  for (int m = 0; m < M; m++) {
    UNROLL
    for (int n = 0; n < N; n++) {
      UNROLL
      for (int e = 0; e < 4; e++)
        if (distance + 8 * n + 2 * t + e % 2 > 16 * m + e / 2 * 8 + g) s[m][n][e] = -INFINITY;
    }
  }
}

/** Moves the maxima of all rows of the warp when one of them must. */
template <int D, int M, int N>
DEVICE void raise_top(Rows<D, M>& rows, const float (&s)[M][N][4], float c) {
  float most[M][2];
  bool outgrown = false;
  UNROLL
  for (int m = 0; m < M; m++) {
    UNROLL
    for (int half = 0; half < 2; half++) {
      float largest = s[m][0][2 * half];
      UNROLL
      for (int n = 0; n < N; n++) largest = fmaxf(largest, fmaxf(s[m][n][2 * half], s[m][n][2 * half + 1]));
      most[m][half] = c * largest;
      outgrown = outgrown || most[m][half] > rows.top[m][half] + kHeadroom;
    }
  }
  if (warp_ballot(outgrown) == 0) return;
  UNROLL
  for (int m = 0; m < M; m++) {
    UNROLL
    for (int half = 0; half < 2; half++) {
      float top = fmaxf(rows.top[m][half], most[m][half]);
      top = fmaxf(top, shuffle_xor(top, 1));
      top = fmaxf(top, shuffle_xor(top, 2));
      const float shrink = exp2_fast(rows.top[m][half] - top);
      rows.top[m][half] = top;
      rows.sum[m][half] *= shrink;
      UNROLL
      for (int d = 0; d < D / 8; d++) {
        rows.out[m][d][2 * half] *= shrink;
        rows.out[m][d][2 * half + 1] *= shrink;
      }
    }
  }
}

/** Scores -> weights, summed into rows.sum. */
template <int D, int M, int N>
DEVICE void softmax(Rows<D, M>& rows, float (&s)[M][N][4], float c) {
  raise_top(rows, s, c);
  UNROLL
  for (int m = 0; m < M; m++) {
    UNROLL
    for (int n = 0; n < N; n++) {
      UNROLL
      for (int e = 0; e < 4; e++) {
        s[m][n][e] = exp2_fast(s[m][n][e] * c - rows.top[m][e / 2]);
        rows.sum[m][e / 2] += s[m][n][e];
      }
    }
  }
}

/** Stores lse of the warp's rows, the first of which is `first`; returns 1 / sum. */
template <int D, int M>
DEVICE void finish(Rows<D, M>& rows, float (&factor)[M][2], float* lse, const AttentionShape& shape,
                   const AttentionBlock& block, int first) {
  const int g = lane_index() / 4, t = lane_index() % 4;
  UNROLL
  for (int m = 0; m < M; m++) {
    UNROLL
    for (int half = 0; half < 2; half++) {
      float sum = rows.sum[m][half];
      sum += shuffle_xor(sum, 1);
      sum += shuffle_xor(sum, 2);
      factor[m][half] = 1.0f / sum;
      const int row = first + 16 * m + 8 * half + g;
      if (t == 0 && row < shape.seq)
        lse[(static_cast<int64_t>(block.sequence) * shape.seq + row) * shape.heads + block.head] =
            kLn2 * (rows.top[m][half] + log2_fast(sum));
    }
  }
}

template <int D, class Visible>
__global__ void __launch_bounds__(forward_tiles(D).threads(), 1)
    attention_kernel(const bf16* qkv, bf16* y, float* lse, Visible visible, AttentionShape shape) {
  constexpr AttentionTiles kTiles = forward_tiles(D);
  constexpr int kThreads = kTiles.threads(), M = kTiles.blocks, kStep = kTiles.step;
  static_assert(kTiles.strip == kStep, "the scores of a whole tile of keys stand in registers");
  auto& shared = shared_memory<ForwardShared<D>>();
  const auto block = AttentionBlock::of(kTiles.rows(), shape.seq, shape.heads, shape.batch, true);
  const int kv = block.head / shape.group(), sequence = block.sequence;
  const int local = warp_index() * 16 * M, first = block.first_row + local;  // of the warp's rows
  const int end = block.first_row + kTiles.rows() < shape.seq ? block.first_row + kTiles.rows() : shape.seq;
  const float c = shape.scale * kLog2E;
  const int begin = visible.start(shape, sequence, block.first_row) / kStep * kStep;
  const WarpRows starts{visible.start(shape, sequence, first + lane_index())};
  const int whole = Visible::kDocuments ? starts.of(16 * M - 1) : 0;  // from this key on, all rows of the warp see all
  Rows<D, M> rows(Visible::kDocuments ? kNothingSeen : -INFINITY);

  fetch_rows<kThreads>(shared.queries, shape.query(qkv, sequence, block.head, block.first_row));
  fetch_keys<D>(shared.stages[0], qkv, shape, sequence, kv, begin);
  copy_async_commit();
  for (int key = begin, i = 0; key < end; key += kStep, i ^= 1) {
    copy_async_wait<0>();
    sync_threads();  // these keys have come, and the last are read
    if (key + kStep < end) fetch_keys<D>(shared.stages[i ^ 1], qkv, shape, sequence, kv, key + kStep);
    copy_async_commit();
    if (key >= first + 16 * M) continue;  // the warp's last row does not see this tile's first key
    if (Visible::kDocuments && key < whole && key + kStep <= starts.of(0)) continue;  // none sees any
    float s[M][kStep / 8][4];
    scores<D>(s, shared.queries.at[local], shared.stages[i].keys.at[0]);
    if (key + kStep > first + 1) mask(s, key - first);
    if constexpr (Visible::kDocuments)
      if (key < whole) fill_before_documents(s, starts, key, -INFINITY);
    softmax(rows, s, c);
    weigh<D>(rows.out, s, shared.stages[i].values.at[0]);
  }
  float factor[M][2];
  finish(rows, factor, lse, shape, block, first);
  store_rows<D>(shape.output(y, sequence, block.head, first), rows.out, factor, shared.queries.at[local]);
}

template <int D, class Visible>
void launch_attention(Stream& stream, const bf16* qkv, bf16* y, float* lse, const Visible& visible,
                      const AttentionShape& shape) {
  constexpr AttentionTiles kTiles = forward_tiles(D);
  launch(stream, attention_kernel<D, Visible>,
         GridShape{{AttentionBlock::count(kTiles.rows(), shape.seq, shape.heads, shape.batch), 1, 1},
                   static_cast<unsigned>(kTiles.threads()),
                   1,
                   sizeof(ForwardShared<D>)},
         qkv, y, lse, visible, shape);
}

/** The tensor-core kernel of this device and head dim, if there is one. A scale below zero would turn maxima into
 * minima. */
template <class Visible>
bool attention_by_mma(const Context& ctx, const bf16* qkv, bf16* y, float* lse, const Visible& visible,
                      const AttentionShape& shape) {
  Stream& stream = ctx.stream;
  if (!is_aligned(qkv, 16) || !is_aligned(y, 16) || !(shape.scale > 0)) return false;
  if (on_hopper(ctx.target, shape)) {
    hopper_attention(stream, ctx.target, qkv, y, lse, visible, ctx.workspace, shape);
    return true;
  }
  switch (shape.head_dim) {
#define THALWEG_CASE(D)                                       \
  case D:                                                     \
    launch_attention<D>(stream, qkv, y, lse, visible, shape); \
    return true;
    THALWEG_ATTENTION_HEAD_DIMS(THALWEG_CASE)
#undef THALWEG_CASE
    default:
      return false;
  }
}

template <class Visible>
void attention_of(const ops::Attention& p, Context& ctx, const Visible& visible) {
  const AttentionShape shape = attention_shape(p);
  auto* lse = p.lse.as<float>();
  if (p.qkv.dtype == DType::F32)
    fma::attention(ctx.stream, p.qkv.as<const float>(), p.y.as<float>(), lse, visible, shape);
  else if (!attention_by_mma(ctx, p.qkv.as<const bf16>(), p.y.as<bf16>(), lse, visible, shape))
    fma::attention(ctx.stream, p.qkv.as<const bf16>(), p.y.as<bf16>(), lse, visible, shape);
}

}  // namespace

void attention(const ops::Attention& p, Context& ctx) {
  if (p.starts.present())
    attention_of(p, ctx, Documents{p.starts.as<const int>(), nullptr});
  else
    attention_of(p, ctx, WholeSequences{});
}
size_t attention_workspace(const ops::Attention& p, const Target& target) {
  return p.qkv.dtype == DType::BF16 && on_hopper(target, attention_shape(p)) ? kHopperForwardWorkspace : 0;
}

}  // namespace thalweg::cuda
