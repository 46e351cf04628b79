#include "native/cuda/kernels/hopper_matmul_tiles.h"

#include <cmath>
#include <set>
#include <tuple>

#include "native/cuda/kernels/matmul_swiglu_plan.h"
#include "test/native/bench/paper.h"
#include "test/native/check.h"
#include "test/native/reference.h"

// The choices behind the Hopper matrix products, as pure functions: no device, no kernel.
namespace {

using namespace check;
using namespace thalweg::cuda::matmul;
using thalweg::cuda::Target;

constexpr Target kH200{90, 132, 227 * 1024};

/** visit(name, shape, bf16 result) for every matrix product of the paper's four models. */
template <class Visit>
void each_product(Visit visit) {
  bench::each_paper_product([&](const char* model, const char* product, int64_t rows, int64_t n, int64_t k) {
    const std::string name = std::string(model) + " " + product;
    visit(name + " forward", Shape{rows, n, k, false}, true);
    visit(name + " dgrad", Shape{rows, k, n, false}, true);
    visit(name + " wgrad", Shape{n, k, rows, false}, false);
  });
}

}  // namespace

TEST("every tile fits a multiprocessor of sm_90: shared memory, registers, panels") {
  for (const hopper::Tile& t : hopper::kTiles) {
    CHECK(t.shared_bytes() <= 227 * 1024, t.m, " x ", t.n, " takes ", t.shared_bytes());
    CHECK(t.m % hopper::kPanel == 0 && t.n % hopper::kPanel == 0 && t.rows() % 64 == 0, t.m, " x ", t.n);
    const int sums = t.rows() / 64 * t.n / 2;  // fp32 a thread
    CHECK(sums <= 192, t.m, " x ", t.n, ": ", sums, " sums a thread leave too few registers of 240");
    CHECK(t.addend_columns() * t.panels_m() * hopper::kPanelBytes <= t.stage_bytes(), "the addend's slot");
    CHECK(t.stages > t.addend_steps(),
          "a turn ends when the addend is there, with the last slot of the sum still held");
    CHECK(t.addend_steps() * t.addend_columns() >= t.panels_n(), "the addend's columns");
    CHECK(2 * t.panels_m() * hopper::kPanelBytes <= t.stage_bytes(), "the slot of gate and up");
    CHECK(!t.ping_pong || t.stages > t.gated_steps(), "so with gate and up");
  }
}

TEST("another GPU, or one with less shared memory, is not asked to run them") {
  CHECK(hopper::supported(kH200));
  for (int capability : {80, 86, 89, 100, 120}) CHECK(!hopper::supported({capability, 132, 227 * 1024}), capability);
  CHECK(!hopper::supported({90, 132, 99 * 1024}));
}

TEST("a plan's parts cover the sum, without an empty one, at whole panels") {
  Random random(1);
  for (int i = 0; i < 2000; i++) {
    const auto size = [&] { return static_cast<int64_t>(std::exp(random.uniform(0, 11))); };
    const Shape s{size(), size(), size(), false};
    const Target target{90, static_cast<int>(random.integer(1, 200)), 227 * 1024};
    const hopper::Plan p = hopper::plan(s, target, random.integer(0, 1) == 1);
    CHECK(
        p.splits * p.k_per_split >= s.k && (p.splits - 1) * p.k_per_split < s.k && p.k_per_split % hopper::kPanel == 0,
        s.m, " x ", s.n, " x ", s.k, ": ", p.splits, " parts of ", p.k_per_split);
    CHECK(p.cluster >= 1 && p.cluster <= 2 && p.cluster <= target.multiprocessors, "a cluster of ", p.cluster);
    CHECK(p.efficiency > 0 && p.efficiency <= 1, "efficiency ", p.efficiency);
    CHECK(slice_bytes(s, p.splits) <= int64_t{128} << 20, "slices of ", slice_bytes(s, p.splits), " bytes");
  }
}

TEST("the blocks of all clusters make each tile of each part once, and no step of the sum twice") {
  Random random(2);
  for (int i = 0; i < 200; i++) {
    constexpr hopper::Tile kTile = hopper::kTiles[0];
    const Shape s{random.integer(1, 2000), random.integer(1, 2000), random.integer(1, 1000), false};
    hopper::Plan plan;
    plan.cluster = static_cast<int>(random.integer(1, 2));
    plan.k_per_split = random.integer(1, 4) * hopper::kPanel;
    plan.splits = static_cast<int>(cut(s.k, plan.k_per_split));
    plan.group = 1 << random.integer(0, 4);
    const hopper::Problem problem = hopper::problem_of(s, plan, false);
    std::set<std::tuple<int, int, int>> seen;
    int64_t steps = 0;
    for (int index = 0; index < problem.count(); index++)
      for (int rank = 0; rank < plan.cluster; rank++) {
        const hopper::Work w = hopper::work_of<kTile>(problem, index, rank);
        CHECK(w.steps >= 1 && w.k == w.split * plan.k_per_split && w.n < s.n && w.m % kTile.m == 0 &&
                  w.n % kTile.n == 0 && w.m < s.m + kTile.m,
              "work ", index, " of block ", rank);
        CHECK(seen.insert({w.m, w.n, w.split}).second, "work ", index, " of block ", rank, " is done twice");
        if (w.m == 0 && w.n == 0) steps += w.steps;
      }
    CHECK(steps == cut(s.k, hopper::kPanel), steps, " steps of ", s.k);
    const auto tiles = static_cast<size_t>(cut(cut(s.m, kTile.m), plan.cluster) * plan.cluster * cut(s.n, kTile.n));
    CHECK(seen.size() == tiles * static_cast<size_t>(plan.splits), seen.size(), " of ", tiles, " tiles");
  }
}

