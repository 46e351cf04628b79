#pragma once
#include "native/cuda/kernels/matmul_tiles.h"
#include "native/cuda/ptx/copy_async.h"

/**
 * An operand of C(i, j) = sum over p of A(i, p) B(j, p): how a slice of it lies in shared memory, and how it gets
 * there. Rows of memory run along p ("sum-major", element (i, p) at i * ld + p) or along i ("side-major", at p * ld +
 * i); the slice keeps that order, so that global memory is read in whole rows, and ldmatrix turns it where the tensor
 * cores want the other one.
 */
namespace thalweg::cuda::matmul {

/** The three products of a linear layer; see matmul.cu. */
enum class Form { kForward, kDgrad, kWgrad };
constexpr bool a_sum_major(Form form) { return form != Form::kWgrad; }
constexpr bool b_sum_major(Form form) { return form == Form::kForward; }

template <class E>
struct Matrix {
  const E* data;
  int64_t ld;
};

/** A block's shared memory: T.stages pairs of slices of A and B. */
template <Tile T>
struct Ring {
  std::byte bytes[T.shared_bytes()];
};

/** What a kernel works on. */
template <class E>
struct Problem {
  Matrix<E> a, b;
  int64_t m, n, k;
  int64_t k_per_split;
  int64_t tiles_m, tiles_n, group;
};

/** The part of C and of the sum that is this block's. */
struct Part {
  int64_t m, n;  // first row and column
  int64_t k_begin, k_end;
  int64_t split;
};

template <Tile T, class E>
DEVICE Part part_of_block(const Problem<E>& p) {
  const int64_t tiles = p.tiles_m * p.tiles_n, block = blockIdx.x, split = block / tiles;
  const Place at = place_of(block % tiles, p.tiles_m, p.tiles_n, p.group);
  const int64_t begin = split * p.k_per_split, end = begin + p.k_per_split;
  return {at.m * T.m, at.n * T.n, begin, end < p.k ? end : p.k, split};
}

/**
 * A slice in shared memory: rows of 16-byte chunks, chunk c of row r stored at c ^ swizzle(r), such that the eight rows
 * that ldmatrix (or eight lanes of a vector load) take the same chunk of lie in eight different groups of banks:
 *
 *   rows of 64 bytes:  r 0 1 | 2 3 | 4 5 | 6 7    two rows fill the 128 bytes of all banks: pairs are told apart
 *            c ^        0 0   1 1   2 2   3 3
 *   longer rows:       c ^ (r % 8)
 */
template <class E, bool SumMajor, int Extent>
struct Slice {
  static constexpr int kPer = kVector<E>;  // elements in a chunk
  static constexpr int kRows = SumMajor ? Extent : kDepth;
  static constexpr int kChunks = (SumMajor ? kDepth : Extent) / kPer;
  static constexpr int kBytes = kRows * kChunks * 16;
  /** Threads of the fp32 kernel read rows 4 apart. */
  static constexpr int kRowsApart = kChunks == 4 ? 2 : SumMajor && sizeof(E) == 4 ? 4 : 1;
  static constexpr int kPeriod = kChunks == 4 ? 8 : 8 * kRowsApart;
  HOST_DEVICE static int place(int row, int chunk) {
    return (row * kChunks + (chunk ^ (row / kRowsApart % (kChunks == 4 ? 4 : 8)))) * 16;
  }
};

/** Brings slices of an operand to shared memory, kDepth of the sum at a time, zero where there is no element. */
template <class E, bool SumMajor, int Extent, int Threads>
class Loader {
  using S = Slice<E, SumMajor, Extent>;
  static constexpr int kStride = Threads / S::kChunks;  // rows between the chunks of a thread
  static constexpr int kPasses = S::kRows / kStride;
  static_assert(Threads % S::kChunks == 0 && S::kRows % kStride == 0 && kStride % S::kPeriod == 0);

