#pragma once
#include "native/cuda/kernels/hopper_matmul_swiglu.cuh"

/**
 * The block: a warpgroup of which one thread loads, and two that multiply and store. Persistent: cluster c of C works
 * on pieces c, c + C, ... In ping-pong the consumers take these in turns, and one passes the turn on when it has seen
 * its last slot full: a phase of an mbarrier can only be waited for by who knows that the phase before is over.
 */
namespace thalweg::cuda::matmul::hopper {

/** One consumer warpgroup. */
template <Tile T, Form F, class P, Fusion U = Fusion::kNone>
class Consumer {
  static constexpr int kBlocks = T.rows() / 64;
  static constexpr bool kAMn = a_mn_major(F), kBMn = b_mn_major(F);
  using Product = Wgmma<T.n, kAMn, kBMn>;

 public:
  DEVICE Consumer(Shared<T>& shared, const Maps& maps, const Problem& problem, const Output& out)
      : shared_(shared),
        problem_(problem),
        out_(out),
        group_(static_cast<int>(shuffle_from(threadIdx.x / 128, 0)) - 1),  // uniform, which descriptors want
        rank_(static_cast<int>(blockIdx.x) % problem.cluster),
        slabs_(shared.slabs[group_], maps, group_),
        a_(panel_descriptor<kAMn>(shared.slots[0], P::kLeading) +
           (T.ping_pong ? 0 : descriptor_offset(group_ * kBlocks * kPanelBytes))),
        b_(panel_descriptor<kBMn>(shared.slots[0] + T.panels_m() * kPanelBytes, P::kLeading)) {}

  DEVICE void run() {
    const int first = static_cast<int>(blockIdx.x) / problem_.cluster;
    const int stride = static_cast<int>(gridDim.x) / problem_.cluster, count = problem_.count();
    const bool add = !out_.half && adds(out_);
    for (int index = first, turn = 0; index < count; index += stride, turn ^= 1) {
      const Work w = work_of<T>(problem_, index, rank_);
      if (T.ping_pong && turn != group_) {
        if (P::kTakesTurns) ring_.skip(slots_of<T, U>(problem_, w));
        continue;
      }
      if (T.ping_pong) await_turn();
      sum(w.steps);
      const int row = w.m + (T.ping_pong ? 0 : group_ * T.rows());
      if constexpr (U == Fusion::kSwigluGradient) {
        store_gradients(row, w.n);
      } else {
        if (problem_.addend) add_addend();
        UNROLL
        for (int block = 0; block < kBlocks; block++) {
          if constexpr (U == Fusion::kSwiglu)
            slabs_.store(sums_[block], row + block * 64, w.n / 2);
          else if (out_.half)
            slabs_.store(sums_[block], row + block * 64, w.n);
          else
            store_direct(sums_[block], out_, w.split, row + block * 64, w.n, add);
        }
      }
    }
    slabs_.finish();
  }

 private:
  /** All steps of the sum. One group of products stays under way while the next is issued; a slot is given back when
   * the group that read it is done. */
  DEVICE void sum(int steps) {
    int before = 0;
    for (int step = 0; step < steps; step++) {
      P::await_full(&shared_.full[ring_.slot], ring_.parity);
      P::before_products();
      multiply(descriptor_offset(ring_.slot * T.stage_bytes()), step > 0);
      wgmma_commit();
      wgmma_wait<P::kUnderWay>();
      if (step > 0) P::release(&shared_.empty[before], problem_.cluster);
      before = ring_.slot;
      ring_.advance();
    }
    if (T.ping_pong) pass_turn();
    wgmma_wait<0>();
    P::release(&shared_.empty[before], problem_.cluster);
  }

  DEVICE void await_turn() {
    P::await_turn(&shared_.turns[group_], turn_phase_ ^ (group_ == 0 ? 1 : 0));  // the first turn is group 0's
    turn_phase_ ^= 1;
  }

