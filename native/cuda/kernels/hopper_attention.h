#pragma once
#include "native/cuda/kernels/attention_shape.h"
#include "native/cuda/kernels/hopper_attention_tiles.h"

/** The attention of compute capability 9.0: what attention_forward.cu and attention_backward.cu hand over to it. */
namespace thalweg::cuda {

/** A scale below zero would turn the maxima of the forward kernel into minima. */
inline bool on_hopper(const Target& target, const AttentionShape& shape) {
  return target.capability == 90 && has_hopper_attention(shape.head_dim) && shape.scale > 0;
}

/** All operands 16-byte aligned. Errors: BAD_TENSOR_MAP. */
void hopper_attention(Stream& stream, const Target& target, const bf16* qkv, bf16* y, float* lse,
                      const AttentionShape& shape);

}  // namespace thalweg::cuda
