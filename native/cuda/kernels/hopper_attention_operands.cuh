#pragma once
#include "native/cuda/kernels/attention_documents.h"
#include "native/cuda/ptx/mma.h"
#include "native/cuda/ptx/tma.h"
#include "native/cuda/ptx/wgmma.h"
#include "native/cuda/tensor_map.h"

/**
 * Pieces of the sm_90a attention kernels: tiles of head rows as TMA lays them into shared memory, and products over
 * them.
 *
 * A tile of R rows of D columns is a sequence of panels of 64 columns; a panel is R rows of 128 bytes whose eight
 * 16-byte chunks are exchanged by chunk ^= row % 8 (the 128-byte swizzle). The same tile serves wgmma both ways:
 *
 *   rows are M or N, columns K (Q, K in S = Q K^T; "K-major"):  16 columns further = 32 bytes, 64 further = a panel
 *   rows are K, columns M or N (V in P V; "MN-major"):          16 rows further = 2048 bytes, LBO = a panel
 */
namespace thalweg::cuda {

template <int Rows, int D>
struct alignas(1024) HeadTile {
  static constexpr int kPanels = (D + 63) / 64;
  static constexpr int kPanelBytes = Rows * 128;
  static constexpr uint32_t kBytes = kPanels * kPanelBytes;
  bf16 at[kPanels][Rows][64];
};

/** A tile, from some row on, as a wgmma operand. */
template <int PanelBytes>
struct TileOperand {
  uint64_t descriptor;

