#pragma once
#include "native/cuda/kernels/attention_documents.h"
#include "native/cuda/kernels/attention_tiles.h"
#include "native/cuda/ptx/copy_async.h"
#include "native/cuda/ptx/math.h"
#include "native/cuda/ptx/mma.h"

/**
 * Pieces of the tensor-core kernels of attention: tiles of bf16 rows in shared memory and the two products over them.
 *
 * A tile's rows are D + 8 elements apart: an odd number of 16-byte chunks, so that the 8 rows a matrix of ldmatrix
 * reads lie on all 32 banks, for any D, and every offset within a tile is an immediate.
 */
namespace thalweg::cuda {

template <int D>
constexpr int kRowStride = D + 8;

template <int Rows, int D>
struct AttentionTile {
  alignas(16) bf16 at[Rows][kRowStride<D>];
};

/** Starts the copies of a tile's rows by all threads of the block; rows that do not exist become zero. */
template <int Threads, int Rows, int D>
DEVICE void fetch_rows(AttentionTile<Rows, D>& tile, const HeadRows<const bf16>& rows) {
  constexpr int kChunks = D / 8, kLanes = kChunks <= 2 ? 2 : kChunks <= 4 ? 4 : kChunks <= 8 ? 8 : 16;
  constexpr int kRowsAtOnce = Threads / kLanes;
  const int chunk = static_cast<int>(threadIdx.x) % kLanes, first = static_cast<int>(threadIdx.x) / kLanes;
  if (chunk >= kChunks) return;
  const bf16* from = rows.first + first * rows.stride + 8 * chunk;  // may lie past the end: then nothing is read
  UNROLL
  for (int pass = 0; pass < (Rows + kRowsAtOnce - 1) / kRowsAtOnce; pass++) {
    const int r = first + pass * kRowsAtOnce;
    if (Rows % kRowsAtOnce != 0 && r >= Rows) break;
    copy_async_16(&tile.at[r][8 * chunk], from, r < rows.count ? 16 : 0);
    from += kRowsAtOnce * rows.stride;
  }
}

/** Address, for this lane, of the 16 x 16 block that ldmatrix.x4 reads as an A fragment, or transposed as the B
 * fragments of two columns blocks: matrices (rows 0-7, 8-15) x (columns 0-7), then x (columns 8-15). */
template <int D>
DEVICE const bf16* block_address(const bf16* corner) {
  return corner + lane_index() % 16 * kRowStride<D> + lane_index() / 16 * 8;
}

/** The same for the B fragments of two blocks of 8 rows: matrices (columns 0-7, 8-15) x (rows 0-7), then rows 8-15. */
template <int D>
DEVICE const bf16* rows_address(const bf16* corner) {
  return corner + (lane_index() / 16 * 8 + lane_index() % 8) * kRowStride<D> + lane_index() / 8 % 2 * 8;
}

/** s = A B^T for 16 M rows of A and 8 N rows of B, both [rows, D] in shared memory. */
template <int D, int M, int N>
DEVICE void scores(float (&s)[M][N][4], const bf16* a, const bf16* b) {
  const bf16 *const a_lane = block_address<D>(a), *const b_lane = rows_address<D>(b);
  UNROLL
  for (int m = 0; m < M; m++) {
    UNROLL
    for (int n = 0; n < N; n++) {
      UNROLL
      for (int e = 0; e < 4; e++) s[m][n][e] = 0.0f;
    }
  }
  UNROLL
  for (int k = 0; k < D; k += 16) {
    uint32_t left[M][4];
    UNROLL
    for (int m = 0; m < M; m++) load_matrix_x4(left[m], a_lane + 16 * m * kRowStride<D> + k);
    UNROLL
    for (int n = 0; n < N; n += 2) {
      uint32_t right[4];
      load_matrix_x4(right, b_lane + 8 * n * kRowStride<D> + k);
      UNROLL
      for (int m = 0; m < M; m++) {
        mma_m16n8k16(s[m][n], left[m], right[0], right[1]);
        mma_m16n8k16(s[m][n + 1], left[m], right[2], right[3]);
      }
    }
  }
}

/** out += W B for weights W [16 M, 8 N], the accumulators of a product, and 8 N rows of B [rows, D] in shared memory.
 */
template <int D, int M, int N>
DEVICE void weigh(float (&out)[M][D / 8][4], const float (&w)[M][N][4], const bf16* b) {
  const bf16* const b_lane = block_address<D>(b);
  UNROLL
  for (int n = 0; n < N; n += 2) {
    uint32_t left[M][4];
    UNROLL
    for (int m = 0; m < M; m++) {
      UNROLL
      for (int i = 0; i < 4; i++) {
        const float* pair = &w[m][n + i / 2][i % 2 * 2];
        left[m][i] = pack_bf16(pair[0], pair[1]);
      }
    }
    UNROLL
    for (int d = 0; d < D / 8; d += 2) {
      uint32_t right[4];
      load_matrix_x4_transposed(right, b_lane + 8 * n * kRowStride<D> + 8 * d);
      UNROLL
      for (int m = 0; m < M; m++) {
        mma_m16n8k16(out[m][d], left[m], right[0], right[1]);
        mma_m16n8k16(out[m][d + 1], left[m], right[2], right[3]);
      }
    }
  }
}

/** A warp's 16 M rows, row i of its block m times factor[m][i / 8], to `to` by way of `slab`: 16 M rows of shared
 * memory that no other warp uses any more. */
template <int D, int M>
DEVICE void store_rows(const HeadRows<bf16>& to, const float (&out)[M][D / 8][4], const float (&factor)[M][2],
                       bf16* slab) {
  const int g = lane_index() / 4, t = lane_index() % 4;
  sync_warp();
  UNROLL
  for (int m = 0; m < M; m++) {
    UNROLL
    for (int d = 0; d < D / 8; d++) {
      UNROLL
      for (int half = 0; half < 2; half++) {
        const uint32_t pair =
            pack_bf16(out[m][d][2 * half] * factor[m][half], out[m][d][2 * half + 1] * factor[m][half]);
        auto* place = reinterpret_cast<uint32_t*>(slab + (16 * m + 8 * half + g) * kRowStride<D> + 8 * d + 2 * t);
        *place = pair;
      }
    }
  }
  sync_warp();
  for (int i = lane_index(); i < 16 * M * (D / 8); i += kWarp) {
    const int row = i / (D / 8), column = i % (D / 8) * 8;
    if (row < to.count) store<8>(to.first + row * to.stride + column, load<8>(slab + row * kRowStride<D> + column));
  }
}

}  // namespace thalweg::cuda
