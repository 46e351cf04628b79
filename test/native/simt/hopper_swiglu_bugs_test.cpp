#include "native/cuda/kernels/hopper_matmul_swiglu_launch.cuh"
#include "test/native/simt/support.h"

// The wgmma kernels fused with SwiGLU and its gradient, with one step of their protocol wrong: each must be noticed,
// and the kernels as they are must be right under every schedule. What they share with the product alone is broken in
// hopper_matmul_bugs_test.cpp.
namespace {

using namespace check;
using namespace cuda::matmul::hopper;
using cuda::matmul::Fusion, cuda::matmul::Shape, cuda::matmul::SwigluTensors, cuda::matmul::round_up;

constexpr int64_t kM = 264, kK = 200;

double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }
double rounded(double x) { return float_of(bf16_of(x)); }

/** Operands, and the results in float64 of sums rounded to bf16. */
struct Reference {
  std::vector<cuda::bf16> a, b, gate_up;
  Values wide, y;  // gate and up, or their gradients; silu(gate) * up
};

template <Fusion U>
Reference reference(int64_t ffn) {
  constexpr bool kForward = U == Fusion::kSwiglu;
  Random random(11);
  const int64_t n = kForward ? 2 * ffn : ffn;
  Reference r{bf16_values(random.normal(kM * kK)), bf16_values(random.normal(n * kK)),
              bf16_values(random.normal(kM * 2 * ffn)), Values(static_cast<size_t>(kM * 2 * ffn)),
              Values(static_cast<size_t>(kM * ffn))};
  const Values a = doubles(r.a), b = doubles(r.b), both = doubles(r.gate_up);
  const auto sum = [&](int64_t i, int64_t j) {
    double total = 0;
    for (int64_t p = 0; p < kK; p++)
      total += a[static_cast<size_t>(i * kK + p)] * b[static_cast<size_t>(kForward ? j * kK + p : p * n + j)];
    return rounded(total);
  };
  for (int64_t i = 0; i < kM; i++)
    for (int64_t j = 0; j < ffn; j++) {
      const auto gate = static_cast<size_t>(i * 2 * ffn + j), up = gate + static_cast<size_t>(ffn);
      if (kForward) {
        r.wide[gate] = sum(i, j);
        r.wide[up] = sum(i, j + ffn);
        r.y[static_cast<size_t>(i * ffn + j)] = r.wide[gate] * sigmoid(r.wide[gate]) * r.wide[up];
      } else {
        const double d = sum(i, j), s = sigmoid(both[gate]);
        r.wide[gate] = d * both[up] * s * (1 + both[gate] * (1 - s));
        r.wide[up] = d * both[gate] * s;
      }
    }
  return r;
}

/** On one cluster, so that its blocks make several tiles, ragged ones among them. */
template <int Row, Fusion U, class P>
std::string run(int cluster, bool kept) {
  constexpr int64_t kFfn = kTiles[Row].n / 2 + 72;
  static const Reference want = reference<U>(kFfn);
  constexpr bool kForward = U == Fusion::kSwiglu;
  std::vector<cuda::bf16> wide(want.wide.size(), {0x7FFF}), y(want.y.size(), {0x7FFF}), read = want.gate_up;
  SwigluTensors t{kept ? wide.data() : nullptr, y.data(), kM, kFfn};
  if (!kForward) t = {read.data(), wide.data(), kM, kFfn};
  Plan plan;
  plan.tile = Row;
  plan.cluster = cluster;
  plan.k_per_split = round_up(kK, kPanel);
  const cuda::Target target{90, cluster, 227 * 1024};
  cuda::Context context{simt_stream(), target, nullptr, nullptr, nullptr, nullptr, nullptr};
  const Shape shape{kM, kForward ? 2 * kFfn : kFfn, kK, false};
  launch_swiglu_row<Row, U, P>(shape, {want.a.data(), kK}, {want.b.data(), kForward ? kK : kFfn}, plan, t, context);
  double error = 0;
  if (kept || !kForward) error = relative_error(doubles(wide), want.wide);
  if (kForward) error = std::max(error, relative_error(doubles(y), want.y));
  // One rounding to bf16 of the result, and of the sums one in hundreds to the other neighbour.
  return error < 4e-3 ? "" : "relative error " + std::to_string(error);
}

