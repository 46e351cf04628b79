#pragma once
#include "native/cuda/kernels/attention_shape.h"
#include "native/cuda/ptx/thread.h"

/**
 * What a query sees. Query q sees keys start(q) to q; since starts do not decrease, key k is seen by queries k to
 * end(k) - 1, and both ask of a tile only its first or last row. Kernels are compiled for either kind: without
 * documents the answers are constants, and nothing is left of them.
 */
namespace thalweg::cuda {

/** Every key of the sequence up to the query. */
struct WholeSequences {
  static constexpr bool kDocuments = false;
  DEVICE int start(const AttentionShape&, int, int) const { return 0; }
  DEVICE int end(const AttentionShape& shape, int, int) const { return shape.seq; }
};

/**
 * Those of the query's document. The host has checked `starts`; should anything else stand there, a start is taken
 * between 0 and the row itself and ends do not decrease, so that no row outside is read and no block waits for one that
 * never comes.
 */
struct Documents {
  static constexpr bool kDocuments = true;
  const int* starts;  // [batch * seq]
  const int* ends;    // [batch * seq], of document_ends; the gradient's

  /** Positions past the end of the sequence are taken for its last. */
  DEVICE int start(const AttentionShape& shape, int sequence, int query) const {
    const int row = query < shape.seq ? query : shape.seq - 1;
    const int found = starts[static_cast<int64_t>(sequence) * shape.seq + row];
    return found < 0 ? 0 : found < row ? found : row;
  }
  DEVICE int end(const AttentionShape& shape, int sequence, int key) const {
    return ends[static_cast<int64_t>(sequence) * shape.seq + (key < shape.seq ? key : shape.seq - 1)];
  }

  /** Bytes of `ends`; whatever follows stays aligned. */
  static size_t bytes(const AttentionShape& shape) {
    return static_cast<size_t>(ceil_div(static_cast<int64_t>(shape.batch) * shape.seq * 4, 256)) * 256;
  }
};

/** Where a warp's rows begin (or end), row i in lane i: one register, and no address in the loops. */
struct WarpRows {
  int own;
  DEVICE int of(int row) const { return static_cast<int>(shuffle_from(static_cast<uint32_t>(own), row)); }
};

/** Puts `value` where a key lies before its query's document: `s` holds M x 16 queries by N x 8 keys as mma.sync leaves
 * them, of which `key` is the first. */
template <int M, int N>
DEVICE void fill_before_documents(float (&s)[M][N][4], const WarpRows& starts, int key, float value) {
  const int g = lane_index() / 4, t = lane_index() % 4;
  UNROLL
  for (int m = 0; m < M; m++) {
    UNROLL
    for (int half = 0; half < 2; half++) {
      const int from = starts.of(16 * m + 8 * half + g) - key;
      UNROLL
      for (int n = 0; n < N; n++) {
        UNROLL
        for (int e = 0; e < 2; e++)
          if (8 * n + 2 * t + e < from) s[m][n][2 * half + e] = value;
      }
    }
  }
}

}  // namespace thalweg::cuda
