#include "test/native/bench/predict.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <tuple>
#include <utility>

#include "native/cuda/kernels/matmul_swiglu_plan.h"
#include "test/native/bench/harness.h"
#include "test/native/bench/paper.h"
#include "test/native/squares_plan.h"

namespace bench {

namespace {

using namespace thalweg::cuda;
using namespace thalweg::cuda::matmul;

/** Of a kernel bound by memory. */
double memory_seconds(double bytes) { return bytes / (16.0 * 132 * kHertz); }

double form_seconds(int64_t rows, int64_t n, int64_t k) {
  double seconds = 0;
  for (const auto& [s, half] :
       {std::pair{Shape{rows, n, k, false}, true}, {Shape{rows, k, n, false}, true}, {Shape{n, k, rows, false}, false}})
    seconds += product_seconds(s, hopper::plan(s, kH200, half).clocks);
  return seconds;
}

/** A training step of 16384 tokens and one update, nothing fused: products as planned, attention at half the peak, the
 * rest at the memory's pace. */
double step_seconds(const PaperModel& m) {
  constexpr double kAttentionShare = 0.5;
  const auto rows = static_cast<double>(kPaperTokens), dim = static_cast<double>(m.dim),
             ffn = static_cast<double>(m.ffn), vocab = static_cast<double>(kPaperVocab);
  double products = 0, head = 0;
  each_paper_product([&](const std::string& model, const std::string& product, int64_t n_rows, int64_t n, int64_t k) {
    if (model == m.name) (product == "head" ? head : products) += form_seconds(n_rows, n, k);
  });
  const double attention = 3.5 * 2 * rows * static_cast<double>(kPaperLength) * dim / (kAttentionShare * kPeak);
  const double norms = 2 * (4 + 8) * dim, rope = 2 * 8 * dim, swiglu = 16 * ffn;  // bytes of a row, both ways
  const double layer = products + attention + memory_seconds(rows * (norms + rope + swiglu));
  const double parameters = static_cast<double>(m.layers) * (4 * dim * dim + 3 * dim * ffn) + 2 * vocab * dim;
  return static_cast<double>(m.layers) * layer + head * (rows / static_cast<double>(kPaperHeadTokens)) +
         memory_seconds(4 * rows * vocab + (30 + 4) * parameters);
}

/** What fusing SwiGLU and its gradient saves; and what rotating Q and K in the qkv product would. */
void print_fusions() {
  std::printf("\n| model | fusion | tile | cluster | apart | fused | saved in a step |\n");
  std::printf("| --- | --- | --- | --- | --- | --- | --- |\n");
  for (const PaperModel& m : kPaperModels) {
    const double step = step_seconds(m), layers = static_cast<double>(m.layers);
    double saved = 0;
    for (const auto& [f, s, name] :
         {std::tuple{Fusion::kSwiglu, Shape{kPaperTokens, 2 * m.ffn, m.dim, false}, "gate and up, SwiGLU"},
          {Fusion::kSwigluGradient, Shape{kPaperTokens, m.ffn, m.dim, false}, "dgrad of down, SwiGLU's gradient"}}) {
      const FusedPlan p = fused_plan(s, kH200, f, true);
      const hopper::Tile& t = hopper::kTiles[p.hopper.tile];
      const double spared = spared_clocks(s, f, kH200) / kHertz;
      const double apart = product_seconds(s, hopper::plan(s, kH200, true).clocks) + spared;
      const double fused = p.fused ? product_seconds(s, p.clocks) : apart;
      saved += apart - fused;
      std::printf("| %s | %s | %d x %d%s | %d | %.0f us | %.0f us | %.1f%% |\n", m.name, name, t.m, t.n,
                  t.ping_pong ? " ping-pong" : "", p.hopper.cluster, 1e6 * apart, 1e6 * fused,
                  100 * layers * (apart - fused) / step);
    }
    const double rope = memory_seconds(8.0 * static_cast<double>(kPaperTokens * m.dim));
    std::printf("| %s | both | | | | | %.1f%% of %.1f ms |\n", m.name, 100 * layers * saved / step, 1e3 * step);
    std::printf("| %s | RoPE in qkv, not built | | | %.0f us | | at most %.1f%% |\n", m.name, 1e6 * rope,
                100 * layers * rope / step);
  }
}

/** What gradNorm is spared by cut weight gradients that bring the sums of their squares, and what those cost: once a
 * step. */
void print_squares() {
  std::printf("\n| model | squares made with | of all gradients | spared | cost | saved in a step |\n");
  std::printf("| --- | --- | --- | --- | --- | --- |\n");
  constexpr auto kAct = thalweg::DType::BF16;
  for (const PaperModel& m : kPaperModels) {
    double made = 0, all = 0, spared = 0, cost = 0;
    std::string names;
    each_paper_product([&](const std::string& model, const std::string& product, int64_t rows, int64_t n, int64_t k) {
      if (model != m.name) return;
      const double times = product == "head" ? 1 : static_cast<double>(m.layers);
      all += times * static_cast<double>(n * k) * (product == "head" ? 2 : 1);  // the embedding is as large
      // A layer's first gradient is that of a norm: others begin so many elements after a unit.
      if (!check::makes_squares(n, k, rows, m.dim, kAct, kH200)) return;
      made += times * static_cast<double>(whole_units(m.dim, n * k) * kUnit);
      spared += times * static_cast<double>(squares_spared(m.dim, n * k, kH200));
      cost +=
          times * static_cast<double>(squares_cost(m.dim, n * k, check::wgrad_splits(n, k, rows, kAct, kH200), kH200));
      names += (names.empty() ? "" : ", ") + product;
    });
    std::printf("| %s | %s | %.0f%% | %.0f us | %.0f us | %.2f%% |\n", m.name, names.empty() ? "none" : names.c_str(),
                100 * made / all, 1e6 * spared / kHertz, 1e6 * cost / kHertz,
                100 * (spared - cost) / kHertz / step_seconds(m));
  }
}

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
  print_fusions();
  print_squares();
}

}  // namespace bench
