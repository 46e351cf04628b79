#pragma once
#include "native/cuda/kernels/hopper_matmul_epilogue.cuh"
#include "native/cuda/kernels/swiglu.cuh"

/**
 * The ends of products fused with SwiGLU and its gradient. Sums are rounded to bf16 first, as the product alone would
 * store them, and the arithmetic is swiglu.cuh's: the bits are those of the two kernels apart.
 *
 *   forward    a panel of B holds 32 rows of gate over the 32 rows of up for the same columns, so that of each 32 sums
 *              of a panel a thread's first 16 are gate, its last 16 up:
 *
 *                sums   | gate: 32 columns | up: 32 columns | ...     half a panel each, and y another, leave by TMA
 *
 *   gradient   gate and up follow the last step of the sum through the ring, a column of panels of both in a slot, and
 *              meet the sums there; both gradients leave as half panels too
 *
 * A warpgroup's two slabs are a ring of four half panels.
 */
namespace thalweg::cuda::matmul::hopper {

/** Gradients of 16 columns, as bf16 pairs: of sums, and of gate and up in shared memory (up `to_up` bytes further). */
template <class P>
DEVICE void gated_gradients(uint32_t (&dgate)[4], uint32_t (&dup)[4], const float* sums, const std::byte* gate_at,
                            int to_up) {
  uint32_t dm[4], gate[4], up[4];
  round_sums(dm, sums);
  load_matrix_x4(gate, gate_at);
  load_matrix_x4(up, gate_at + to_up);
  UNROLL
  for (int i = 0; i < 4; i++) {
    const Gated low = swiglu_gradient(low_bf16(gate[i]), low_bf16(up[i]), low_bf16(dm[i]));
    const Gated high = swiglu_gradient(high_bf16(gate[i]), high_bf16(up[i]), high_bf16(dm[i]));
    dgate[i] = pack_bf16(low.gate, high.gate);
    dup[i] = pack_bf16(low.up, high.up);
  }
}

/** A warpgroup's way out. */
template <class P>
class SwigluStore {
 public:
  DEVICE SwigluStore(std::byte (&slabs)[kSlabs][kPanelBytes], const Maps& maps, int group)
      : halves_(slabs[0]), maps_(maps), group_(group), thread_(static_cast<int>(threadIdx.x) % 128) {}

  /** gate, up and y of 64 rows from `row` on, from N / 64 panels' sums of both; `column`: of y. */
  template <int N>
  DEVICE void store(const float (&sums)[N], int row, int column) {
    UNROLL
    for (int panel = 0; panel < N / 32; panel++) store_gated(sums + panel * 32, row, column + panel * kPanel / 2);
  }

  /** The gradients of gate and up of one panel, 64 rows and columns from `row` and `column` on: `sums` are its, `panel`
   * holds gate, and up lies `to_up` bytes further. */
  DEVICE void store_gradients(const float* sums, const std::byte* panel, int to_up, int row, int column) {
    UNROLL
    for (int half = 0; half < 2; half++) {
      const int first = begin_halves(2);
      UNROLL
      for (int i = 0; i < kSteps; i++) {
        const int step = half * kSteps + i;
        uint32_t dgate[4], dup[4];
        gated_gradients<P>(dgate, dup, sums + step * 8, panel + P::place(thread_ / 32, step), to_up);
        write(first, i, dgate);
        write(first + 1, i, dup);
      }
      if (!end_halves()) continue;
      send(maps_.c, first, row, column + half * kPanel / 2);
      send(*maps_.up_c, first + 1, row, column + half * kPanel / 2);
    }
  }

  /** Before the block ends, and its shared memory with it. */
  DEVICE void finish() {
    if (thread_ == 0) P::await_stores();
  }

 private:
  static constexpr int kHalves = 2 * kSlabs, kSteps = kPanel / 32;  // half panels in the slabs; 16 columns each

  /** 32 columns of gate, up and y: into half panels `first` (y), and the two after it where gate and up are kept. */
  DEVICE void store_gated(const float* sums, int row, int column) {
    const bool kept = maps_.up_c != nullptr;
    const int first = begin_halves(kept ? 3 : 1);
    UNROLL
    for (int step = 0; step < kSteps; step++) {
      uint32_t gate[4], up[4], y[4];
      round_sums(gate, sums + step * 8);
      round_sums(up, sums + 16 + step * 8);
      UNROLL
      for (int i = 0; i < 4; i++)
        y[i] =
            pack_bf16(swiglu_of(low_bf16(gate[i]), low_bf16(up[i])), swiglu_of(high_bf16(gate[i]), high_bf16(up[i])));
      write(first, step, y);
      if (!kept) continue;
      write(first + 1, step, gate);
      write(first + 2, step, up);
    }
    if (!end_halves()) return;
    send(*maps_.y, first, row, column);
    if (!kept) return;
    send(maps_.c, first + 1, row, column);
    send(*maps_.up_c, first + 2, row, column);
  }

  /** The first of the `count` half panels that come next, when the stores out of them have read them. */
  DEVICE int begin_halves(int count) {
    if (thread_ == 0) P::await_halves(count);
    P::meet(group_);
    const int first = next_;
    next_ = (next_ + count) % kHalves;
    return first;
  }
  DEVICE void write(int half, int step, const uint32_t (&pairs)[4]) {
    store_matrix_x4(half_at(half) + P::half_place(thread_ / 32, step), pairs);
  }
  /** What was written is there, and TMA may see it: true for the thread that sends it. */
  DEVICE bool end_halves() {
    P::show_slab();
    P::meet(group_);
    return thread_ == 0;
  }
  DEVICE void send(const TensorMap& map, int half, int row, int column) {
    tma_store_2d(map, half_at(half), column, row);
    bulk_commit();
  }
  DEVICE std::byte* half_at(int half) { return halves_ + half % kHalves * kHalfBytes; }

  std::byte* halves_;
  const Maps& maps_;
  int group_, thread_;
  int next_ = 0;
};

}  // namespace thalweg::cuda::matmul::hopper
