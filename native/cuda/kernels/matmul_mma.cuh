#pragma once
#include <type_traits>

#include "native/cuda/kernels/matmul_store.cuh"
#include "native/cuda/ptx/mma.h"

/**
 * The product on tensor cores by mma.sync (sm_80 and later), bf16 operands, fp32 sums. One block, one tile of C:
 *
 *   global       A rows ─┐ cp.async, stages - 1 slices ahead            slice = kDepth of the sum
 *                B rows ─┤
 *   shared   [slice t+2] [slice t] [slice t+1]      a ring: the slot of t - 1 takes the slice after next
 *                            │ ldmatrix, one k16 ahead
 *   registers     fragments[now], fragments[next]
 *                            │ mma.m16n8k16
 *                 64 x 64 sums a warp ── shared, one 16-row band at a time ── 16-byte stores ── C
 *
 * A slice's last fragments are read before the barrier in its last k16, so behind that barrier its slot is free; the
 * same barrier shows every thread's share of the next slice to all. One barrier a slice is thus enough.
 *
 * The multistage loop is CUTLASS's (include/cutlass/gemm/threadblock/mma_multistage.h describes it); the fragments'
 * layout is in the PTX ISA, "Matrix fragments for mma.m16n8k16".
 */
namespace thalweg::cuda::matmul {

/**
 * Reads blocks of 16 (side) x 16 (sum) from a slice. Lane 8 q + r gives ldmatrix the address of row r of the quarter q;
 * A wants the quarters in the order (side, sum) = 00, 10, 01, 11, B wants 00, 01, 10, 11: two n8 blocks of its own.
 */
template <class S, bool SumMajor, bool IsA>
class FragmentReader {
 public:
  /** `side`: where this warp's rows of the operand begin in the slice; a multiple of 32. */
  DEVICE explicit FragmentReader(int side) {
    const int r = lane_index() % 8, low = lane_index() / 8 % 2, high = lane_index() / 16;
    const int side_half = IsA ? low : high, sum_half = IsA ? high : low;
    place_ = SumMajor ? S::place(side + side_half * 8 + r, sum_half)
                      : S::place(sum_half * 8 + r, side_half) ^ (side / 8 * 16);
  }
  /** Block `i` along the side, `step` along the sum. Chunks come in pairs, so that + and ^ agree. */
  DEVICE void read(uint32_t (&fragment)[4], const std::byte* slice, int i, int step) const {
    if constexpr (SumMajor)
      load_matrix_x4(fragment, slice + (place_ ^ (step * 32)) + i * 16 * S::kChunks * 16);
    else
      load_matrix_x4_transposed(fragment, slice + (place_ ^ (i * 32)) + step * 16 * S::kChunks * 16);
  }

 private:
  int place_;
};

/** Paired: B is two matrices side by side, see PairLoader. */
template <Tile T, Form F, bool Paired = false>
class MmaBlock {
 public:
  static constexpr int kWarpN = T.n / T.warps_n;  // columns of a warp
  static constexpr int kBandLd = kWarpN + 8;      // floats; + 8 keeps the rows of a store apart by 8 banks

 private:
  static constexpr int kWarpM = T.m / T.warps_m;
  static constexpr int kBlocksM = kWarpM / 16, kBlocksN = kWarpN / 16, kSteps = kDepth / 16;
  static constexpr bool kASumMajor = a_sum_major(F), kBSumMajor = b_sum_major(F);
  using SliceA = Slice<bf16, kASumMajor, T.m>;
  using SliceB = Slice<bf16, kBSumMajor, T.n>;
  static_assert(kSteps % 2 == 0 && kWarpM % 32 == 0 && kWarpN % 32 == 0);
  static constexpr int kStageBytes = SliceA::kBytes + SliceB::kBytes;
  static_assert(kStageBytes == T.stage_bytes());
  static_assert(T.warps_m * T.warps_n * 16 * kBandLd * 4 <= T.shared_bytes());

  struct Fragments {
    uint32_t a[kBlocksM][4], b[kBlocksN][4];
  };

 public:
  DEVICE MmaBlock(const Problem<bf16>& p, std::byte* shared)
      : shared_(shared),
        part_(part_of_block<T>(p)),
        warp_m_(warp_index() / T.warps_n * kWarpM),
        warp_n_(warp_index() % T.warps_n * kWarpN),
        a_(p.a, part_.m, p.m, part_.k_begin, part_.k_end),
        b_(p.b, part_.n, p.n, part_.k_begin, part_.k_end),
        read_a_(warp_m_),
        read_b_(warp_n_) {}

  /** Sums the block's part into registers. */
  DEVICE void sum() {
    const int slices = static_cast<int>((part_.k_end - part_.k_begin + kDepth - 1) / kDepth);
    int coming = slices;  // slices not yet asked for
    for (int s = 0; s < T.stages - 1; s++) ask(s, coming);
    copy_async_wait<T.stages - 2>();
    sync_threads();  // slice 0 is there, every thread's share of it
    read(fragments_[0], 0, 0);
    int slot = 0, free = T.stages - 1;
    for (int t = 0; t < slices; t++) {
      const int next = slot + 1 == T.stages ? 0 : slot + 1;
      UNROLL
      for (int step = 0; step < kSteps; step++) {
        if (step == kSteps - 1) {
          copy_async_wait<T.stages - 2>();
          sync_threads();  // the next slice is there; nobody reads this one any more
          read(fragments_[0], next, 0);
        } else {
          read(fragments_[(step + 1) % 2], slot, step + 1);
        }
        if (step == 0) ask(free, coming);
        multiply(fragments_[step % 2]);
      }
      free = slot;
      slot = next;
    }
    copy_async_wait<0>();
    sync_threads();  // the ring is nobody's now: store() may write over it
  }

