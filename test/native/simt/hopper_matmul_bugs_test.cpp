#include "native/cuda/kernels/hopper_matmul_launch.cuh"
#include "test/native/simt/support.h"

// The wgmma kernel with one step of its protocol wrong: each must be noticed, and the kernel as it is must be right
// under every schedule.
namespace {

using namespace check;
using namespace cuda::matmul::hopper;
using cuda::matmul::a_sum_major, cuda::matmul::b_sum_major, cuda::matmul::round_up;
using cuda::matmul::Form, cuda::matmul::Output, cuda::matmul::Product, cuda::matmul::Shape;

/** A product on one cluster, so that its blocks make many tiles, with sums longer than the ring. */
template <int Row, Form F, class P>
std::string run(int cluster, bool half, bool add) {
  constexpr int64_t kM = 264, kN = kTiles[Row].n + 72, kK = (kTiles[Row].stages + 2) * 64 + 8;
  static const auto operands = [] {
    Random random(11);
    return std::array{bf16_values(random.normal(kM * kK)), bf16_values(random.normal(kN * kK)),
                      bf16_values(random.normal(kM * kN))};
  }();
  static const Values want = [] {
    const Values a = doubles(operands[0]), b = doubles(operands[1]);
    Values sums(static_cast<size_t>(kM * kN));
    for (int64_t i = 0; i < kM; i++)
      for (int64_t p = 0; p < kK; p++)
        for (int64_t j = 0; j < kN; j++)
          sums[static_cast<size_t>(i * kN + j)] += a[static_cast<size_t>(a_sum_major(F) ? i * kK + p : p * kM + i)] *
                                                   b[static_cast<size_t>(b_sum_major(F) ? j * kK + p : p * kN + j)];
    return sums;
  }();
  std::vector<cuda::bf16> c(static_cast<size_t>(kM * kN), {0x7FFF});
  std::vector<float> wide(static_cast<size_t>(kM * kN), NAN);
  const auto* addend = add ? operands[2].data() : nullptr;
  const Output out{half ? static_cast<void*>(c.data()) : wide.data(), addend, nullptr, kM, kN, kN, 0, half, true};
  const Shape shape{kM, kN, kK, false};
  const Product<cuda::bf16> product{
      F, shape, {operands[0].data(), a_sum_major(F) ? kK : kM}, {operands[1].data(), b_sum_major(F) ? kK : kN}, out};
  Plan plan;
  plan.tile = Row;
  plan.cluster = cluster;
  plan.k_per_split = round_up(kK, kPanel);
  const cuda::Target target{90, cluster, 227 * 1024};
  cuda::Context context{simt_stream(), target, nullptr, nullptr, nullptr, nullptr, nullptr};
  launch_row<Row, F, P>(product, plan, out, context);
  Values expected = want;
  if (add)
    for (size_t i = 0; i < expected.size(); i++) expected[i] += float_of(operands[2][i].bits);
  const double error = relative_error(half ? doubles(c) : Values(wide.begin(), wide.end()), expected);
  return error < 4e-3 ? "" : "relative error " + std::to_string(error);  // one rounding to bf16: 2^-9 at most
}

template <class Bug, int Row = 0, Form F = Form::kDgrad>
void caught(const char* name, const char* text = "", int cluster = 1, bool add = false) {
  must_be_caught(
      name, [&] { return run<Row, F, Bug>(cluster, true, add); }, text);
}

/** A slot is filled while it is read. */
struct NoEmptyWait : Protocol {
  static void await_empty(uint64_t*, uint32_t) {}
};
struct WrongParity : Protocol {
  static void await_empty(uint64_t* empty, uint32_t phase) { cuda::mbarrier_wait(empty, phase); }
};
struct NoFullWait : Protocol {
  static void await_full(uint64_t*, uint32_t) {}
};
/** Slots go back while the products that read them may be under way. */
struct EarlyRelease : Protocol {
  static constexpr int kUnderWay = 2;
};
struct TooFewBytes : Protocol {
  static void expect(uint64_t* full, int panels) { Protocol::expect(full, panels - 1); }
};
struct WrongLeading : Protocol {
  static constexpr int kLeading = 8 * 128;
};
struct NoSwizzle : Protocol {
  static int place(int warp, int step) {
    const int lane = cuda::lane_index();
    return (warp * 16 + lane % 16) * 128 + (step * 2 + lane / 16) * 16;
  }
};
struct NoProductsFence : Protocol {
  static void before_products() {}
};
struct NoInitFence : Protocol {
  static void show_barriers() {}
};
struct NoSlabWait : Protocol {
  static void await_slab() {}
};
struct NoSlabFence : Protocol {
  static void show_slab() {}
};
struct NoMeeting : Protocol {
  static void meet(int) {}
};
struct NoStoreWait : Protocol {
  static void await_stores() {}
};
struct NoTurn : Protocol {
  static void await_turn(uint64_t*, uint32_t) {}
};
struct TurnBeforeAddend : Protocol {
  static constexpr bool kTurnAfterAddend = false;
};
/** Ping-pong: a warpgroup reads the other's slots. */
struct NotSkipped : Protocol {
  static constexpr bool kTakesTurns = false;
};
struct NoStart : Protocol {
  static void meet_at_start(int) { cuda::sync_threads(); }
};
struct NoEnd : Protocol {
  static void meet_at_end(int) {}
};
/** The other block of the cluster never hears that its slot is read here ... */
struct OtherNotTold : Protocol {
  static void release(uint64_t* empty, int) { Protocol::release(empty, 1); }
};
/** ... or is not asked at all. */
struct OtherNotAsked : Protocol {
  static void release(uint64_t* empty, int cluster) {
    for (int i = 0; i < cluster; i++) Protocol::release(empty, 1);
  }
};

}  // namespace