  /** Columns 16 k to 16 k + 15 of all rows. */
  DEVICE uint64_t columns(int k) const {
    return descriptor + static_cast<uint64_t>((k / 4 * PanelBytes + k % 4 * 32) >> 4);
  }
  /** From the panel of columns 64 p on. */
  DEVICE TileOperand panel(int p) const { return {descriptor + static_cast<uint64_t>(p * PanelBytes >> 4)}; }
  /** Rows 16 k to 16 k + 15 of all columns. */
  DEVICE uint64_t rows(int k) const { return descriptor + static_cast<uint64_t>(k * 2048 >> 4); }
};

/** `row`: a multiple of 8. */
template <int Rows, int D>
DEVICE TileOperand<HeadTile<Rows, D>::kPanelBytes> operand(const HeadTile<Rows, D>& tile, int row = 0) {
  return {matrix_descriptor(shared_address(&tile) + static_cast<uint32_t>(row) * 128, HeadTile<Rows, D>::kPanelBytes,
                            1024)};
}

/** s [64, N] = A B^T over D columns, A [64, D] and B [N, D] rows of tiles. Only issued. */
template <int N, int D, int PanelA, int PanelB>
DEVICE void multiply_rows(float (&s)[N / 2], const TileOperand<PanelA>& a, const TileOperand<PanelB>& b) {
  UNROLL
  for (int k = 0; k < D / 16; k++) Wgmma<N, 0, 0>::shared(s, a.columns(k), b.columns(k), k > 0);
}

/** out [64, D] += W B, W [64, K] in registers and B [K, D] a tile. Only issued. */
template <int K, int D, int Panel>
DEVICE void weigh_rows(float (&out)[D / 2], const uint32_t (&w)[K / 16][4], const TileOperand<Panel>& b) {
  UNROLL
  for (int k = 0; k < K / 16; k++) Wgmma<D, 0, 1>::registers(out, w[k], b.rows(k), 1);
}

/** d [64, N] = A^T B over K rows, A [K, 64] and B [K, N] of tiles. Only issued. */
template <int K, int N, int PanelA, int PanelB>
DEVICE void multiply_columns(float (&d)[N / 2], const TileOperand<PanelA>& a, const TileOperand<PanelB>& b) {
  UNROLL
  for (int k = 0; k < K / 16; k++) Wgmma<N, 1, 1>::shared(d, a.rows(k), b.rows(k), k > 0);
}

/** Accumulators [64, N], rounded, as the A operand of the next product: the fragments are the same. */
template <int N>
DEVICE void round_weights(uint32_t (&w)[N / 16][4], const float (&s)[N / 2]) {
  UNROLL
  for (int i = 0; i < N / 4; i++) w[i / 4][i % 4] = pack_bf16(s[2 * i], s[2 * i + 1]);
}

/** Columns 16 c to 16 c + 15 of this warp's 16 rows, which begin at `row`, into a tile as TMA and wgmma read it: for
 * them a fence_proxy_async must follow. `w` is an A fragment. */
template <int Rows, int D>
DEVICE void store_fragment(HeadTile<Rows, D>& tile, int row, int c, const uint32_t (&w)[4]) {
  const int r = row + lane_index() % 16, chunk = 2 * c + lane_index() / 16;
  store_matrix_x4(&tile.at[chunk / 8][r][(chunk % 8 ^ r % 8) * 8], w);
}

/** out [64, D] of a warpgroup, row g of each warp's 16 times factor[g / 8], as bf16. `row`: the warp's first. */
template <int Rows, int D>
DEVICE void stage_rows(HeadTile<Rows, D>& tile, int row, const float (&out)[D / 2], const float (&factor)[2]) {
  UNROLL
  for (int c = 0; c < D / 16; c++) {
    uint32_t w[4];
    UNROLL
    for (int i = 0; i < 4; i++)
      w[i] = pack_bf16(out[8 * c + 2 * i] * factor[i % 2], out[8 * c + 2 * i + 1] * factor[i % 2]);
    store_fragment(tile, row, c, w);
  }
}

// --- through TMA -----------------------------------------------------------------------------------------------------

constexpr int kBoxRows = 64;  // rows of a head that one TMA instruction moves, 64 columns of them

/** Boxes of the heads in rows [heads * head_dim], by (column, head, position, sequence). What lies past a sequence's
 * end or a head's last column is zero when loaded and dropped when stored. */
inline TensorMap head_boxes(const void* rows, const AttentionShape& shape, int heads) {
  const auto row = static_cast<uint64_t>(heads * shape.head_dim) * sizeof(bf16);
  TensorBox box;
  box.base = rows;
  box.rank = 4;
  box.size[0] = static_cast<uint64_t>(shape.head_dim), box.box[0] = 64;
  box.size[1] = static_cast<uint64_t>(heads), box.stride[1] = static_cast<uint64_t>(shape.head_dim) * sizeof(bf16);
  box.size[2] = static_cast<uint64_t>(shape.seq), box.stride[2] = row, box.box[2] = kBoxRows;
  box.size[3] = static_cast<uint64_t>(shape.batch), box.stride[3] = row * static_cast<uint64_t>(shape.seq);
  return make_tensor_map(box);
}

/** Starts the loads of a whole tile: positions `first` on. */
template <int Rows, int D>
DEVICE void load_rows(HeadTile<Rows, D>& tile, const TensorMap& map, uint64_t* full, int head, int first,
                      int sequence) {
  UNROLL
  for (int panel = 0; panel < HeadTile<Rows, D>::kPanels; panel++) {
    UNROLL
    for (int row = 0; row < Rows; row += kBoxRows)
      tma_load_4d(&tile.at[panel][row], map, full, 64 * panel, head, first + row, sequence);
  }
}

/** Starts the stores of 64 rows of a tile, in this thread's bulk group. */
template <int Rows, int D>
DEVICE void store_rows(const TensorMap& map, const HeadTile<Rows, D>& tile, int row, int head, int first,
                       int sequence) {
  UNROLL
  for (int panel = 0; panel < HeadTile<Rows, D>::kPanels; panel++)
    tma_store_4d(map, &tile.at[panel][row], 64 * panel, head, first, sequence);
}

}  // namespace thalweg::cuda
