#pragma once
#include "native/cuda/kernels/hopper_matmul_layout.cuh"
#include "native/cuda/kernels/hopper_ring.cuh"
#include "native/cuda/ptx/tma.h"

/**
 * The ring between the thread that loads and the warpgroups that multiply:
 *
 *   producer   waits empty[s] ── TMA into slot s, bytes counted by full[s] ──┐
 *   consumers  waits full[s] ── wgmma reads slot s ── all its warps arrive at empty[s] ──> free again
 *
 * In a cluster of two each block loads A for itself and every other panel of B for both, so a slot is free when the
 * warps of both blocks have said so.
 */
namespace thalweg::cuda::matmul::hopper {

/**
 * The steps by which the threads of a block keep out of each other's way. Kernels name them through a template
 * parameter, so that tests can leave one out and see that it is missed.
 */
struct Protocol {
  static DEVICE void await_full(uint64_t* full, uint32_t phase) { mbarrier_wait(full, phase); }
  /** The first time round slots are free: the phase before the first counts as over. */
  static DEVICE void await_empty(uint64_t* empty, uint32_t phase) { mbarrier_wait(empty, phase ^ 1); }
  static DEVICE void await_turn(uint64_t* turn, uint32_t phase) { mbarrier_wait(turn, phase); }
  static constexpr bool kTurnAfterAddend = true;  // a turn ends when the addend's slots are full too
  static DEVICE void show_barriers() { mbarrier_init_fence(); }
  static DEVICE void expect(uint64_t* full, int panels) {
    mbarrier_arrive_expect(full, static_cast<uint32_t>(panels * kPanelBytes));
  }
  /** This warp has read a slot: says so to the block, or to both blocks of the cluster, each by a lane. */
  static DEVICE void release(uint64_t* empty, int cluster) {
    if (cluster == 1) {
      if (lane_index() == 0) mbarrier_arrive(empty);
    } else if (lane_index() < cluster) {
      mbarrier_arrive_remote(empty, static_cast<uint32_t>(lane_index()));
    }
  }
  static constexpr int kUnderWay = 1;           // groups of products unfinished when the slot before is released
  static constexpr int kLeading = kPanelBytes;  // from one MN-major panel to the next
  static constexpr bool kTakesTurns = true;     // ping-pong: a warpgroup passes over the other's slots
  static DEVICE int place(int warp, int step) { return matrix_row(warp, step, lane_index()); }
  static DEVICE int half_place(int warp, int step) { return half_matrix_row(warp, step, lane_index()); }
  static DEVICE void before_products() { wgmma_fence(); }
  static DEVICE void await_slab() { bulk_wait_read<kSlabs - 1>(); }
  /** Before 1, 2 or 3 half panels of a ring of four are written: the stores out of the others may go on. */
  static DEVICE void await_halves(int count) {
    if (count == 1)
      bulk_wait_read<3>();
    else if (count == 2)
      bulk_wait_read<2>();
    else
      bulk_wait_read<1>();
  }
  static constexpr int kUp = 1;  // the half of a paired panel, and of a slot of gate and up, that up is loaded into
  static DEVICE void await_stores() { bulk_wait_read<0>(); }
  static DEVICE void show_slab() { fence_proxy_async(); }
  /** All 128 threads of a consumer warpgroup. */
  static DEVICE void meet(int group) {
    if (group == 0)
      named_barrier_sync<1, 128>();
    else
      named_barrier_sync<2, 128>();
  }
  static DEVICE void meet_at_start(int cluster) {
    if (cluster > 1)
      cluster_sync();
    else
      sync_threads();
  }
  /** A block must not leave while another may still arrive at its barriers. */
  static DEVICE void meet_at_end(int cluster) {
    if (cluster == 1) return;
    sync_warp();
    cluster_sync();
  }
};

/** Slots a piece of work takes after those of its sum: its addend's, or those of gate and up. */
template <Tile T, Fusion U>
DEVICE int more_slots(const Problem& p) {
  if constexpr (U == Fusion::kSwigluGradient) return T.gated_steps();
  return p.addend ? T.addend_steps() : 0;
}

template <Tile T, Fusion U>
DEVICE int slots_of(const Problem& p, const Work& w) {
  return w.steps + more_slots<T, U>(p);
}

/** What TMA moves. Fused, `b` is gate's rows of the weight, `addend` gate and `c` gate or its gradient, and what
 * belongs to up, and y, have maps of their own. */
struct Maps {
  const TensorMap &a, &b, &addend, &c;
  const TensorMap *up_b = nullptr, *up_addend = nullptr, *up_c = nullptr, *y = nullptr;
};

/** One thread, which loads everything. */
template <Tile T, Form F, class P, Fusion U = Fusion::kNone>
class Producer {
 public:
  DEVICE Producer(Shared<T>& shared, const Maps& maps, const Problem& problem)
      : shared_(shared), maps_(maps), problem_(problem), rank_(static_cast<int>(blockIdx.x) % problem.cluster) {}