TEST("the wgmma kernel is right under all schedules, in every tile, alone and in a cluster") {
  for (int cluster : {1, 2})
    for (bool add : {false, true}) {
      must_be_right([&] { return run<0, Form::kForward, Protocol>(cluster, true, add); });
      must_be_right([&] { return run<1, Form::kDgrad, Protocol>(cluster, true, add); });
    }
  for (int cluster : {1, 2}) {
    must_be_right([&] { return run<2, Form::kWgrad, Protocol>(cluster, false, false); });
    must_be_right([&] { return run<1, Form::kWgrad, Protocol>(cluster, false, false); });
  }
}

TEST("slots filled too early, waited for wrongly or given back too early are caught") {
  caught<NoEmptyWait>("no wait for an empty slot");
  caught<NoEmptyWait, 1>("no wait for an empty slot in ping-pong");
  caught<WrongParity>("wrong parity", "deadlock");
  caught<NoFullWait>("no wait for a full slot");
  caught<NoFullWait, 2, Form::kForward>("no wait for the addend", "", 1, true);
  caught<EarlyRelease>("slot released before wgmma read it");
  caught<EarlyRelease, 1>("slot released before wgmma read it in ping-pong");
  caught<TooFewBytes>("too few bytes expected");
}

TEST("descriptors, swizzles and fences that are wrong are caught") {
  caught<WrongLeading>("wrong offset from panel to panel of an MN-major operand");
  caught<NoSwizzle>("no swizzle in the epilogue");
  caught<NoProductsFence>("no wgmma.fence", "wgmma.fence");
  caught<NoInitFence>("no fence after mbarrier.init", "fence.mbarrier_init");
  caught<NoSlabFence>("no proxy fence before the TMA store");
}

TEST("slabs written too early, stored too early or left behind are caught") {
  caught<NoSlabWait>("slab written before its last store read it");
  caught<NoMeeting>("store before all warps wrote");
  caught<NoStoreWait, 2>("exit before the stores read shared memory");
}

TEST("warpgroups that do not keep their turns are caught") {
  caught<NoTurn, 1>("no turns", "", 1, false);
  caught<TurnBeforeAddend, 1>("the turn passed before the addend came", "", 1, true);
  caught<NotSkipped, 1>("the other's slots not passed over");
}

TEST("blocks of a cluster that do not heed each other are caught") {
  caught<NoStart>("no meeting at the start", "", 2);
  caught<NoEnd>("no meeting at the end", "exited", 2);
  caught<OtherNotTold>("a slot given back to one block only", "deadlock", 2);
  caught<OtherNotAsked>("a slot of the other block filled while it is read", "", 2);
}

TEST_MAIN()
