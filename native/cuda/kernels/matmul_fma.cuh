#pragma once
#include "native/cuda/kernels/matmul_store.cuh"

/**
 * The product in fp32 proper: FMA on the ordinary lanes, 64 sums a thread. Slices of A and B come as in matmul_mma.cuh;
 * a thread then takes 4 elements of the sum for its 8 rows and its 8 columns in 16 vector loads and makes 256 FMA of
 * them, so that shared memory (one vector load a warp in 4 clocks) feeds the FMA lanes (one a warp and clock) fourfold.
 *
 *   lanes of a warp   4 (m) x 8 (n), each 2 x 2 blocks of 4 x 4:     m  r..r+3, r+16..r+19      r = 4 (lane / 8)
 *                                                                    n  c..c+3, c+32..c+35      c = 4 (lane % 8)
 */
namespace thalweg::cuda::matmul {

/** Reads 8 rows of an operand, first..first+3 and first+Apart..first+Apart+3, for 4 elements of the sum. */
template <class S, bool SumMajor, int Apart>
DEVICE void read_lane(float (&values)[4][8], const std::byte* slice, int first, int four) {
  UNROLL
  for (int i = 0; i < 8; i++) {
    // One load gives 4 elements of the sum for one row, or 4 rows for one element.
    const int row = first + i % 4 + i / 4 * Apart, sum = 4 * four + i % 4, block = first + i / 4 * Apart;
    const int place = SumMajor ? S::place(row, four) : S::place(sum, block / 4);
    const Vector<float, 4> v = load<4>(reinterpret_cast<const float*>(slice + place));
    UNROLL
    for (int e = 0; e < 4; e++) {
      if constexpr (SumMajor)
        values[e][i] = v[e];
      else
        values[i % 4][i / 4 * 4 + e] = v[e];
    }
  }
}

template <Tile T, Form F>
class FmaBlock {
  static constexpr bool kASumMajor = a_sum_major(F), kBSumMajor = b_sum_major(F);
  static constexpr int kApartM = 16, kApartN = 32;
  static_assert(T.m == T.warps_m * 2 * kApartM && T.n == T.warps_n * 2 * kApartN);
  using SliceA = Slice<float, kASumMajor, T.m>;
  using SliceB = Slice<float, kBSumMajor, T.n>;
  static constexpr int kStageBytes = SliceA::kBytes + SliceB::kBytes;
  static_assert(kStageBytes == T.stage_bytes());

 public:
  DEVICE FmaBlock(const Problem<float>& p, std::byte* shared)
      : shared_(shared),
        part_(part_of_block<T>(p)),
        m_(warp_index() / T.warps_n * 2 * kApartM + lane_index() / 8 * 4),
        n_(warp_index() % T.warps_n * 2 * kApartN + lane_index() % 8 * 4),
        a_(p.a, part_.m, p.m, part_.k_begin, part_.k_end),
        b_(p.b, part_.n, p.n, part_.k_begin, part_.k_end) {}

  DEVICE void sum() {
    const int slices = static_cast<int>((part_.k_end - part_.k_begin + kDepth - 1) / kDepth);
    int coming = slices, slot = 0, free = T.stages - 1;
    for (int s = 0; s < T.stages - 1; s++) ask(s, coming);
    for (int t = 0; t < slices; t++) {
      copy_async_wait<T.stages - 2>();
      sync_threads();  // slice t is there, every thread's share of it; nobody reads slice t - 1 any more
      ask(free, coming);
      multiply(shared_ + slot * kStageBytes);
      free = slot;
      slot = slot + 1 == T.stages ? 0 : slot + 1;
    }
  }

  DEVICE void store(const Output& out) const {
    const bool add = adds(out);
    UNROLL
    for (int i = 0; i < 8; i++) {
      const int64_t row = part_.m + m_ + i % 4 + i / 4 * kApartM;
      UNROLL
      for (int j = 0; j < 8; j += 4) {
        const int64_t column = part_.n + n_ + j / 4 * kApartN;
        const Floats<4> sums{sums_[i][j], sums_[i][j + 1], sums_[i][j + 2], sums_[i][j + 3]};
        out.vectors ? store_four<4>(out, row, column, sums, add) : store_four<1>(out, row, column, sums, add);
      }
    }
  }

 private:
  DEVICE void ask(int slot, int& coming) {
    if (coming-- > 0) {
      std::byte* slice = shared_ + slot * kStageBytes;
      a_.next(slice);
      b_.next(slice + SliceA::kBytes);
    }
    copy_async_commit();
  }

  DEVICE void multiply(const std::byte* slice) {
    for (int four = 0; four < kDepth / 4; four++) {
      float a[4][8], b[4][8];
      read_lane<SliceA, kASumMajor, kApartM>(a, slice, m_, four);
      read_lane<SliceB, kBSumMajor, kApartN>(b, slice + SliceA::kBytes, n_, four);
      UNROLL
      for (int e = 0; e < 4; e++) {
        UNROLL
        for (int i = 0; i < 8; i++) {
          UNROLL
          for (int j = 0; j < 8; j++) sums_[i][j] += a[e][i] * b[e][j];
        }
      }
    }
  }

  template <int N>
  DEVICE void store_four(const Output& out, int64_t row, int64_t column, const Floats<4>& sums, bool add) const {
    UNROLL
    for (int i = 0; i < 4; i += N) {
      if (!exists(out, row, column + i)) continue;
      Floats<N> some;
      Vector<float, N> addend{};
      UNROLL
      for (int e = 0; e < N; e++) some[e] = sums[i + e];
      if (add) addend = load_addend<float, N>(out, row, column + i);
      store_sums<float, N>(out, part_.split, row, column + i, some, addend);
    }
  }

  std::byte* shared_;
  Part part_;
  int m_, n_;  // of this thread in the tile
  Loader<float, kASumMajor, T.m, T.threads()> a_;
  Loader<float, kBSumMajor, T.n, T.threads()> b_;
  float sums_[8][8] = {};
};

/** Row: of kTiles (nvcc's host stubs cannot name a struct as a template argument). */
template <int Row, Form F>
__global__ void __launch_bounds__(kTiles[Row].threads(), kTiles[Row].resident)
    fma_kernel(Problem<float> p, Output out) {
  constexpr Tile kTile = kTiles[Row];
  FmaBlock<kTile, F> block(p, shared_memory<Ring<kTile>>().bytes);
  block.sum();
  block.store(out);
}

}  // namespace thalweg::cuda::matmul
