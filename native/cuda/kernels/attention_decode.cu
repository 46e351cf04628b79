#include "native/cuda/kernels.h"
#include "native/cuda/launch.h"
#include "native/cuda/ptx/math.h"
#include "native/cuda/ptx/thread.h"
#include "native/cuda/reduce.h"

/**
 * attentionDecode: one new token per sequence. Its key and value go to index t = cacheLength of the caches; y =
 * softmax( scale q K[0..t]^T) V[0..t] per query head, K and V of its kv head.
 *
 * Bound by memory: 2 (t + 1) D elements of cache per kv head, read once for all query heads of the group. One sequence
 * alone has too few heads to fill a GPU, so the cache is cut into spans of 128 positions (flash decoding, Dao et al.
 * 2023): a block takes one span for up to 8 query heads of a group and writes its maximum, sum and weighted values, and
 * a second kernel joins the spans in their order. t is known only on the device: the grid covers the capacity, and
 * blocks of spans that no position has reached leave at once.
 *
 *   K rows: D / 8 lanes of a warp read one row in 16-byte parts, so a warp reads 32 / (D / 8) rows at a time;
 *   scores [8 heads, 128] in shared memory; then each warp does the softmax of its heads; V is read as K is.
 */
namespace thalweg::cuda {

namespace {

constexpr int kThreads = 128, kWarps = kThreads / kWarp, kSpan = 128, kHeads = 8;

struct Shape {
  int rows, heads, kv_heads, head_dim, capacity, spans;
  float scale;
  int lanes;  // of a warp that share a row of the cache: a power of two

