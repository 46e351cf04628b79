#pragma once
#include "native/cuda/ptx/platform.h"

/**
 * Every tile of the tensor-core attention kernels, by head dim, with its reason. A warp owns 16 * blocks rows (queries,
 * or keys in the kernel of dK and dV) whose results stay in its registers; the other side streams past in tiles through
 * shared memory. All fit the 99 KB that a block of sm_86, sm_89 and sm_120 may have, and 255 registers without spills.
 */
namespace thalweg::cuda {

struct AttentionTiles {
  int blocks;  // of 16 rows per warp
  int warps;
  int step;   // streamed rows that arrive together
  int strip;  // of them, those whose scores stand in registers at a time
  HOST_DEVICE constexpr int rows() const { return 16 * blocks * warps; }
  HOST_DEVICE constexpr int threads() const { return 32 * warps; }
};

/** 32 rows a warp: each fragment of K and V read from shared memory then feeds two products; with 16, reading it (256
 * bytes at 128 a clock) takes as long as the product itself (2 clocks on sm_80). */
HOST_DEVICE constexpr AttentionTiles forward_tiles(int head_dim) {
  if (head_dim <= 64) return {2, 4, 64, 64};
  return {2, 4, 32, 32};
}

/** Two accumulators of head_dim columns (dK, dV): 32 rows a warp up to 64 columns, where they take 128 registers and
 * leave room for the scores and gradients of 16 queries (of 32, ptxas spills); 16 rows beyond. In bytes of shared
 * memory read per product at 64 columns: 256; 16 rows with strips of 32 would read 320. */
HOST_DEVICE constexpr AttentionTiles key_value_tiles(int head_dim) {
  if (head_dim <= 48) return {2, 4, 32, 32};
  if (head_dim <= 64) return {2, 4, 64, 16};
  return {1, 4, 32, 32};
}

/** One accumulator (dQ), but two operands (Q, dy) that stay in shared memory: beyond 64 columns 64 rows of them. */
HOST_DEVICE constexpr AttentionTiles query_tiles(int head_dim) {
  if (head_dim <= 64) return {2, 4, 64, 32};
  return {1, 4, 32, 32};
}

/** Head dims that have tensor-core kernels; others, multiples of 16 or not, go the way of attention_fma.cuh. */
#define THALWEG_ATTENTION_HEAD_DIMS(X) X(16) X(32) X(48) X(64) X(80) X(96) X(128)

}  // namespace thalweg::cuda
