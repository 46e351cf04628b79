#pragma once
#include "native/cuda/kernels/attention_documents.h"
#include "native/cuda/kernels/hopper_attention_tiles.h"

/** The attention of compute capability 9.0: what attention_forward.cu and attention_backward.cu hand over to it. */
namespace thalweg::cuda {

/** A scale below zero would turn the maxima of the forward kernel into minima. */
inline bool on_hopper(const Target& target, const AttentionShape& shape) {
  return target.capability == 90 && has_hopper_attention(shape.head_dim) && shape.scale > 0;
}

template <class Visible>
HopperWork hopper_work(const AttentionShape& s) {
  return {s.seq, s.head_dim, s.heads, s.kv_heads, s.batch, Visible::kDocuments};
}

/** All operands 16-byte aligned; `workspace` of kHopperForwardWorkspace bytes. Errors: BAD_TENSOR_MAP. */
void hopper_attention(Stream& stream, const Target& target, const bf16* qkv, bf16* y, float* lse,
                      const WholeSequences& visible, std::byte* workspace, const AttentionShape& shape);
void hopper_attention(Stream& stream, const Target& target, const bf16* qkv, bf16* y, float* lse,
                      const Documents& visible, std::byte* workspace, const AttentionShape& shape);
constexpr size_t kHopperForwardWorkspace = sizeof(int);

/** The same, from the row statistics that attention_backward.cu made and `workspace` of hopper_backward_workspace.
 * `any_order`: of the sums of dQ (hopper_attention_sums.cuh); their last bits then vary from run to run. */
void hopper_attention_backward(Stream& stream, const Target& target, const bf16* qkv, const bf16* dy, bf16* dqkv,
                               const RowStatistics& statistics, const WholeSequences& visible, bool any_order,
                               std::byte* workspace, const AttentionShape& shape);
void hopper_attention_backward(Stream& stream, const Target& target, const bf16* qkv, const bf16* dy, bf16* dqkv,
                               const RowStatistics& statistics, const Documents& visible, bool any_order,
                               std::byte* workspace, const AttentionShape& shape);
size_t hopper_backward_workspace(const AttentionShape& shape);

/**
 * dQ in fp32 while blocks add to it: one tile of queries after the other, by sequence and head, and for each the number
 * of blocks that have added theirs, where they take turns. Within a tile the numbers lie as the warpgroups'
 * accumulators do: [warpgroup][4 accumulators][thread], so that stores are dense; query_gradient_kernel puts them in
 * order.
 */
struct QueryGradients {
  float* sums;
  int* turns;
  int tiles;      // of a head
  int tile_size;  // numbers of a tile

  static QueryGradients in(std::byte* workspace, const AttentionShape& s) {
    const int rows = hopper_backward_tiles(s.head_dim).step, tiles = static_cast<int>(ceil_div(s.seq, rows));
    const QueryGradients shape{nullptr, nullptr, tiles, rows * s.head_dim};
    auto* sums = reinterpret_cast<float*>(workspace);
    return {sums, reinterpret_cast<int*>(sums + shape.count(s) * shape.tile_size), tiles, shape.tile_size};
  }
  HOST_DEVICE int64_t count(const AttentionShape& s) const { return static_cast<int64_t>(tiles) * s.heads * s.batch; }
  HOST_DEVICE int64_t at(const AttentionShape& s, int sequence, int head, int tile) const {
    return (static_cast<int64_t>(sequence) * s.heads + head) * tiles + tile;
  }
};

/** The finished sums, times scale, to the query heads of dqkv. */
void hopper_query_gradient(Stream& stream, const QueryGradients& gradients, bf16* dqkv, const AttentionShape& shape);

}  // namespace thalweg::cuda
