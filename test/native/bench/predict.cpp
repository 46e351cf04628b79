#include <cmath>

#include "native/cuda/kernels/hopper_matmul_tiles.h"
#include "test/native/bench/harness.h"
#include "test/native/bench/paper.h"

namespace bench {

namespace {

using namespace thalweg::cuda::matmul;

/** An H200: 132 multiprocessors of 4096 operations a clock. At its 1980 MHz that is 1070 TFLOP/s; products of random
 * numbers draw so much power that the clock falls, and no library is known to sustain more than kSustained. */
constexpr thalweg::cuda::Target kH200{90, 132, 227 * 1024};
constexpr double kPeak = 132 * 4096 * 1.98e9, kSustained = 790e12;

}  // namespace

void print_predictions() {
  std::printf("| model | product | form | m x n x k | tile | cluster | parts | tensor cores | limited by |\n");
  std::printf("| --- | --- | --- | --- | --- | --- | --- | --- | --- |\n");
  double logarithms = 0;
  int count = 0;
  each_paper_product([&](const char* model, const char* product, int64_t rows, int64_t n, int64_t k) {
    const struct {
      const char* form;
      Shape shape;
      bool half;
    } forms[] = {{"forward", {rows, n, k, false}, true},
                 {"dgrad", {rows, k, n, false}, true},
                 {"wgrad", {n, k, rows, false}, false}};
    for (const auto& [form, s, half] : forms) {
      const hopper::Plan p = hopper::plan(s, kH200, half);
      const hopper::Tile& t = hopper::kTiles[p.tile];
      std::printf("| %s | %s | %s | %lld x %lld x %lld | %d x %d%s | %d | %d | %.0f%% | %s |\n", model, product, form,
                  static_cast<long long>(s.m), static_cast<long long>(s.n), static_cast<long long>(s.k), t.m, t.n,
                  t.ping_pong ? " ping-pong" : "", p.cluster, p.splits, 100 * p.efficiency,
                  p.efficiency * kPeak > kSustained ? "power" : "schedule");
      logarithms += std::log(p.efficiency);
      count++;
    }
  });
  std::printf("\ngeometric mean of the share of the tensor cores: %.1f%%\n", 100 * std::exp(logarithms / count));
}

}  // namespace bench
