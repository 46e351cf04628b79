#include <cstdio>
#include <string>
#include <vector>

#include "native/cuda/kernels/matmul_swiglu_plan.h"
#include "test/native/bench/harness.h"
#include "test/native/bench/paper.h"
#include "test/native/bench/predict.h"

/**
 * A whole training step of the paper's models as the suite for a GPU measures it: every command of the micro-batch and
 * of the update (test/device/predicted_step.test.ts holds the list against the Programs), what it must do, and how long
 * it should take on an H200.
 */
namespace bench {

namespace {

using namespace thalweg::cuda::matmul;

/** Copying was measured at kCopy. Assumed: a gap from one kernel of a graph to the next, with the first loads of the
 * one and the last stores of the other; what the host takes between two plays; the share of copying that each kernel
 * bound by memory reaches (docs/cuda.md). */
constexpr double kCopy = 4.3e12, kGap = 1.5e-6, kHost = 100e-6;
constexpr double kRowwise = 0.88, kClassifier = 0.83, kStreaming = 0.92, kScattered = 0.6;

struct Command {
  std::string op, shapes;  // as `thalweg bench ops` names them
  int64_t calls;
  int launches;
  double flops, bytes;  // of a call: to be done, to be moved
  double seconds;       // of a call, without gaps
  double floor() const { return std::max(flops / 989e12, bytes / kCopy); }
};

using Dims = std::vector<int64_t>;

std::string text(const std::vector<Dims>& shapes) {
  std::string out;
  for (const Dims& shape : shapes) {
    out += out.empty() ? "[" : " [";
    for (size_t i = 0; i < shape.size(); i++) {
      if (i > 0) out += ",";
      out += std::to_string(shape[i]);
    }
    out += "]";
  }
  return out;
}

class Step {
 public:
  explicit Step(const PaperModel& model) : m_(model), rows_(model.sequences * kPaperLength) {
    embedding();
    blocks();
    head();
    backward_of_blocks();
    update();
  }
  const std::vector<Command>& commands() const { return commands_; }
  double tokens() const { return static_cast<double>(rows_); }
  /** As flopsPerToken of ts/model/presets.ts has it. */
  double model_flops() const {
    return tokens() * (6 * (matrices() + real(kPaperVocab * m_.dim)) + 6 * real(m_.layers * m_.dim * kPaperLength));
  }

 private:
  static double real(int64_t value) { return static_cast<double>(value); }
  double matrices() const { return real(m_.layers * (4 * m_.dim * m_.dim + 3 * m_.dim * m_.ffn)); }
  double parameters() const { return matrices() + real(2 * kPaperVocab * m_.dim + (2 * m_.layers + 1) * m_.dim); }

  /** Bound by memory. */
  void moves(const char* op, const std::vector<Dims>& shapes, int64_t calls, int launches, double bytes, double share) {
    commands_.push_back({op, text(shapes), calls, launches, 0, bytes, bytes / (kCopy * share)});
  }
  void product(const char* op, const std::vector<Dims>& shapes, int64_t calls, const Shape& s, bool half,
               double bytes) {
    const hopper::Plan p = hopper::plan(s, kH200, half);
    add_product(op, shapes, calls, s, p.splits > 1 ? 2 : 1, p.clocks, bytes);
  }
  void fused(const char* op, const std::vector<Dims>& shapes, const Shape& s, Fusion f, double bytes) {
    const FusedPlan p = fused_plan(s, kH200, f, true);
    add_product(op, shapes, m_.layers, s, p.fused ? 1 : 2, p.fused ? p.clocks : p.apart, bytes);
  }
  void add_product(const char* op, const std::vector<Dims>& shapes, int64_t calls, const Shape& s, int launches,
                   double clocks, double bytes) {
    commands_.push_back({op, text(shapes), calls, launches, 2 * real(s.m) * real(s.n) * real(s.k), bytes,
                         std::max(product_seconds(s, clocks), bytes / (kCopy * kStreaming))});
  }
  void linear(int64_t calls, int64_t rows, int64_t n, int64_t k, bool residual) {
    product("linear", {{rows, k}, {n, k}, {rows, n}}, calls, {rows, n, k, false}, true,
            2 * real(rows * k + n * k + (residual ? 2 : 1) * rows * n));
  }
  void dgrad(int64_t calls, int64_t rows, int64_t n, int64_t k) {
    product("linearDgrad", {{rows, n}, {n, k}, {rows, k}}, calls, {rows, k, n, false}, true,
            2 * real(rows * k + n * k + rows * n));
  }
  /** `reads`: the gradient is added to what is there. */
  void wgrad(int64_t calls, int64_t rows, int64_t n, int64_t k, bool reads) {
    product("linearWgrad", {{rows, k}, {rows, n}, {n, k}}, calls, {n, k, rows, false}, false,
            2 * real(rows * k + rows * n) + 4 * real(n * k) * (reads ? 2 : 1));
  }