  /** The addend's slots are this warpgroup's too: they must be full before the other looks at the ring. */
  DEVICE void pass_turn() {
    RingPlace<T.stages> ahead = ring_;
    if (P::kTurnAfterAddend)
      for (int step = 0; step < more_slots<T, U>(problem_); step++, ahead.advance())
        P::await_full(&shared_.full[ahead.slot], ahead.parity);
    if (lane_index() == 0) mbarrier_arrive(&shared_.turns[1 - group_]);
  }

  DEVICE void multiply(uint64_t slot, bool add) {
    UNROLL
    for (int k = 0; k < kPanel / 16; k++) {
      UNROLL
      for (int block = 0; block < kBlocks; block++)
        Product::shared(sums_[block], a_ + slot + k * kSixteenOn<kAMn> + descriptor_offset(block * kPanelBytes),
                        b_ + slot + k * kSixteenOn<kBMn>, add || k > 0);
    }
  }

  DEVICE void add_addend() {
    const int warp = static_cast<int>(threadIdx.x) % 128 / 32;
    UNROLL
    for (int first = 0; first < T.panels_n(); first += T.addend_columns()) {
      P::await_full(&shared_.full[ring_.slot], ring_.parity);
      const std::byte* slot = shared_.slots[ring_.slot] + (T.ping_pong ? 0 : group_ * kBlocks * kPanelBytes);
      UNROLL
      for (int c = 0; c < T.addend_columns() && first + c < T.panels_n(); c++) {
        UNROLL
        for (int block = 0; block < kBlocks; block++)
          add_panel<P>(sums_[block], slot + (c * T.panels_m() + block) * kPanelBytes, first + c, warp);
      }
      fence_proxy_async();  // TMA writes next where ordinary loads have read
      sync_warp();          // every lane has read
      P::release(&shared_.empty[ring_.slot], problem_.cluster);
      ring_.advance();
    }
  }

  DEVICE void store_gradients(int row, int first) {
    UNROLL
    for (int column = 0; column < T.panels_n(); column++) {
      P::await_full(&shared_.full[ring_.slot], ring_.parity);
      const std::byte* slot = shared_.slots[ring_.slot] + (T.ping_pong ? 0 : group_ * kBlocks * kPanelBytes);
      UNROLL
      for (int block = 0; block < kBlocks; block++)
        slabs_.store_gradients(sums_[block] + column * 32, slot + block * kPanelBytes, T.panels_m() * kPanelBytes,
                               row + block * 64, first + column * kPanel);
      fence_proxy_async();  // TMA writes next where ordinary loads have read
      sync_warp();          // every lane has read
      P::release(&shared_.empty[ring_.slot], problem_.cluster);
      ring_.advance();
    }
  }

  Shared<T>& shared_;
  const Problem& problem_;
  const Output& out_;
  int group_, rank_;
  std::conditional_t<U == Fusion::kNone, SlabStore<P>, SwigluStore<P>> slabs_;
  uint64_t a_, b_;
  RingPlace<T.stages> ring_;
  uint32_t turn_phase_ = 0;
  float sums_[kBlocks][T.n / 2];
};

/** The whole of a block's work. Registers: 128 x 24 + 256 x 240 are what 384 x 168 at the start make. */
template <Tile T, Form F, class P, Fusion U = Fusion::kNone>
DEVICE void run_block(const Maps& maps, const Problem& problem, const Output& out) {
  auto& shared = shared_memory<Shared<T>>();
  if (threadIdx.x == 0) {
    for (int i = 0; i < T.stages; i++) {
      mbarrier_init(&shared.full[i], 1);
      mbarrier_init(&shared.empty[i], 4 * T.sharers() * problem.cluster);
    }
    for (int group = 0; group < kGroups; group++) mbarrier_init(&shared.turns[group], 4);
    P::show_barriers();
  }
  P::meet_at_start(problem.cluster);
  if (threadIdx.x < 128) {
    release_registers<24>();
    if (threadIdx.x == 0) Producer<T, F, P, U>(shared, maps, problem).run();
  } else {
    claim_registers<240>();
    Consumer<T, F, P, U>(shared, maps, problem, out).run();
  }
  P::meet_at_end(problem.cluster);
}

}  // namespace thalweg::cuda::matmul::hopper
