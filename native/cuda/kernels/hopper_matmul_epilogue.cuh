#pragma once
#include "native/cuda/kernels/hopper_matmul_pipeline.cuh"
#include "native/cuda/kernels/matmul_store.cuh"
#include "native/cuda/ptx/mma.h"

/**
 * What becomes of a warpgroup's sums, 64 rows of N = T.n columns at a time: thread 32 w + 4 g + t holds of rows
 * 16 w + g and + 8 the columns 8 j + 2 t and + 1, in sums[4 j ..].
 *
 * bf16 goes by stmatrix into a slab, a swizzled panel, and from there by a TMA store that nobody waits for until the
 * slab is wanted again: the next tile's products run meanwhile. fp32 goes straight from registers: four lanes write
 * whole sectors of 32 bytes, so shared memory would only add a trip.
 */
namespace thalweg::cuda::matmul::hopper {

/** sums += one 64 x 64 panel of bf16 in shared memory; `column`: of panels. */
template <class P, int N>
DEVICE void add_panel(float (&sums)[N], const std::byte* panel, int column, int warp) {
  UNROLL
  for (int c = 0; c < N / 32; c++) {  // registers may only be named by constants
    if (c != column) continue;
    UNROLL
    for (int step = 0; step < kPanel / 16; step++) {
      uint32_t pairs[4];
      load_matrix_x4(pairs, panel + P::place(warp, step));
      UNROLL
      for (int i = 0; i < 4; i++) {
        sums[c * 32 + step * 8 + 2 * i] += low_bf16(pairs[i]);
        sums[c * 32 + step * 8 + 2 * i + 1] += high_bf16(pairs[i]);
      }
    }
  }
}

/** A thread's eight sums of 16 columns, as bf16 in the order of stmatrix. */
DEVICE void round_sums(uint32_t (&pairs)[4], const float* sums) {
  UNROLL
  for (int i = 0; i < 4; i++) pairs[i] = pack_bf16(sums[2 * i], sums[2 * i + 1]);
}

/** A warpgroup's way out for bf16. */
template <class P>
class SlabStore {
 public:
  DEVICE SlabStore(std::byte (&slabs)[kSlabs][kPanelBytes], const Maps& maps, int group)
      : slabs_(slabs), c_(maps.c), group_(group), thread_(static_cast<int>(threadIdx.x) % 128) {}

  /** 64 rows from `row` on, N / 32 panels from `column` on. */
  template <int N>
  DEVICE void store(const float (&sums)[N], int row, int column) {
    UNROLL
    for (int panel = 0; panel < N / 32; panel++) {
      std::byte* slab = slabs_[next_];
      if (thread_ == 0) P::await_slab();
      P::meet(group_);  // the slab's last store has read it
      UNROLL
      for (int step = 0; step < kPanel / 16; step++) {
        uint32_t pairs[4];
        round_sums(pairs, sums + panel * 32 + step * 8);
        store_matrix_x4(slab + P::place(thread_ / 32, step), pairs);
      }
      P::show_slab();
      P::meet(group_);  // all of it is there, and TMA may see it
      if (thread_ == 0) {
        tma_store_2d(c_, slab, column + panel * kPanel, row);
        bulk_commit();
      }
      next_ = next_ + 1 == kSlabs ? 0 : next_ + 1;
    }
  }

  /** Before the block ends, and its shared memory with it. */
  DEVICE void finish() {
    if (thread_ == 0) P::await_stores();
  }

 private:
  std::byte (&slabs_)[kSlabs][kPanelBytes];
  const TensorMap& c_;
  int group_, thread_;
  int next_ = 0;
};

/** fp32, two of a row at a time; `add` takes what is there. What a thread adds it has loaded before it stores: C may be
 * the addend itself. Rows and columns that do not exist are passed over. */
template <int N>
DEVICE void store_direct(const float (&sums)[N], const Output& out, int split, int row, int column, bool add) {
  constexpr int kBatch = 4;  // loads under way; 8 would spill in ping-pong
  const int lane = lane_index(), warp = static_cast<int>(threadIdx.x) % 128 / 32;
  const int across = column + 2 * (lane % 4), left = static_cast<int>(out.columns) - across;
  UNROLL
  for (int half = 0; half < 2; half++) {
    const int64_t r = row + warp * 16 + lane / 4 + half * 8;
    if (r >= out.m) continue;
    const int64_t place = r * out.ld + across;
    float* to = static_cast<float*>(out.c) + split * out.slice + place;
    const float* from = static_cast<const float*>(out.addend) + place;
    UNROLL
    for (int first = 0; first < N / 4; first += kBatch) {
      Vector<float, 2> pairs[kBatch] = {};
      UNROLL
      for (int i = 0; i < kBatch; i++)
        if (add && (first + i) * 8 < left) pairs[i] = load<2>(from + (first + i) * 8);
      UNROLL
      for (int i = 0; i < kBatch; i++) {
        const float* s = sums + (first + i) * 4 + half * 2;
        const Vector<float, 2> total{s[0] + pairs[i][0], s[1] + pairs[i][1]};
        if ((first + i) * 8 < left) store_global<2>(to + (first + i) * 8, total);
      }
    }
  }
}

}  // namespace thalweg::cuda::matmul::hopper