  void embedding() {
    moves("embedding", {{rows_}, {kPaperVocab, m_.dim}, {rows_, m_.dim}}, 1, 1, 4 * real(rows_ * m_.dim), kRowwise);
  }
  void blocks() {
    const int64_t d = m_.dim, f = m_.ffn, layers = m_.layers;
    moves("rmsnorm", {{rows_, d}, {d}, {rows_, d}}, 2 * layers + 1, 1, 4 * real(rows_ * d), kRowwise);
    linear(layers, rows_, 3 * d, d, false);
    // Queries and keys, in place, forward and back.
    moves("rope", {{rows_, 3 * d}, {kPaperLength, d / m_.heads}, {rows_, 3 * d}}, 2 * layers, 1, 8 * real(rows_ * d),
          kRowwise);
    const AttentionSeconds s = attention();
    commands_.push_back({"attention", text({{rows_, 3 * d}, {rows_, d}, {rows_, m_.heads}}), layers, 2,
                         attention_flops(), 8 * real(rows_ * d), s.forward});
    linear(layers, rows_, d, d, true);
    fused("linearSwiglu", {{rows_, d}, {2 * f, d}, {rows_, 2 * f}}, {rows_, 2 * f, d, false}, Fusion::kSwiglu,
          2 * real(rows_ * d + 2 * f * d + 3 * rows_ * f));
    linear(layers, rows_, d, f, true);
  }
  void head() {
    const int64_t d = m_.dim, part = kPaperHeadTokens, parts = rows_ / part;
    linear(parts, part, kPaperVocab, d, false);
    moves("classifier", {{part, kPaperVocab}, {part}, {part}}, parts, 1, 4 * real(part * kPaperVocab), kClassifier);
    dgrad(parts, part, kPaperVocab, d);
    wgrad(parts, part, kPaperVocab, d, true);
    moves("sum", {{rows_}, {1}}, 1, 2, 4 * real(rows_), kScattered);
  }
  void backward_of_blocks() {
    const int64_t d = m_.dim, f = m_.ffn, layers = m_.layers;
    moves("rmsnormBackward", {{rows_, d}, {d}, {rows_}}, 2 * layers + 1, 2, 8 * real(rows_ * d), kRowwise);
    wgrad(layers, rows_, d, f, false);
    fused("linearDgradSwiglu", {{rows_, d}, {d, f}, {rows_, 2 * f}}, {rows_, f, d, false}, Fusion::kSwigluGradient,
          2 * real(rows_ * d + f * d + 4 * rows_ * f));
    wgrad(layers, rows_, 2 * f, d, false);
    dgrad(layers, rows_, 2 * f, d);
    wgrad(layers, rows_, d, d, false);
    dgrad(layers, rows_, d, d);
    commands_.push_back({"attentionBackward", text({{rows_, 3 * d}, {rows_, d}, {rows_, m_.heads}}), layers, 4,
                         2.5 * attention_flops(), 16 * real(rows_ * d), attention().backward});
    wgrad(layers, rows_, 3 * d, d, false);
    dgrad(layers, rows_, 3 * d, d);
    moves("embeddingBackward", {{rows_}, {rows_, d}, {kPaperVocab, d}}, 1, 8,
          2 * real(rows_ * d) + 4 * real(kPaperVocab * d), kScattered);
  }
  void update() {
    moves("gradNorm", {{static_cast<int64_t>(parameters())}, {1}, {1}}, 1, 3, 4 * parameters(), kStreaming);
    commands_.push_back({"adamw", std::to_string(6 * m_.layers + 3) + " tensors", 1, 1, 0, 30 * parameters(),
                         30 * parameters() / (kCopy * kStreaming)});
  }