  HOST_DEVICE int group() const { return heads / kv_heads; }
  HOST_DEVICE int head_blocks() const { return (group() + kHeads - 1) / kHeads; }
  /** fp32 of one span of one head: weighted values, maximum, sum. */
  HOST_DEVICE int partial() const { return head_dim + 2; }
};

template <class T>
struct Operands {
  const T* qkv;
  T *y, *k_cache, *v_cache;
  const int32_t* integers;
  float* partials;  // [rows, heads, spans, partial()]
  Fault* fault;
};

/** Positions with the new one; 0 where the caches have no room for it. */
DEVICE int length_of(const int32_t* integers, int capacity) {
  const int cached = integers[ops::kIntegerCacheLength];
  return cached < 0 || cached >= capacity ? 0 : cached + 1;
}

/** What one block reads: rows `begin` to `end` of a cache, the last of all from qkv, where the new token's row is. */
template <class T>
struct Span {
  const T *cache, *fresh;
  int64_t stride;
  int begin, end, length;
  DEVICE const T* row(int position) const {
    return position == length - 1 ? fresh : cache + static_cast<int64_t>(position) * stride;
  }
};

struct Shared {
  float scores[kHeads][kSpan];
  float tops[kHeads], sums[kHeads];
};

/** shared.scores[h][position - begin] = c q_h . k. q: rows of head_dim. */
template <class T, int N>
DEVICE void score_span(Shared& shared, const T* q, int heads, const Span<T>& keys, const Shape& shape) {
  const int per_warp = kWarp / shape.lanes, lane = lane_index() % shape.lanes;
  const int own = warp_index() * per_warp + lane_index() / shape.lanes;
  for (int start = keys.begin; start < keys.end; start += kWarps * per_warp) {
    const int position = start + own;
    float sum[kHeads] = {};
    if (position < keys.end) {
      const T* key = keys.row(position);
      for (int d = lane * N; d < shape.head_dim; d += shape.lanes * N) {
        const Vector<T, N> k = load<N>(key + d);
        UNROLL
        for (int h = 0; h < kHeads; h++) {
          if (h >= heads) continue;
          const Vector<T, N> x = load<N>(q + h * shape.head_dim + d);
          UNROLL
          for (int i = 0; i < N; i++) sum[h] += to_float(x[i]) * to_float(k[i]);
        }
      }
    }
    UNROLL
    for (int h = 0; h < kHeads; h++) {
      if (h >= heads) continue;
      for (int mask = shape.lanes / 2; mask > 0; mask /= 2) sum[h] += shuffle_xor(sum[h], mask);
      if (lane == 0 && position < keys.end) shared.scores[h][position - keys.begin] = sum[h] * (shape.scale * kLog2E);
    }
  }
}

/** Scores -> 2^(score - maximum), with maximum and sum: a warp per head. */
DEVICE void soften_span(Shared& shared, int heads, int count) {
  for (int h = warp_index(); h < heads; h += kWarps) {
    float top = -INFINITY, sum = 0.0f;
    for (int i = lane_index(); i < count; i += kWarp) top = fmaxf(top, shared.scores[h][i]);
    top = warp_max(top);
    for (int i = lane_index(); i < count; i += kWarp) {
      const float weight = exp2_fast(shared.scores[h][i] - top);
      shared.scores[h][i] = weight;
      sum += weight;
    }
    sum = warp_sum(sum);
    if (lane_index() == 0) {
      shared.tops[h] = top;
      shared.sums[h] = sum;
    }
  }
}

/** partials of each head: the span's values weighted by shared.scores. A warp takes columns, its lanes positions. */
template <class T, int N>
DEVICE void weigh_span(const Shared& shared, float* partials, int64_t head_stride, int heads, const Span<T>& values,
                       const Shape& shape) {
  const int lanes = shape.lanes < kWarps ? 1 : shape.lanes / kWarps, per_warp = kWarp / lanes;
  for (int start = warp_index() * lanes * N; start < shape.head_dim; start += kWarps * lanes * N) {
    const int d = start + lane_index() % lanes * N;
    float sum[kHeads][N] = {};
    for (int i = lane_index() / lanes; i < values.end - values.begin; i += per_warp) {
      if (d >= shape.head_dim) break;
      const Vector<T, N> v = load<N>(values.row(values.begin + i) + d);
      UNROLL
      for (int h = 0; h < kHeads; h++) {
        if (h >= heads) continue;
        UNROLL
        for (int e = 0; e < N; e++) sum[h][e] += shared.scores[h][i] * to_float(v[e]);
      }
    }
    UNROLL
    for (int h = 0; h < kHeads; h++) {
      if (h >= heads) continue;
      UNROLL
      for (int e = 0; e < N; e++) {
        for (int mask = kWarp / 2; mask >= lanes; mask /= 2) sum[h][e] += shuffle_xor(sum[h][e], mask);
        if (lane_index() < lanes && d < shape.head_dim) partials[h * head_stride + d + e] = sum[h][e];
      }
    }
  }
}

template <class T, int N>
__global__ void __launch_bounds__(kThreads, 4) span_kernel(Operands<T> o, Shape shape) {
  auto& shared = shared_memory<Shared>();
  const int length = length_of(o.integers, shape.capacity);
  const bool first_block = blockIdx.x == 0 && blockIdx.y == 0;
  if (length == 0 && first_block && threadIdx.x == 0)
    *o.fault = {Fault::kCacheLength, 0, o.integers[ops::kIntegerCacheLength], shape.capacity};
  const int begin = static_cast<int>(blockIdx.y) * kSpan, end = begin + kSpan < length ? begin + kSpan : length;
  if (begin >= end) return;
  const int head_block = static_cast<int>(blockIdx.x) % shape.head_blocks();
  const int index = static_cast<int>(blockIdx.x) / shape.head_blocks();
  const int kv = index % shape.kv_heads, row = index / shape.kv_heads;
  const int head = kv * shape.group() + head_block * kHeads;
  const int left = shape.group() - head_block * kHeads, heads = left < kHeads ? left : kHeads;

  const int dim = shape.head_dim;
  const T* const token = o.qkv + static_cast<int64_t>(row) * (shape.heads + 2 * shape.kv_heads) * dim;
  const int64_t stride = static_cast<int64_t>(shape.kv_heads) * dim;
  const int64_t cache = static_cast<int64_t>(row) * shape.capacity * stride + static_cast<int64_t>(kv) * dim;
  const T* const key = token + static_cast<int64_t>(shape.heads + kv) * dim;
  const T* const value = key + stride;
  if (end == length && head_block == 0)
    for (int d = static_cast<int>(threadIdx.x); d < dim; d += kThreads) {
      o.k_cache[cache + (length - 1) * stride + d] = key[d];
      o.v_cache[cache + (length - 1) * stride + d] = value[d];
    }

  score_span<T, N>(shared, token + static_cast<int64_t>(head) * dim, heads,
                   {o.k_cache + cache, key, stride, begin, end, length}, shape);
  sync_threads();  // the scores stand
  soften_span(shared, heads, end - begin);
  sync_threads();  // the weights stand
  const int64_t head_stride = static_cast<int64_t>(shape.spans) * shape.partial();
  float* partials = o.partials + (static_cast<int64_t>(row) * shape.heads + head) * head_stride +
                    static_cast<int64_t>(blockIdx.y) * shape.partial();
  weigh_span<T, N>(shared, partials, head_stride, heads, {o.v_cache + cache, value, stride, begin, end, length}, shape);
  if (static_cast<int>(threadIdx.x) < heads) {
    float* const rest = partials + threadIdx.x * head_stride + dim;
    rest[0] = shared.tops[threadIdx.x];
    rest[1] = shared.sums[threadIdx.x];
  }
}

/** y of a head from the partials of its spans: a warp per (row, head). */
template <class T>
__global__ void __launch_bounds__(kThreads) join_kernel(Operands<T> o, Shape shape) {
  const int length = length_of(o.integers, shape.capacity), spans = (length + kSpan - 1) / kSpan;
  const int64_t index = static_cast<int64_t>(blockIdx.x) * kWarps + warp_index();
  if (spans == 0 || index >= static_cast<int64_t>(shape.rows) * shape.heads) return;
  const float* const partials = o.partials + index * shape.spans * shape.partial();
  const float* const statistics = partials + shape.head_dim;
  float top = -INFINITY, total = 0.0f;
  for (int s = 0; s < spans; s++) top = fmaxf(top, statistics[s * shape.partial()]);
  for (int s = 0; s < spans; s++)
    total += statistics[s * shape.partial() + 1] * exp2_fast(statistics[s * shape.partial()] - top);
  for (int d = lane_index(); d < shape.head_dim; d += kWarp) {
    float sum = 0.0f;
    for (int s = 0; s < spans; s++)
      sum += partials[s * shape.partial() + d] * exp2_fast(statistics[s * shape.partial()] - top);
    o.y[index * shape.head_dim + d] = from_float<T>(sum / total);
  }
}

Shape shape_of(const ops::AttentionDecode& p) {
  return {static_cast<int>(p.rows),
          static_cast<int>(p.heads),
          static_cast<int>(p.kv_heads),
          static_cast<int>(p.head_dim),
          static_cast<int>(p.capacity),
          static_cast<int>(ceil_div(p.capacity, kSpan)),
          p.scale,
          1};
}

template <class T, int N>
void decode_by(const Operands<T>& operands, Shape shape, Stream& stream) {
  while (shape.lanes < kWarp && shape.lanes * N < shape.head_dim) shape.lanes *= 2;
  const auto blocks = static_cast<unsigned>(shape.rows * shape.kv_heads * shape.head_blocks());
  launch(stream, span_kernel<T, N>,
         GridShape{{blocks, static_cast<unsigned>(shape.spans), 1}, kThreads, 1, sizeof(Shared)}, operands, shape);
  launch(stream, join_kernel<T>,
         GridShape{{static_cast<unsigned>(ceil_div(int64_t{shape.rows} * shape.heads, kWarps)), 1, 1}, kThreads},
         operands, shape);
}

template <class T>
void decode(const ops::AttentionDecode& p, Context& ctx) {
  const Operands<T> operands{p.qkv.as<const T>(),
                             p.y.as<T>(),
                             p.k_cache.as<T>(),
                             p.v_cache.as<T>(),
                             ctx.integers,
                             reinterpret_cast<float*>(ctx.workspace),
                             ctx.fault};
  if (p.head_dim % kVector<T> == 0 && is_aligned(operands.qkv, 16) && is_aligned(operands.k_cache, 16) &&
      is_aligned(operands.v_cache, 16))
    decode_by<T, kVector<T>>(operands, shape_of(p), ctx.stream);
  else
    decode_by<T, 1>(operands, shape_of(p), ctx.stream);
}

}  // namespace

void attention_decode(const ops::AttentionDecode& p, Context& ctx) {
  p.qkv.dtype == DType::F32 ? decode<float>(p, ctx) : decode<bf16>(p, ctx);
}

size_t attention_decode_workspace(const ops::AttentionDecode& p, const Target&) {
  const Shape shape = shape_of(p);
  return static_cast<size_t>(p.rows) * static_cast<size_t>(p.heads) * static_cast<size_t>(shape.spans) *
         static_cast<size_t>(shape.partial()) * sizeof(float);
}

}  // namespace thalweg::cuda