constexpr Fusion kForward = Fusion::kSwiglu, kGradient = Fusion::kSwigluGradient;

template <class Bug, Fusion U, int Row = 0>
void caught(const char* name, const char* text = "", int cluster = 1, bool kept = true) {
  must_be_caught(
      name, [&] { return run<Row, U, Bug>(cluster, kept); }, text);
}

/** Up where gate belongs: in the operand, or in what the gradient reads. */
struct Swapped : Protocol {
  static constexpr int kUp = 0;
};
struct NoFullWait : Protocol {
  static void await_full(uint64_t*, uint32_t) {}
};
struct NoEmptyWait : Protocol {
  static void await_empty(uint64_t*, uint32_t) {}
};
struct TooFewBytes : Protocol {
  static void expect(uint64_t* full, int panels) { Protocol::expect(full, panels - 1); }
};
/** Half panels written before their last store has read them: at all, or one store too early. */
struct NoHalvesWait : Protocol {
  static void await_halves(int) {}
};
struct EarlyHalves : Protocol {
  static void await_halves(int count) { count > 1 ? Protocol::await_halves(count - 1) : cuda::bulk_wait_read<4>(); }
};
struct NoSwizzle : Protocol {
  static int half_place(int warp, int step) {
    const int lane = cuda::lane_index();
    return (warp * 16 + lane % 16) * 64 + (step * 2 + lane / 16) * 16;
  }
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
struct TurnBeforeGated : Protocol {
  static constexpr bool kTurnAfterAddend = false;
};
struct NotSkipped : Protocol {
  static constexpr bool kTakesTurns = false;
};
struct OtherNotAsked : Protocol {
  static void release(uint64_t* empty, int cluster) {
    for (int i = 0; i < cluster; i++) Protocol::release(empty, 1);
  }
};

}  // namespace

TEST("the fused wgmma kernels are right under all schedules, alone and in a cluster") {
  must_be_right([] { return run<0, kForward, Protocol>(1, true); });
  must_be_right([] { return run<1, kForward, Protocol>(2, false); });
  for (int cluster : {1, 2}) must_be_right([&] { return run<1, kGradient, Protocol>(cluster, true); });
}

TEST("gate and up that change places are caught") {
  caught<Swapped, kForward>("up loaded as gate");
  caught<Swapped, kForward, 1>("up loaded as gate in a cluster", "", 2);
  caught<Swapped, kGradient>("up read as gate");
}

TEST("gate and up read before they came, or overwritten while they are read, are caught") {
  caught<NoFullWait, kGradient, 2>("no wait for gate and up");
  caught<NoEmptyWait, kGradient>("no wait for an empty slot");
  caught<TooFewBytes, kGradient>("too few bytes expected");
  caught<TurnBeforeGated, kGradient, 1>("the turn passed before gate and up came");
  caught<NotSkipped, kGradient, 1>("the other's slots not passed over");
  caught<OtherNotAsked, kForward>("a slot of the other block filled while it is read", "", 2);
}

TEST("half panels written too early, stored too early, left behind or laid out wrongly are caught") {
  caught<NoHalvesWait, kForward>("half panels written before their last store read them");
  caught<NoHalvesWait, kForward>("the same where y alone is stored", "", 1, false);
  caught<EarlyHalves, kForward>("half panels written one store too early");
  caught<EarlyHalves, kGradient>("gradients written one store too early");
  caught<EarlyHalves, kForward>("the same where y alone is stored", "", 1, false);
  caught<NoHalvesWait, kGradient>("gradients written before their last store read them");
  caught<NoSwizzle, kForward>("no swizzle of half panels");
  caught<NoSlabFence, kForward>("no proxy fence before the TMA stores");
  caught<NoSlabFence, kGradient>("no proxy fence before the gradients' TMA stores");
  caught<NoMeeting, kForward>("stores before all warps wrote");
  caught<NoStoreWait, kForward, 2>("exit before the stores read shared memory", "", 1, false);
}

TEST_MAIN()
