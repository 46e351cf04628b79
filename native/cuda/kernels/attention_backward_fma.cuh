#pragma once
#include "native/cuda/kernels/attention_fma.cuh"

/** The gradient by multiply-adds, the plan of attention_backward.cu: one kernel for dK and dV, one for dQ. */
namespace thalweg::cuda::fma {

/** p = 2^(c s - lse2) where the query may see the key, else 0. */
DEVICE float probability(float s, float c, float lse2, bool visible) {
  return visible ? exp2_fast(s * c - lse2) : 0.0f;
}

/** A block: 64 keys of a kv head, over its group's heads and the queries that see them. S is [keys, queries]. */
template <class T, int Panels, class Visible>
__global__ void __launch_bounds__(kThreads, 1)
    key_value_kernel(const T* qkv, const T* dy, T* dqkv, RowStatistics statistics, Visible visible,
                     AttentionShape shape) {
  Shared& shared = shared_memory<Shared>();
  const auto block = AttentionBlock::of(kTile, shape.seq, shape.kv_heads, shape.batch, false);
  const int column = static_cast<int>(blockIdx.y) * Panels * kTile, dim = shape.head_dim;
  const int kv = block.head, sequence = block.sequence, first = block.first_row + 4 * thread_y();
  const auto keys = shape.key(qkv, sequence, kv, block.first_row);
  const auto values = shape.value(qkv, sequence, kv, block.first_row);
  float dk[4][4 * Panels] = {}, dv[4][4 * Panels] = {};
  const int queries_end = visible.end(shape, sequence, block.first_row + kTile - 1);
  for (int head = kv * shape.group(); head < (kv + 1) * shape.group(); head++)
    for (int query = block.first_row; query < queries_end; query += kTile) {
      const auto queries = shape.query(qkv, sequence, head, query);
      const auto grads = shape.output(dy, sequence, head, query);
      float p[4][4], ds[4][4];
      scores(p, shared, keys, queries, dim);
      scores(ds, shared, values, grads, dim);
      UNROLL
      for (int j = 0; j < 4; j++) {
        const int at = query + thread_x() + 16 * j;
        const int64_t statistic = statistics.at(shape, sequence, head, at);
        const float lse2 = statistics.lse2[statistic], delta = statistics.delta[statistic];
        UNROLL
        for (int i = 0; i < 4; i++) {
          const bool seen = first + i <= at && (!Visible::kDocuments || at < visible.end(shape, sequence, first + i));
          p[i][j] = probability(p[i][j], shape.scale * kLog2E, lse2, seen);
          ds[i][j] = p[i][j] * (ds[i][j] - delta);
        }
      }
      set_weights(shared, p);
      weigh<Panels>(dv, shared, grads, column, dim);
      sync_threads();
      set_weights(shared, ds);
      weigh<Panels>(dk, shared, queries, column, dim);
    }
  const float one[4] = {1.0f, 1.0f, 1.0f, 1.0f}, scale[4] = {shape.scale, shape.scale, shape.scale, shape.scale};
  store_rows<Panels>(shape.key(dqkv, sequence, kv, block.first_row), dk, scale, column, dim);
  store_rows<Panels>(shape.value(dqkv, sequence, kv, block.first_row), dv, one, column, dim);
}

/** A block: 64 queries of a head, over the keys they see. S is [queries, keys]. */
template <class T, int Panels, class Visible>
__global__ void __launch_bounds__(kThreads, 1)
    query_kernel(const T* qkv, const T* dy, T* dqkv, RowStatistics statistics, Visible visible, AttentionShape shape) {
  Shared& shared = shared_memory<Shared>();
  const auto block = AttentionBlock::of(kTile, shape.seq, shape.heads, shape.batch, true);
  const int column = static_cast<int>(blockIdx.y) * Panels * kTile, dim = shape.head_dim;
  const int kv = block.head / shape.group(), sequence = block.sequence, first = block.first_row + 4 * thread_y();
  const auto queries = shape.query(qkv, sequence, block.head, block.first_row);
  const auto grads = shape.output(dy, sequence, block.head, block.first_row);
  const int64_t statistic = statistics.at(shape, sequence, block.head, first);
  float dq[4][4 * Panels] = {};
  const int begin = visible.start(shape, sequence, block.first_row) / kTile * kTile;
  for (int key = begin; key <= block.first_row; key += kTile) {
    const auto keys = shape.key(qkv, sequence, kv, key);
    float p[4][4], ds[4][4];
    scores(p, shared, queries, keys, dim);
    scores(ds, shared, grads, shape.value(qkv, sequence, kv, key), dim);
    UNROLL
    for (int i = 0; i < 4; i++) {
      const float lse2 = statistics.lse2[statistic + i], delta = statistics.delta[statistic + i];
      const int from = visible.start(shape, sequence, first + i);
      UNROLL
      for (int j = 0; j < 4; j++) {
        const int at = key + thread_x() + 16 * j;
        const float weight = probability(p[i][j], shape.scale * kLog2E, lse2, at <= first + i && at >= from);
        ds[i][j] = weight * (ds[i][j] - delta);
      }
    }
    set_weights(shared, ds);
    weigh<Panels>(dq, shared, keys, column, dim);
  }
  const float scale[4] = {shape.scale, shape.scale, shape.scale, shape.scale};
  store_rows<Panels>(shape.query(dqkv, sequence, block.head, block.first_row), dq, scale, column, dim);
}

template <class T, class Visible>
void attention_backward(Stream& stream, const T* qkv, const T* dy, T* dqkv, const RowStatistics& statistics,
                        const Visible& visible, const AttentionShape& shape) {
  const unsigned columns = column_blocks(shape.head_dim);
  const GridShape keys{
      {AttentionBlock::count(kTile, shape.seq, shape.kv_heads, shape.batch), columns, 1}, kThreads, 1, sizeof(Shared)};
  const GridShape queries{
      {AttentionBlock::count(kTile, shape.seq, shape.heads, shape.batch), columns, 1}, kThreads, 1, sizeof(Shared)};
  if (panels_of(shape.head_dim) == 1) {
    launch(stream, key_value_kernel<T, 1, Visible>, keys, qkv, dy, dqkv, statistics, visible, shape);
    launch(stream, query_kernel<T, 1, Visible>, queries, qkv, dy, dqkv, statistics, visible, shape);
  } else {
    launch(stream, key_value_kernel<T, 2, Visible>, keys, qkv, dy, dqkv, statistics, visible, shape);
    launch(stream, query_kernel<T, 2, Visible>, queries, qkv, dy, dqkv, statistics, visible, shape);
  }
}

}  // namespace thalweg::cuda::fma
