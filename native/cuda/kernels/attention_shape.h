#pragma once
#include "native/cuda/launch.h"
#include "native/cuda/ptx/types.h"

/** Where the rows of a head lie in the operands of attention; shared by all its kernels. */
namespace thalweg::cuda {

/** Rows of one head from some position of its sequence to the sequence's end. */
template <class T>
struct HeadRows {
  T* first;
  int64_t stride;  // elements from row to row
  int count;       // rows left in the sequence; may be <= 0
};

struct AttentionShape {
  int batch, seq, heads, kv_heads, head_dim;
  float scale;

  HOST_DEVICE int group() const { return heads / kv_heads; }

  /** Head `index` of a packed row [q heads | k heads | v heads]. */
  template <class T>
  HOST_DEVICE HeadRows<T> packed(T* qkv, int sequence, int index, int first) const {
    const int64_t stride = static_cast<int64_t>(heads + 2 * kv_heads) * head_dim;
    return {qkv + (static_cast<int64_t>(sequence) * seq + first) * stride + static_cast<int64_t>(index) * head_dim,
            stride, seq - first};
  }
  template <class T>
  HOST_DEVICE HeadRows<T> query(T* qkv, int sequence, int head, int first) const {
    return packed(qkv, sequence, head, first);
  }
  template <class T>
  HOST_DEVICE HeadRows<T> key(T* qkv, int sequence, int kv_head, int first) const {
    return packed(qkv, sequence, heads + kv_head, first);
  }
  template <class T>
  HOST_DEVICE HeadRows<T> value(T* qkv, int sequence, int kv_head, int first) const {
    return packed(qkv, sequence, heads + kv_heads + kv_head, first);
  }
  /** Head `head` of y or its gradient, rows [heads * head_dim]. */
  template <class T>
  HOST_DEVICE HeadRows<T> output(T* y, int sequence, int head, int first) const {
    const int64_t stride = static_cast<int64_t>(heads) * head_dim;
    return {y + (static_cast<int64_t>(sequence) * seq + first) * stride + static_cast<int64_t>(head) * head_dim, stride,
            seq - first};
  }
};

/** The maximum of a query that has seen no key yet, in log2 units: finite, so that a hidden score lies infinitely far
 * below it. */
constexpr float kNothingSeen = -0x1p126f;

template <class Params>
AttentionShape attention_shape(const Params& p) {
  return {static_cast<int>(p.rows / p.seq), static_cast<int>(p.seq),      static_cast<int>(p.heads),
          static_cast<int>(p.kv_heads),     static_cast<int>(p.head_dim), p.scale};
}

/** A block's tile of rows, head (query or kv) and sequence, from a one-dimensional grid in which the head goes fastest:
 * blocks that run together share the keys and values of a group. Causal tiles of queries grow with their position and
 * those of keys shrink; the longest go first, so that the last wave is made of short ones. */
struct AttentionBlock {
  int first_row, head, sequence;

  static DEVICE AttentionBlock of(int tile_rows, int seq, int heads, int batch, bool last_first) {
    const int heads_in_all = heads * batch, tiles = (seq + tile_rows - 1) / tile_rows;
    const int tile = static_cast<int>(blockIdx.x) / heads_in_all, rest = static_cast<int>(blockIdx.x) % heads_in_all;
    return {(last_first ? tiles - 1 - tile : tile) * tile_rows, rest % heads, rest / heads};
  }
  static unsigned count(int tile_rows, int seq, int heads, int batch) {
    return static_cast<unsigned>(ceil_div(seq, tile_rows) * heads * batch);
  }
};

/**
 * What the gradient's kernels read per query: lse in log2 units and delta = dy . y, each [batch, heads, padded]. Rows
 * past the end of the sequence hold lse = +inf, so that their probabilities 2^(s - lse) are zero without a test.
 */
struct RowStatistics {
  static constexpr int kPadding = 128;  // tiles of queries divide it
  float *lse2, *delta;
  int padded;

  RowStatistics(std::byte* workspace, const AttentionShape& s)
      : lse2(reinterpret_cast<float*>(workspace)),
        delta(lse2 + elements(s)),
        padded(static_cast<int>(ceil_div(s.seq, kPadding)) * kPadding) {}
  static int64_t elements(const AttentionShape& s) { return ceil_div(s.seq, kPadding) * kPadding * s.heads * s.batch; }
  static size_t bytes(const AttentionShape& s) { return static_cast<size_t>(2 * elements(s)) * sizeof(float); }
  DEVICE int64_t at(const AttentionShape& s, int sequence, int head, int row) const {
    return (static_cast<int64_t>(sequence) * s.heads + head) * padded + row;
  }
};

}  // namespace thalweg::cuda
