#pragma once
#include "native/cuda/kernels/attention_fma.cuh"

/** The forward pass by multiply-adds: a block per tile of 64 queries of a head, online softmax over tiles of 64 keys.
 */
namespace thalweg::cuda::fma {

/** Scores in log2 units -> weights in place, and the running maximum and sum of each row; returns what earlier sums
 * shrink by. Rows lie across 16 lanes. */
DEVICE float softmax_row(float (&s)[4], float& top, float& sum) {
  float most = fmaxf(fmaxf(s[0], s[1]), fmaxf(s[2], s[3]));
  UNROLL
  for (int mask = 8; mask > 0; mask /= 2) most = fmaxf(most, shuffle_xor(most, mask));
  const float next = fmaxf(top, most), shrink = exp2_fast(top - next);
  top = next;
  sum *= shrink;
  UNROLL
  for (int j = 0; j < 4; j++) {
    s[j] = exp2_fast(s[j] - next);
    sum += s[j];
  }
  return shrink;
}

template <class T, int Panels, class Visible>
__global__ void __launch_bounds__(kThreads, 1)
    attention_kernel(const T* qkv, T* y, float* lse, Visible visible, AttentionShape shape) {
  Shared& shared = shared_memory<Shared>();
  const auto block = AttentionBlock::of(kTile, shape.seq, shape.heads, shape.batch, true);
  const int column = static_cast<int>(blockIdx.y) * Panels * kTile, dim = shape.head_dim;
  const int kv = block.head / shape.group(), first = block.first_row + 4 * thread_y();
  const auto queries = shape.query(qkv, block.sequence, block.head, block.first_row);
  float out[4][4 * Panels] = {}, top[4], sum[4] = {};
  for (float& t : top) t = Visible::kDocuments ? kNothingSeen : -INFINITY;
  const int begin = visible.start(shape, block.sequence, block.first_row) / kTile * kTile;
  for (int key = begin; key <= block.first_row; key += kTile) {
    float s[4][4];
    scores(s, shared, queries, shape.key(qkv, block.sequence, kv, key), dim);
    UNROLL
    for (int i = 0; i < 4; i++) {
      const int from = visible.start(shape, block.sequence, first + i);
      UNROLL
      for (int j = 0; j < 4; j++) {
        const int at = key + thread_x() + 16 * j;
        s[i][j] = at > first + i || at < from ? -INFINITY : s[i][j] * (shape.scale * kLog2E);
      }
      const float shrink = softmax_row(s[i], top[i], sum[i]);
      UNROLL
      for (int c = 0; c < 4 * Panels; c++) out[i][c] *= shrink;
    }
    set_weights(shared, s);
    weigh<Panels>(out, shared, shape.value(qkv, block.sequence, kv, key), column, dim);
  }
  float factor[4];
  UNROLL
  for (int i = 0; i < 4; i++) {
    UNROLL
    for (int mask = 8; mask > 0; mask /= 2) sum[i] += shuffle_xor(sum[i], mask);
    factor[i] = 1.0f / sum[i];
    if (thread_x() == 0 && column == 0 && first + i < shape.seq)
      lse[(static_cast<int64_t>(block.sequence) * shape.seq + first + i) * shape.heads + block.head] =
          kLn2 * (top[i] + log2_fast(sum[i]));
  }
  store_rows<Panels>(shape.output(y, block.sequence, block.head, block.first_row), out, factor, column, dim);
}

template <class T, class Visible>
void attention(Stream& stream, const T* qkv, T* y, float* lse, const Visible& visible, const AttentionShape& shape) {
  const GridShape grid{
      {AttentionBlock::count(kTile, shape.seq, shape.heads, shape.batch), column_blocks(shape.head_dim), 1},
      kThreads,
      1,
      sizeof(Shared)};
  if (panels_of(shape.head_dim) == 1)
    launch(stream, attention_kernel<T, 1, Visible>, grid, qkv, y, lse, visible, shape);
  else
    launch(stream, attention_kernel<T, 2, Visible>, grid, qkv, y, lse, visible, shape);
}

}  // namespace thalweg::cuda::fma