  /** write(band, row, column) for each warp's sums, 16 rows of kWarpN at a time, in shared memory in rows of kBandLd;
   * row and column: where in C they begin. */
  template <class Write>
  DEVICE void each_band(Write write) {
    float* band = reinterpret_cast<float*>(shared_) + warp_index() * 16 * kBandLd;
    UNROLL
    for (int i = 0; i < kBlocksM; i++) {
      sync_warp();  // the band before has been read
      fill_band(band, i);
      sync_warp();  // and this one is whole
      write(band, part_.m + warp_m_ + i * 16, part_.n + warp_n_);
    }
  }

  template <class C>
  DEVICE void store(const Output& out) {
    const bool add = adds(out);
    each_band([&](const float* band, int64_t row, int64_t) {
      if (out.vectors)
        store_band<C>(band, row, out, add);
      else
        store_band_singly<C>(band, row, out, add);
    });
  }

 private:
  /** Starts the copies of one more slice into `slot`; without one, still a group, so that waits can count. */
  DEVICE void ask(int slot, int& coming) {
    if (coming-- > 0) {
      std::byte* slice = shared_ + slot * kStageBytes;
      a_.next(slice);
      b_.next(slice + SliceA::kBytes);
    }
    copy_async_commit();
  }

  DEVICE void read(Fragments& f, int slot, int step) const {
    const std::byte* slice = shared_ + slot * kStageBytes;
    UNROLL
    for (int i = 0; i < kBlocksM; i++) read_a_.read(f.a[i], slice, i, step);
    UNROLL
    for (int j = 0; j < kBlocksN; j++) read_b_.read(f.b[j], slice + SliceA::kBytes, j, step);
  }

  DEVICE void multiply(const Fragments& f) {
    UNROLL
    for (int i = 0; i < kBlocksM; i++) {
      UNROLL
      for (int j = 0; j < kBlocksN; j++) {
        mma_m16n8k16(sums_[i][2 * j], f.a[i], f.b[j][0], f.b[j][1]);
        mma_m16n8k16(sums_[i][2 * j + 1], f.a[i], f.b[j][2], f.b[j][3]);
      }
    }
  }

  DEVICE void fill_band(float* band, int i) const {
    const int g = lane_index() / 4, t = lane_index() % 4;
    UNROLL
    for (int j = 0; j < 2 * kBlocksN; j++) {
      const float(&d)[4] = sums_[i][j];
      cuda::store<2>(band + g * kBandLd + j * 8 + 2 * t, Vector<float, 2>{d[0], d[1]});
      cuda::store<2>(band + (g + 8) * kBandLd + j * 8 + 2 * t, Vector<float, 2>{d[2], d[3]});
    }
  }

  /** Lanes side by side take 16 bytes each of a row of C. What is added is asked for first, all of it: C may be the
   * addend itself, so that the compiler must not move a load before a store. */
  template <class C>
  DEVICE void store_band(const float* band, int64_t first, const Output& out, bool add) const {
    constexpr int kN = kVector<C>, kAcross = kWarpN / kN, kRows = kWarp / kAcross, kPasses = 16 / kRows;
    const int r = lane_index() / kAcross, c = lane_index() % kAcross * kN;
    const int64_t row = first + r, column = part_.n + warp_n_ + c;
    Vector<C, kN> addend[kPasses] = {};
    UNROLL
    for (int pass = 0; pass < kPasses; pass++)
      if (add && exists(out, row + pass * kRows, column))
        addend[pass] = load_addend<C, kN>(out, row + pass * kRows, column);
    UNROLL
    for (int pass = 0; pass < kPasses; pass++) {
      if (!exists(out, row + pass * kRows, column)) continue;
      const auto sums = load_floats<kN>(band + (pass * kRows + r) * kBandLd + c);
      store_sums<C, kN>(out, part_.split, row + pass * kRows, column, sums, addend[pass]);
    }
  }

  /** For rows that are not a multiple of 16 bytes: lanes side by side take single elements. */
  template <class C>
  DEVICE void store_band_singly(const float* band, int64_t first, const Output& out, bool add) const {
    for (int at = lane_index(); at < 16 * kWarpN; at += kWarp) {
      const int r = at / kWarpN, c = at % kWarpN;
      const int64_t row = first + r, column = part_.n + warp_n_ + c;
      if (!exists(out, row, column)) continue;
      Vector<C, 1> addend{};
      if (add) addend = load_addend<C, 1>(out, row, column);
      store_sums<C, 1>(out, part_.split, row, column, {band[r * kBandLd + c]}, addend);
    }
  }

  std::byte* shared_;
  Part part_;
  int warp_m_, warp_n_;
  Loader<bf16, kASumMajor, T.m, T.threads()> a_;
  std::conditional_t<Paired, PairLoader<T.n, T.threads(), kWarpN / 2>, Loader<bf16, kBSumMajor, T.n, T.threads()>> b_;
  FragmentReader<SliceA, kASumMajor, true> read_a_;
  FragmentReader<SliceB, kBSumMajor, false> read_b_;
  Fragments fragments_[2];
  float sums_[kBlocksM][2 * kBlocksN][4] = {};
};

/** Row: of kTiles (nvcc's host stubs cannot name a struct as a template argument). */
template <int Row, Form F>
__global__ void __launch_bounds__(kTiles[Row].threads(), kTiles[Row].resident) mma_kernel(Problem<bf16> p, Output out) {
  constexpr Tile kTile = kTiles[Row];
  MmaBlock<kTile, F> block(p, shared_memory<Ring<kTile>>().bytes);
  block.sum();
  if (out.half)
    block.template store<bf16>(out);
  else
    block.template store<float>(out);
}

}  // namespace thalweg::cuda::matmul