 public:
  /** `first` .. `extent` are the operand's i that exist, `k` .. `k_end` its p; ld is a multiple of a chunk. */
  DEVICE Loader(const Matrix<E>& from, int64_t first, int64_t extent, int64_t k, int64_t k_end) {
    const int row = static_cast<int>(threadIdx.x) / S::kChunks, chunk = static_cast<int>(threadIdx.x) % S::kChunks;
    const int64_t side = extent - first < Extent ? extent - first : Extent;
    place_ = S::place(row, chunk);
    side_left_ = static_cast<int>(side) - (SumMajor ? row : chunk * S::kPer);
    sum_left_ = static_cast<int>(k_end - k) - (SumMajor ? chunk * S::kPer : row);
    from_ = from.data + (SumMajor ? first + row : k + row) * from.ld + (SumMajor ? k : first) + chunk * S::kPer;
    pass_ = from.ld * kStride;
    step_ = SumMajor ? kDepth : from.ld * kDepth;
  }

  /** Starts the copy of the next slice, as part of this thread's newest group. */
  DEVICE void next(std::byte* slice) {
    UNROLL
    for (int pass = 0; pass < kPasses; pass++) {
      const bool exists =
          SumMajor ? sum_left_ > 0 && side_left_ > pass * kStride : side_left_ > 0 && sum_left_ > pass * kStride;
      copy_async_16(slice + place_ + pass * kStride * S::kChunks * 16, from_ + pass * pass_, exists ? 16 : 0);
    }
    from_ += step_;
    sum_left_ -= kDepth;
  }

 private:
  int place_;                 // of this thread's first chunk in a slice
  int side_left_, sum_left_;  // how far the matrix goes on from there
  const E* from_;
  int64_t pass_, step_;  // elements
};

/**
 * The same for a sum-major B of two blocks of `extent` / 2 rows each, gate above up: its slices hold Half rows of the
 * one, then the Half rows of the other for the same columns of the result, and so on, so that a warp of 2 Half columns
 * finds both:
 *
 *   slice   gate 0 .. H-1 | up 0 .. H-1 | gate H .. 2H-1 | up H .. 2H-1 | ...
 */
template <int Extent, int Threads, int Half>
class PairLoader {
  using S = Slice<bf16, true, Extent>;
  static constexpr int kStride = Threads / S::kChunks, kPasses = S::kRows / kStride, kUnits = kStride / Half;
  static_assert(kStride % Half == 0 && (kUnits == 1 || kUnits == 2), "a thread's rows are halves apart");

 public:
  /** `first`: row of the pair, so that the halves' rows `first` / 2 .. are asked for. */
  DEVICE PairLoader(const Matrix<bf16>& from, int64_t first, int64_t extent, int64_t k, int64_t k_end) {
    const int row = static_cast<int>(threadIdx.x) / S::kChunks, chunk = static_cast<int>(threadIdx.x) % S::kChunks;
    const int64_t left = (extent - first) / 2, side = left < Extent / 2 ? left : Extent / 2;
    place_ = S::place(row, chunk);
    side_left_ = static_cast<int>(side) - row % Half;
    sum_left_ = static_cast<int>(k_end - k) - chunk * S::kPer;
    const int64_t half = extent / 2 * from.ld;
    from_ = from.data + (first / 2 + row % Half) * from.ld + k + chunk * S::kPer + (row / Half) * half;
    other_ = half;
    down_ = from.ld * Half;
  }

  DEVICE void next(std::byte* slice) {
    UNROLL
    for (int pass = 0; pass < kPasses; pass++) {
      // With one unit a pass the passes take turns between the halves; with two each thread keeps to its own.
      const int down = kUnits == 2 ? pass : pass / 2;
      const bool exists = sum_left_ > 0 && side_left_ > down * Half;
      const bf16* from = from_ + down * down_ + (kUnits == 1 && pass % 2 == 1 ? other_ : 0);
      copy_async_16(slice + place_ + pass * kStride * S::kChunks * 16, from, exists ? 16 : 0);
    }
    from_ += kDepth;
    sum_left_ -= kDepth;
  }

 private:
  int place_, side_left_, sum_left_;
  const bf16* from_;
  int64_t other_, down_;  // elements to the other half, and to the next Half rows of the same
};

}  // namespace thalweg::cuda::matmul