  DEVICE void run() {
    const int first = static_cast<int>(blockIdx.x) / problem_.cluster;
    const int stride = static_cast<int>(gridDim.x) / problem_.cluster, count = problem_.count();
    for (int index = first; index < count; index += stride) {
      const Work w = work_of<T>(problem_, index, rank_);
      for (int step = 0; step < w.steps; step++) load_step(w, w.k + step * kPanel);
      if constexpr (U == Fusion::kSwigluGradient)
        for (int column = 0; column < T.gated_steps(); column++) load_gated(w, column);
      else if (problem_.addend)
        for (int step = 0; step < T.addend_steps(); step++) load_addend(w, step * T.addend_columns());
    }
  }

 private:
  DEVICE std::byte* begin_slot(int panels) {
    P::await_empty(&shared_.empty[ring_.slot], ring_.parity);
    P::expect(&shared_.full[ring_.slot], panels);
    return shared_.slots[ring_.slot];
  }

  DEVICE void load_step(const Work& w, int k) {
    std::byte* slot = begin_slot(T.panels_m() + T.panels_n());
    uint64_t* full = &shared_.full[ring_.slot];
    UNROLL
    for (int i = 0; i < T.panels_m(); i++)
      load_panel<a_mn_major(F)>(slot + i * kPanelBytes, maps_.a, full, w.m + i * kPanel, k, 1);
    if constexpr (U == Fusion::kSwiglu)
      load_pairs(slot + T.panels_m() * kPanelBytes, full, w.n / 2, k);
    else
      for (int i = rank_; i < T.panels_n(); i += problem_.cluster)
        load_panel<b_mn_major(F)>(slot + (T.panels_m() + i) * kPanelBytes, maps_.b, full, w.n + i * kPanel, k,
                                  problem_.cluster);
    ring_.advance();
  }

  /** B's panels of 32 rows of gate over the 32 rows of up for the same columns of the result, from `column` on. Of two
   * blocks one loads gate for both, the other up. */
  DEVICE void load_pairs(std::byte* panels, uint64_t* full, int column, int k) {
    NO_UNROLL  // the producer has 24 registers
        for (int i = 0; i < T.panels_n(); i++) {
      UNROLL
      for (int half = 0; half < 2; half++)
        if (problem_.cluster == 1 || half == rank_)
          load_panel<false>(panels + i * kPanelBytes + half * kHalfBytes, half == P::kUp ? *maps_.up_b : maps_.b, full,
                            column + i * kPanel / 2, k, problem_.cluster);
    }
  }

  /** Gate's panels of one column of panels, then up's. */
  DEVICE void load_gated(const Work& w, int column) {
    std::byte* slot = begin_slot(2 * T.panels_m());
    NO_UNROLL
    for (int i = 0; i < 2 * T.panels_m(); i++)
      tma_load_2d(slot + i * kPanelBytes, i / T.panels_m() == P::kUp ? *maps_.up_addend : maps_.addend,
                  &shared_.full[ring_.slot], w.n + column * kPanel, w.m + i % T.panels_m() * kPanel);
    ring_.advance();
  }

  /** Panels of the addend from column `first` of panels on, in the order (column, row). */
  DEVICE void load_addend(const Work& w, int first) {
    const int left = T.panels_n() - first, columns = left < T.addend_columns() ? left : T.addend_columns();
    std::byte* slot = begin_slot(columns * T.panels_m());
    for (int c = 0; c < columns; c++)
      for (int r = 0; r < T.panels_m(); r++)
        tma_load_2d(slot + (c * T.panels_m() + r) * kPanelBytes, maps_.addend, &shared_.full[ring_.slot],
                    w.n + (first + c) * kPanel, w.m + r * kPanel);
    ring_.advance();
  }

  template <bool MnMajor>
  DEVICE void load_panel(std::byte* to, const TensorMap& map, uint64_t* full, int side, int k, int blocks) {
    const int x = MnMajor ? side : k, y = MnMajor ? k : side;
    if (blocks == 1)
      tma_load_2d(to, map, full, x, y);
    else
      tma_load_2d_multicast(to, map, full, x, y, 3);
  }

  Shared<T>& shared_;
  const Maps& maps_;
  const Problem& problem_;
  int rank_;
  RingPlace<T.stages> ring_;
};

}  // namespace thalweg::cuda::matmul::hopper
