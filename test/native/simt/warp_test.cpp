#include "native/cuda/ptx/copy_async.h"
#include "native/cuda/ptx/mma.h"
#include "native/cuda/reduce.h"
#include "test/native/simt/support.h"

using namespace check;
using namespace thalweg::cuda;

namespace {

/** y[i] = sum of x over the block, with bugs in how its threads meet. */
enum class SumBug { None, Diverged, NoWarpSync, NoBlockSync, EarlyExit };

template <SumBug Bug>
void sum_kernel(const float* x, float* y, int n) {
  float* shared = &shared_memory<float>();
  const int thread = static_cast<int>(threadIdx.x), warp = thread / kWarp, warps = static_cast<int>(blockDim.x) / kWarp;
  if (Bug == SumBug::EarlyExit && thread >= n) return;
  float value = thread < n ? x[thread] : 0.0f;
  // Lane i hands its value to lane 31 - i by shared memory, then the warp sums.
  shared[thread] = value;
  if (Bug != SumBug::NoWarpSync) sync_warp();
  value = shared[warp * kWarp + kWarp - 1 - lane_index()];
  if (Bug == SumBug::Diverged) {
    if (lane_index() < 16) value = warp_sum(value);
  } else {
    value = warp_sum(value);
  }
  sync_threads();
  if (lane_index() == 0) shared[warp] = value;
  if (Bug != SumBug::NoBlockSync) sync_threads();
  float total = 0;
  for (int w = 0; w < warps; w++) total += shared[w];
  y[thread] = total;
}

template <SumBug Bug>
std::string run_sum() {
  constexpr int kN = 90;
  Random random(3);
  std::vector<float> x(kN), y(96, NAN);
  double want = 0;
  for (auto& v : x) want += v = static_cast<float>(random.uniform(0, 1));
  launch(simt_stream(), sum_kernel<Bug>, {{1, 1, 1}, 96, 1, 96 * sizeof(float)}, x.data(), y.data(), kN);
  for (float v : y)
    if (!(std::fabs(v - want) < 1e-4)) return "sum " + std::to_string(v) + ", expected " + std::to_string(want);
  return "";
}

/** Doubles a stream of tiles that pass through a ring of two stages by cp.async. */
enum class RingBug { None, NoWait, WaitsForTooFew, NoBarrierAfterWait, NoBarrierBeforeReuse };

template <RingBug Bug>
void ring_kernel(const float* x, float* y, int tiles) {
  constexpr int kThreads = 64, kTile = kThreads * 4;
  float* stages = &shared_memory<float>();
  const int thread = static_cast<int>(threadIdx.x);
  const auto fetch = [&](int tile) {
    if (tile < tiles) copy_async_16(stages + tile % 2 * kTile + thread * 4, x + tile * kTile + thread * 4);
    copy_async_commit();
  };
  fetch(0);
  for (int tile = 0; tile < tiles; tile++) {
    fetch(tile + 1);
    if (Bug == RingBug::WaitsForTooFew)
      copy_async_wait<2>();
    else if (Bug != RingBug::NoWait)
      copy_async_wait<1>();
    if (Bug != RingBug::NoBarrierAfterWait) sync_threads();
    // Each thread reads what others fetched.
    for (int i = 0; i < 4; i++) {
      const int at = i * kThreads + (thread + 17) % kThreads;
      y[tile * kTile + at] = 2 * stages[tile % 2 * kTile + at];
    }
    if (Bug != RingBug::NoBarrierBeforeReuse) sync_threads();
  }
}

template <RingBug Bug>
std::string run_ring() {
  constexpr int kTiles = 7;
  Random random(4);
  std::vector<float> y(kTiles * 256, NAN);
  alignas(16) static float x[kTiles * 256];
  for (auto& v : x) v = static_cast<float>(random.uniform(-1, 1));
  launch(simt_stream(), ring_kernel<Bug>, {{1, 1, 1}, 64, 1, 2 * 256 * sizeof(float)}, x, y.data(), kTiles);
  for (size_t i = 0; i < y.size(); i++)
    if (y[i] != 2 * x[i]) return "element " + std::to_string(i) + " is " + std::to_string(y[i]);
  return "";
}

void mma_kernel(const cuda::bf16* a, const cuda::bf16* b, float* d) {
  cuda::bf16* shared = &shared_memory<cuda::bf16>();
  const int lane = lane_index();
  for (int i = lane; i < 256; i += kWarp) shared[i] = a[i];        // A [16, 16], row-major
  for (int i = lane; i < 256; i += kWarp) shared[256 + i] = b[i];  // B [16, 16], row-major: k along rows
  sync_warp();
  uint32_t fragment[4], both[4];
  load_matrix_x4(fragment, shared + lane % 16 * 16 + lane / 16 * 8);
  load_matrix_x4_transposed(both, shared + 256 + lane % 16 * 16 + lane / 16 * 8);
  for (int half = 0; half < 2; half++) {
    float sum[4] = {};
    mma_m16n8k16(sum, fragment, both[half * 2], both[half * 2 + 1]);
    for (int i = 0; i < 4; i++) d[(lane / 4 + i / 2 * 8) * 16 + half * 8 + lane % 4 * 2 + i % 2] = sum[i];
  }
}

void misaligned_row_kernel() {
  uint32_t r[4];
  load_matrix_x4(r, &shared_memory<cuda::bf16>() + lane_index() * 8 + 1);
}

void outside_kernel(float* y) {
  y[threadIdx.x] = (&shared_memory<float>())[shared_address(&shared_memory<float>() + 32) / 4];
}

void poison_kernel(float* y) { y[threadIdx.x] = (&shared_memory<float>())[threadIdx.x]; }

void misaligned_load_kernel(const float* x, float* y) { y[threadIdx.x] = load<4>(x + threadIdx.x)[0]; }

template <int Threads>
void barrier_kernel() {
  threadIdx.x < 32 ? named_barrier_sync<3, 64>() : named_barrier_sync<3, Threads>();
}

}  // namespace

