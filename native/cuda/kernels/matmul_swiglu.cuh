#pragma once
#include "native/cuda/kernels/matmul_mma.cuh"
#include "native/cuda/kernels/swiglu.cuh"

/**
 * Products that SwiGLU or its gradient ends (mma.sync). The sums of a band lie in shared memory as in any product:
 *
 *   kSwiglu           [16 rows: gate of H columns | up of the same H]   rounded, written where kept, y = silu(gate) *
 * up kSwigluGradient   [16 rows: dm of 2 H columns]                      rounded; gate and up read, theirs written
 *
 * Rounding comes first and the arithmetic is swiglu.cuh's, so the bits are those of the two kernels apart.
 */
namespace thalweg::cuda::matmul {

/** Eight sums as store_sums rounds them: + 0 makes 0 of -0. */
DEVICE Vector<bf16, 8> rounded_sums(const float* from) {
  Floats<8> sums = load_floats<8>(from);
  UNROLL
  for (int i = 0; i < 8; i++) sums[i] += 0.0f;
  return pack<bf16>(sums);
}

/** How a warp's lanes share a band of 16 rows of `Columns` results, 8 of a row each. */
template <int Columns>
struct BandLanes {
  static constexpr int kAcross = Columns / 8, kRows = kWarp / kAcross, kPasses = 16 / kRows;
  int row, column;
  DEVICE BandLanes() : row(lane_index() / kAcross), column(lane_index() % kAcross * 8) {}
};

/** `row`, `column`: where in [m, ffn] the band begins. */
template <int WarpN, int Ld>
DEVICE void store_swiglu(const float* band, int64_t row, int64_t column, const SwigluTensors& t) {
  using Lanes = BandLanes<WarpN / 2>;
  const Lanes lane;
  if (column + lane.column >= t.ffn) return;
  UNROLL
  for (int pass = 0; pass < Lanes::kPasses; pass++) {
    const int r = lane.row + pass * Lanes::kRows;
    if (row + r >= t.m) continue;
    const float* from = band + r * Ld + lane.column;
    const Vector<bf16, 8> gate = rounded_sums(from), up = rounded_sums(from + WarpN / 2);
    const int64_t at = (row + r) * t.ffn + column + lane.column;
    if (t.gate_up != nullptr) {
      bf16* to = t.gate_up + (row + r) * t.ffn + at;
      store_global<8>(to, gate);
      store_global<8>(to + t.ffn, up);
    }
    store_global<8>(t.result + at, swiglu_of(gate, up));
  }
}

/** What is read is asked for first, all of it: it may be the memory written to. */
template <int WarpN, int Ld>
DEVICE void store_swiglu_gradient(const float* band, int64_t row, int64_t column, const SwigluTensors& t) {
  using Lanes = BandLanes<WarpN>;
  const Lanes lane;
  if (column + lane.column >= t.ffn) return;
  const int64_t at = (row + lane.row) * 2 * t.ffn + column + lane.column, pass_rows = Lanes::kRows * 2 * t.ffn;
  const auto exists = [&](int pass) { return row + lane.row + pass * Lanes::kRows < t.m; };
  Vector<bf16, 8> gate[Lanes::kPasses] = {}, up[Lanes::kPasses] = {};
  UNROLL
  for (int pass = 0; pass < Lanes::kPasses; pass++) {
    if (!exists(pass)) continue;
    gate[pass] = load<8>(t.gate_up + at + pass * pass_rows);
    up[pass] = load<8>(t.gate_up + at + pass * pass_rows + t.ffn);
  }
  UNROLL
  for (int pass = 0; pass < Lanes::kPasses; pass++) {
    if (!exists(pass)) continue;
    const Vector<bf16, 8> dm = rounded_sums(band + (lane.row + pass * Lanes::kRows) * Ld + lane.column);
    const GatedVectors<bf16, 8> d = swiglu_gradient(gate[pass], up[pass], dm);
    store_global<8>(t.result + at + pass * pass_rows, d.gate);
    store_global<8>(t.result + at + pass * pass_rows + t.ffn, d.up);
  }
}

/** Row: of kTiles. */
template <int Row, Fusion U>
__global__ void __launch_bounds__(kTiles[Row].threads(), kTiles[Row].resident)
    swiglu_mma_kernel(Problem<bf16> p, SwigluTensors t) {
  constexpr Tile kTile = kTiles[Row];
  constexpr bool kPaired = U == Fusion::kSwiglu;
  using Block = MmaBlock<kTile, kPaired ? Form::kForward : Form::kDgrad, kPaired>;
  Block block(p, shared_memory<Ring<kTile>>().bytes);
  block.sum();
  block.each_band([&](const float* band, int64_t row, int64_t column) {
    if constexpr (kPaired)
      store_swiglu<Block::kWarpN, Block::kBandLd>(band, row, column / 2, t);
    else
      store_swiglu_gradient<Block::kWarpN, Block::kBandLd>(band, row, column, t);
  });
}

}  // namespace thalweg::cuda::matmul