TEST("wgmma is preferred for every product of the paper's models, and keeps the tensor cores busy") {
  double logarithms = 0;
  int count = 0;
  each_product([&](const std::string& name, const Shape& s, bool half) {
    const hopper::Plan p = hopper::plan(s, kH200, half);
    CHECK(hopper::preferred(p, plan(s, kH200), kH200, true), name);
    CHECK(p.efficiency >= 0.6, name, ": ", p.efficiency);
    logarithms += std::log(p.efficiency);
    count++;
  });
  CHECK(std::exp(logarithms / count) >= 0.8, "geometric mean ", std::exp(logarithms / count));
}

TEST("so it is for the model of test/device/hopper.test.ts on the SIMT machine's two multiprocessors") {
  constexpr int64_t kRows = 256, kDim = 192, kFfn = 256, kVocab = 320;
  const Target simt{90, 2, 227 * 1024};
  const std::pair<int64_t, int64_t> weights[] = {{kDim, kDim},     {3 * kDim, kDim}, {kFfn, kDim},
                                                 {2 * kFfn, kDim}, {kDim, kFfn},     {kVocab, kDim}};
  for (const auto& [n, k] : weights)
    for (const Shape& s : {Shape{kRows, n, k, false}, Shape{kRows, k, n, false}, Shape{n, k, kRows, false}})
      CHECK(hopper::preferred(hopper::plan(s, simt, s.k != kRows), plan(s, simt), simt, true), s.m, " x ", s.n, " x ",
            s.k);
  for (const auto& [f, s] : {std::pair{Fusion::kSwiglu, Shape{kRows, 2 * kFfn, kDim, false}},
                             {Fusion::kSwigluGradient, Shape{kRows, kFfn, kDim, false}}}) {
    const FusedPlan p = fused_plan(s, simt, f, true);
    CHECK(p.fused && p.wgmma, "fusion ", static_cast<int>(f));
  }
}

TEST("fusing SwiGLU and its gradient pays for the paper's models, on an H200 and on an A100") {
  for (const Target& target : {kH200, Target{80, 108, 163 * 1024}})
    for (const bench::PaperModel& m : bench::kPaperModels)
      for (const auto& [f, s] : {std::pair{Fusion::kSwiglu, Shape{bench::kPaperTokens, 2 * m.ffn, m.dim, false}},
                                 {Fusion::kSwigluGradient, Shape{bench::kPaperTokens, m.ffn, m.dim, false}}}) {
        const FusedPlan p = fused_plan(s, target, f, true);
        CHECK(p.fused && p.wgmma == (target.capability == 90), m.name, " fusion ", static_cast<int>(f));
        CHECK((p.wgmma ? p.hopper.splits : p.mma.splits) == 1, m.name, ": slices leave nothing to fuse");
        // At most everything the kernel apart does, and a product is not free of what it ends with.
        CHECK(p.apart - p.clocks > 0 && p.clocks > p.apart - spared_clocks(s, f, target), m.name);
      }
}

TEST("what cannot be fused with the same bits stays apart") {
  const Shape s{16384, 4096, 1024, false};
  CHECK(fused_plan(s, kH200, Fusion::kSwiglu, true).fused);
  CHECK(!fused_plan(s, kH200, Fusion::kSwiglu, false).fused, "rows that are no whole vectors");
  CHECK(!fused_plan({16384, 4096, 1024, true}, kH200, Fusion::kSwiglu, true).fused, "fp32");
  const Shape small{64, 64, 65536, false};
  CHECK(hopper::plan(small, kH200, true).splits > 1);
  CHECK(!fused_plan(small, kH200, Fusion::kSwiglu, true).fused, "a sum that is cut");
}

TEST("short sums go to ping-pong, long ones to the cooperative tile, small results are cut") {
  const auto chosen = [](int64_t m, int64_t n, int64_t k) { return hopper::plan({m, n, k, false}, kH200, true); };
  CHECK(hopper::kTiles[chosen(16384, 6144, 768).tile].ping_pong);
  CHECK(!hopper::kTiles[chosen(16384, 2048, 8192).tile].ping_pong);
  CHECK(chosen(16384, 2048, 8192).cluster == 2, "blocks share B");
  CHECK(chosen(768, 768, 16384).splits > 1, "18 tiles on 132 multiprocessors");
  const Shape decode{1, 2048, 2048, false};
  CHECK(!hopper::preferred(hopper::plan(decode, kH200, true), plan(decode, kH200), kH200, true),
        "one row is the small tile's");
}

TEST("a result whose rows are no whole vectors goes to wgmma only by slices") {
  hopper::Plan fast;
  fast.clocks = 1;
  Plan slow;
  slow.clocks = 2;
  CHECK(hopper::preferred(fast, slow, kH200, true) && !hopper::preferred(fast, slow, kH200, false));
  fast.splits = 2;
  CHECK(hopper::preferred(fast, slow, kH200, false));
}

TEST_MAIN()
