#include <set>

#include "native/cuda/kernels/matmul_operand.cuh"
#include "test/native/bench/paper.h"
#include "test/native/check.h"
#include "test/native/reference.h"

// The choices behind the matrix products, as pure functions: no device, no kernel.
namespace {

using namespace check;
using namespace thalweg;
using namespace thalweg::cuda::matmul;
using cuda::Target;

/** A100, RTX 3090, RTX 4090, H200, B200, RTX 5090. */
const std::vector<Target> kGpus = {{80, 108, 0}, {86, 82, 0}, {89, 128, 0}, {90, 132, 0}, {100, 148, 0}, {120, 170, 0}};

/** body(model, shape) for the three forms of every matrix of the paper's models, `rows` rows at a time. */
template <class Body>
void each_product(int64_t rows, Body body) {
  bench::each_paper_product([&](const char* model, const char*, int64_t, int64_t n, int64_t k) {
    body(model, Shape{rows, n, k, false});
    body(model, Shape{rows, k, n, false});
    body(model, Shape{n, k, rows, false});
  });
}

/** Eight accesses of 16 bytes that the hardware makes together must lie in eight groups of banks: no two a multiple of
 * 128 bytes apart. `first` .. are the rows, `apart` their distance. */
template <class S>
void check_rows(const char* what, int apart) {
  for (int first = 0; first + 7 * apart < S::kRows; first++) {
    if (first / apart % 8 != 0) continue;
    for (int chunk = 0; chunk < S::kChunks; chunk++) {
      std::set<int> groups;
      for (int i = 0; i < 8; i++) groups.insert(S::place(first + i * apart, chunk) / 16 % 8);
      CHECK(groups.size() == 8, what, ": rows ", first, " and on, chunk ", chunk, " meet in a bank");
    }
  }
}

/** No two chunks of a slice in one place; eight that follow each other in memory, as cp.async writes them, apart. */
template <class S>
void check_places(const char* what) {
  std::set<int> seen;
  for (int first = 0; first < S::kRows * S::kChunks; first += 8) {
    std::set<int> groups;
    for (int i = first; i < first + 8; i++) {
      const int place = S::place(i / S::kChunks, i % S::kChunks);
      CHECK(place >= 0 && place + 16 <= S::kBytes && place % 16 == 0 && seen.insert(place).second, what, ": ", place);
      groups.insert(place / 16 % 8);
    }
    CHECK(groups.size() == 8, what, ": chunks ", first, " and on meet in a bank");
  }
}

}  // namespace

TEST("no access of a slice in shared memory meets another in a bank") {
  check_places<Slice<cuda::bf16, true, 64>>("bf16, sum-major");
  check_places<Slice<cuda::bf16, false, 64>>("bf16, side-major");
  check_places<Slice<cuda::bf16, false, 256>>("bf16, side-major, wide");
  check_places<Slice<float, true, 128>>("fp32, sum-major");
  check_places<Slice<float, false, 128>>("fp32, side-major");
  // ldmatrix reads eight rows, side by side; lanes of the fp32 kernel read rows 4 apart, or side by side in a row.
  check_rows<Slice<cuda::bf16, true, 64>>("bf16, sum-major", 1);
  check_rows<Slice<cuda::bf16, false, 64>>("bf16, side-major", 1);
  check_rows<Slice<cuda::bf16, false, 256>>("bf16, side-major, wide", 1);
  check_rows<Slice<float, true, 128>>("fp32, sum-major", 4);
}

TEST("the products of the paper's models keep three quarters of every GPU's multiprocessors busy") {
  for (int64_t rows : {4096, 8192, 32768})
    for (const Target& gpu : kGpus)
      each_product(rows, [&](const char* model, const Shape& s) {
        const Plan p = plan(s, gpu);
        CHECK(p.efficiency >= 0.75, model, " ", s.m, " x ", s.n, " x ", s.k, " on sm_", gpu.capability, ": tile ",
              p.tile, " in ", p.splits, " parts uses ", p.efficiency);
        CHECK(p.efficiency <= 1, "efficiency ", p.efficiency);
      });
}

TEST("every tile and its neighbours fit the multiprocessor of every GPU") {
  for (const Tile& t : kTiles) {
    // CUDA programming guide: 100 KB (99 a block, 1 KB each for the system) and 1536 threads on the smallest, sm_86.
    CHECK(t.shared_bytes() <= 99 * 1024, t.m, " x ", t.n, " takes ", t.shared_bytes());
    CHECK(t.resident * (t.shared_bytes() + 1024) <= 100 * 1024, t.m, " x ", t.n, ": ", t.resident, " do not fit");
    CHECK(t.resident * t.threads() <= 1536, t.m, " x ", t.n);
    CHECK(t.k == kDepth, "a cut of the sum must not depend on the tile");
  }
}

TEST("a plan's parts cover the sum, without an empty one, at whole steps") {
  Random random(1);
  for (int i = 0; i < 2000; i++) {
    const auto size = [&] { return static_cast<int64_t>(std::exp(random.uniform(0, 12))); };
    const Shape s{size(), size(), size(), random.integer(0, 1) == 1};
    const Target target{static_cast<int>(random.integer(80, 120)), static_cast<int>(random.integer(1, 200)), 0};
    const Plan p = plan(s, target);
    CHECK(p.splits * p.k_per_split >= s.k && (p.splits - 1) * p.k_per_split < s.k && p.k_per_split % kDepth == 0, s.m,
          " x ", s.n, " x ", s.k, ": ", p.splits, " parts of ", p.k_per_split);
    CHECK((kTiles[p.tile].kind == Kind::kFma) == s.fp32, "tile ", p.tile);
    CHECK(slice_bytes(s, p.splits) <= int64_t{128} << 20, "slices of ", slice_bytes(s, p.splits), " bytes");
    CHECK(p.splits == 1 ? slice_bytes(s, p.splits) == 0 : slice_bytes(s, p.splits) >= 4 * p.splits * s.m * s.n,
          "slices");
  }
}

TEST("the order of the tiles visits each once, groups of rows together") {
  Random random(2);
  for (int i = 0; i < 200; i++) {
    const int64_t down = random.integer(1, 70), across = random.integer(1, 30), group = 4 << random.integer(0, 3);
    std::set<std::pair<int64_t, int64_t>> seen;
    for (int64_t index = 0; index < down * across; index++) {
      const Place at = place_of(index, down, across, group);
      CHECK(at.m >= 0 && at.m < down && at.n >= 0 && at.n < across, "tile ", index, " lies outside");
      CHECK(at.m / group == index / (group * across), "tile ", index, " of group ", at.m / group);
      seen.insert({at.m, at.n});
    }
    CHECK(static_cast<int64_t>(seen.size()) == down * across, seen.size(), " of ", down * across, " tiles");
  }
}

TEST_MAIN()