  double attention_flops() const { return 2 * tokens() * (real(kPaperLength) + 1) * real(m_.dim); }
  AttentionSeconds attention() const {
    const auto small = [](int64_t value) { return static_cast<int>(value); };
    return attention_seconds(small(kPaperLength), small(m_.sequences), small(m_.heads), small(m_.dim / m_.heads));
  }

  PaperModel m_;
  int64_t rows_;
  std::vector<Command> commands_;
};

struct Total {
  int64_t launches = 0;
  double seconds = 0, floor = 0;
};

Total total_of(const Step& step) {
  Total total;
  for (const Command& c : step.commands()) {
    total.launches += c.calls * c.launches;
    total.seconds += static_cast<double>(c.calls) * c.seconds;
    total.floor += static_cast<double>(c.calls) * c.floor();
  }
  return total;
}

}  // namespace

void print_step_commands() {
  for (const PaperModel& m : kPaperModels) {
    const Step step(m);
    for (const Command& c : step.commands())
      std::printf(
          "{\"model\":\"paper-%s\",\"sequences\":%lld,\"op\":\"%s\",\"shapes\":\"%s\",\"calls\":%lld,\"launches\":%d,"
          "\"flops\":%.6g,\"bytes\":%.6g,\"seconds\":%.4g,\"floor\":%.4g}\n",
          m.name, static_cast<long long>(m.sequences), c.op.c_str(), c.shapes.c_str(), static_cast<long long>(c.calls),
          c.launches, c.flops, c.bytes, c.seconds + c.launches * kGap, c.floor());
  }
}

void print_step_predictions() {
  std::printf("\n| model | command | calls | GFLOP | MB | floor, us | predicted, us | in a step, ms | share |\n");
  std::printf("| --- | --- | --- | --- | --- | --- | --- | --- | --- |\n");
  for (const PaperModel& m : kPaperModels) {
    const Step step(m);
    const Total total = total_of(step);
    const double gaps = static_cast<double>(total.launches) * kGap, all = total.seconds + gaps + kHost;
    const auto row = [&](const std::string& what, int64_t calls, const Command& c) {
      const double seconds = static_cast<double>(calls) * c.seconds;
      std::printf("| %s | %s | %lld | %.1f | %.1f | %.1f | %.1f | %.2f | %.1f%% |\n", m.name, what.c_str(),
                  static_cast<long long>(calls), c.flops / 1e9, c.bytes / 1e6, 1e6 * c.floor(), 1e6 * c.seconds,
                  1e3 * seconds, 100 * seconds / all);
    };
    for (const Command& c : step.commands()) row(c.op + " " + c.shapes, c.calls, c);
    row("from a kernel to the next", total.launches, {"", "", 1, 0, 0, 0, kGap});
    row("the host, between steps", 1, {"", "", 1, 0, 0, 0, kHost});
    const double flops = step.model_flops();
    std::printf("| %s | **%.0f tokens/s, %.1f%% of 989 TFLOP/s** | | %.0f | | %.0f | %.0f | %.1f | |\n", m.name,
                step.tokens() / all, 100 * flops / all / 989e12, flops / 1e9, 1e6 * total.floor, 1e6 * all, 1e3 * all);
  }
}

}  // namespace bench