TEST("a block's sum is right under all schedules, and what breaks its meetings is caught") {
  must_be_right(run_sum<SumBug::None>);
  must_be_caught("shuffle under divergence", run_sum<SumBug::Diverged>);
  must_be_caught("no sync_warp", run_sum<SumBug::NoWarpSync>);
  must_be_caught("no sync_threads", run_sum<SumBug::NoBlockSync>);
  must_be_caught("threads exit before a barrier", run_sum<SumBug::EarlyExit>, "deadlock");
}

TEST("a ring of cp.async stages is right under all schedules, and a missing wait or barrier is caught") {
  must_be_right(run_ring<RingBug::None>);
  must_be_caught("no wait", run_ring<RingBug::NoWait>);
  must_be_caught("waits for too few groups", run_ring<RingBug::WaitsForTooFew>);
  must_be_caught("no barrier after the wait", run_ring<RingBug::NoBarrierAfterWait>);
  must_be_caught("stage reused without a barrier", run_ring<RingBug::NoBarrierBeforeReuse>);
}

TEST("ldmatrix, its transposed form and mma.m16n8k16 make a matrix product") {
  Random random(5);
  const auto a = bf16_values(random.normal(256)), b = bf16_values(random.normal(256));
  must_be_right([&]() -> std::string {
    std::vector<float> d(256, NAN);
    launch(simt_stream(), mma_kernel, {{1, 1, 1}, 32, 1, 1024}, a.data(), b.data(), d.data());
    Values want;
    const Values a64 = doubles(a), b64 = doubles(b);
    for (size_t i = 0; i < 16; i++)
      for (size_t j = 0; j < 16; j++) {
        double sum = 0;
        for (size_t k = 0; k < 16; k++) sum += a64[i * 16 + k] * b64[k * 16 + j];
        want.push_back(sum);
      }
    return relative_error({d.begin(), d.end()}, want) < 1e-6 ? "" : "wrong product";
  });
}

TEST("misaligned accesses, addresses outside shared memory and mismatched barriers are refused with the place") {
  const auto refused = [](const char* text, const std::function<void()>& run) { must_fail("KERNEL_FAULT", text, run); };
  alignas(16) float x[64] = {};
  float y[64] = {};
  refused("ldmatrix of a row that is not 16-byte aligned", [] {
    launch(simt_stream(), misaligned_row_kernel, {{1, 1, 1}, 32, 1, 4096});
  });
  refused("not a multiple of it", [&] {
    launch(simt_stream(), misaligned_load_kernel, {{1, 1, 1}, 32, 1, 0}, x + 0, y + 0);
  });
  refused("shared address", [&] { launch(simt_stream(), outside_kernel, {{1, 1, 1}, 32, 1, 64}, y + 0); });
  refused("others came to it with", [] { launch(simt_stream(), barrier_kernel<96>, {{1, 1, 1}, 64, 1, 0}); });
  refused("named barrier 3", [] { launch(simt_stream(), barrier_kernel<64>, {{1, 1, 1}, 32, 1, 0}); });
  refused("this device has", [&] { launch(simt_stream(), poison_kernel, {{1, 1, 1}, 32, 1, 300 * 1024}, y + 0); });
  refused("1024 threads", [&] { launch(simt_stream(), poison_kernel, {{1, 1, 1}, 1056, 1, 128}, y + 0); });
  refused("65535", [&] { launch(simt_stream(), poison_kernel, {{1, 65536, 1}, 32, 1, 128}, y + 0); });
  refused("whole clusters", [&] { launch(simt_stream(), poison_kernel, {{3, 1, 1}, 32, 2, 128}, y + 0); });
}

TEST("shared memory starts as NaN") {
  std::vector<float> y(32, 0.0f);
  launch(simt_stream(), poison_kernel, {{1, 1, 1}, 32, 1, 128}, y.data());
  for (float v : y) CHECK(std::isnan(v), v);
}

TEST_MAIN()
