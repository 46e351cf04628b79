#pragma once
#include "native/cuda/kernels/attention_documents.h"
#include "native/cuda/ptx/math.h"
#include "native/cuda/reduce.h"

/**
 * Attention by fp32 multiply-adds, for fp32 activations and for head dims or pointers that the tensor-core kernels do
 * not take: any head dim, any alignment. Two products make all three kernels:
 *
 *   scores:  S [64, 64] = A B^T      the whole head dim, 32 columns of A and B in shared memory at a time
 *   weigh:   O [64, C] += W B[, C]   W [64, 64] in shared memory, 64 columns of B at a time
 *
 * 256 threads as 16 x 16: thread (y, x) owns rows 4 y + i and, of S, columns x + 16 j, of O, columns 4 x + j (+ 64).
 * 16-byte reads along the summed axis give 16 multiply-adds for every 3 passes through shared memory, so the arithmetic
 * is the bound. A block computes C = 64 or 128 columns of its result; wider heads take several blocks, each of which
 * computes the scores again: correct for any head dim, and without waste to 128.
 */
namespace thalweg::cuda::fma {

constexpr int kTile = 64, kThreads = 256, kPart = 32;
constexpr int kPartStride = kPart + 4, kTileStride = kTile + 4;  // rows 16-byte aligned, 8 of them on different banks

struct Shared {
  alignas(16) float a[kTile][kPartStride], b[kTile][kPartStride];
  alignas(16) float weights[kTile][kTileStride], values[kTile][kTileStride];
};

DEVICE int thread_x() { return static_cast<int>(threadIdx.x) % 16; }
DEVICE int thread_y() { return static_cast<int>(threadIdx.x) / 16; }

/** Columns [column, column + Columns) of 64 rows; zero where there are none. */
template <int Columns, int Stride, class T>
DEVICE void load_part(float (&to)[kTile][Stride], const HeadRows<const T>& rows, int column, int head_dim) {
  const int c = static_cast<int>(threadIdx.x) % Columns;
  for (int r = static_cast<int>(threadIdx.x) / Columns; r < kTile; r += kThreads / Columns) {
    const bool inside = r < rows.count && column + c < head_dim;
    to[r][c] = inside ? to_float(rows.first[r * rows.stride + column + c]) : 0.0f;
  }
}

/** s = A B^T. Begins with a barrier: what the block read from shared memory before is free. */
template <class T>
DEVICE void scores(float (&s)[4][4], Shared& shared, const HeadRows<const T>& a, const HeadRows<const T>& b,
                   int head_dim) {
  UNROLL
  for (int i = 0; i < 4; i++) {
    UNROLL
    for (int j = 0; j < 4; j++) s[i][j] = 0.0f;
  }
  for (int column = 0; column < head_dim; column += kPart) {
    sync_threads();
    load_part<kPart>(shared.a, a, column, head_dim);
    load_part<kPart>(shared.b, b, column, head_dim);
    sync_threads();
    UNROLL
    for (int d = 0; d < kPart; d += 4) {
      Vector<float, 4> x[4], y[4];
      UNROLL
      for (int i = 0; i < 4; i++) x[i] = load<4>(&shared.a[4 * thread_y() + i][d]);
      UNROLL
      for (int j = 0; j < 4; j++) y[j] = load<4>(&shared.b[thread_x() + 16 * j][d]);
      UNROLL
      for (int i = 0; i < 4; i++) {
        UNROLL
        for (int j = 0; j < 4; j++) {
          UNROLL
          for (int e = 0; e < 4; e++) s[i][j] += x[i][e] * y[j][e];
        }
      }
    }
  }
}

/** The block's W of the next weigh; whoever read the last one must be past a barrier. */
DEVICE void set_weights(Shared& shared, const float (&w)[4][4]) {
  UNROLL
  for (int i = 0; i < 4; i++) {
    UNROLL
    for (int j = 0; j < 4; j++) shared.weights[4 * thread_y() + i][thread_x() + 16 * j] = w[i][j];
  }
}

/** out += W B[, column + ...]; out[i][4 c + j] is column 64 c + 4 x + j. */
template <int Panels, class T>
DEVICE void weigh(float (&out)[4][4 * Panels], Shared& shared, const HeadRows<const T>& b, int column, int head_dim) {
  UNROLL
  for (int c = 0; c < Panels; c++) {
    sync_threads();
    load_part<kTile>(shared.values, b, column + kTile * c, head_dim);
    sync_threads();
    for (int k = 0; k < kTile; k += 4) {
      Vector<float, 4> w[4], y[4];
      UNROLL
      for (int i = 0; i < 4; i++) w[i] = load<4>(&shared.weights[4 * thread_y() + i][k]);
      UNROLL
      for (int e = 0; e < 4; e++) y[e] = load<4>(&shared.values[k + e][4 * thread_x()]);
      UNROLL
      for (int i = 0; i < 4; i++) {
        UNROLL
        for (int e = 0; e < 4; e++) {
          UNROLL
          for (int j = 0; j < 4; j++) out[i][4 * c + j] += w[i][e] * y[e][j];
        }
      }
    }
  }
}

/** Rows of out, row i times factor[i], to columns from `column` on. */
template <int Panels, class T>
DEVICE void store_rows(const HeadRows<T>& to, const float (&out)[4][4 * Panels], const float (&factor)[4], int column,
                       int head_dim) {
  UNROLL
  for (int i = 0; i < 4; i++) {
    const int row = 4 * thread_y() + i;
    UNROLL
    for (int c = 0; c < 4 * Panels; c++) {
      const int d = column + c / 4 * kTile + 4 * thread_x() + c % 4;
      if (row < to.count && d < head_dim) to.first[row * to.stride + d] = from_float<T>(out[i][c] * factor[i]);
    }
  }
}

/** Panels of 64 columns a block computes, blocks along the second axis of the grid. */
constexpr int panels_of(int head_dim) { return head_dim <= kTile ? 1 : 2; }
constexpr unsigned column_blocks(int head_dim) {
  return static_cast<unsigned>(ceil_div(head_dim, panels_of(head_dim) * kTile));
}

}  // namespace thalweg::cuda::fma
