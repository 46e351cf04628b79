#include "test/native/bench/harness.h"
#include "test/native/bench/paper.h"
#include "test/native/squares_plan.h"

namespace bench {

namespace {

/** Keeps bf16 copies of the weights of a benchmark. */
class Copies final : public cuda::WeightCopies {
 public:
  std::vector<std::pair<const void*, void*>> pairs;
  void* find(const void* master) const override {
    for (const auto& [weight, copy] : pairs)
      if (weight == master) return copy;
    return nullptr;
  }
};

/** y [rows, n] = x [rows, k] w [n, k]^T and its two gradients, bf16, with the weight's bf16 copy at hand. */
void three_forms(Device& device, const Options& options, const std::string& name, int64_t rows, int64_t n, int64_t k) {
  const double flops = 2.0 * static_cast<double>(rows) * static_cast<double>(n) * static_cast<double>(k);
  const double bytes = 2.0 * static_cast<double>(rows * n + rows * k + n * k);
  const int sets = sets_for(options, bytes);
  std::vector<Tensor> x, y, w, dw;
  Copies copies;
  for (int i = 0; i < sets; i++) {
    x.push_back(tensor(device.normal(DType::BF16, rows * k), DType::BF16, {rows, k}));
    y.push_back(tensor(device.normal(DType::BF16, rows * n), DType::BF16, {rows, n}));
    void* copy = device.normal(DType::BF16, n * k);
    w.push_back(tensor(copy, DType::F32, {n, k}));  // the master itself is never read: the copy stands at its address
    copies.pairs.emplace_back(copy, copy);
  }
  dw.push_back(tensor(device.zeros(static_cast<size_t>(n * k) * 4), DType::F32, {n, k}));
  const Tensor absent{};
  const auto& target = device.properties().target;
  const auto decode = [&](auto op, const std::vector<Tensor>& operands, const std::vector<double>& attributes) {
    return decltype(op)::decode({decltype(op)::kName, "bench", operands, attributes});
  };
  const auto measure = [&](const char* form, size_t workspace, double moved, auto enqueue) {
    Measurement m{"matmul", name, {{"rows", rows}, {"n", n}, {"k", k}}, flops, moved, {}, sets};
    m.group = std::string("matmul ") + form;
    m.enqueue = [&](int set, cuda::Context& ctx) {
      ctx.copies = &copies;
      enqueue(static_cast<size_t>(set), ctx);
    };
    run(device, options, workspace, m);
  };
  measure("forward", cuda::linear_workspace(decode(ops::Linear{}, {x[0], w[0], absent, y[0]}, {}), target), bytes,
          [&](size_t i, cuda::Context& ctx) {
            cuda::linear(decode(ops::Linear{}, {x[i], w[i], absent, y[i]}, {}), ctx);
          });
  measure("dgrad", cuda::linear_dgrad_workspace(decode(ops::LinearDgrad{}, {y[0], w[0], absent, x[0]}, {}), target),
          bytes, [&](size_t i, cuda::Context& ctx) {
            cuda::linear_dgrad(decode(ops::LinearDgrad{}, {y[i], w[i], absent, x[i]}, {}), ctx);
          });
  const double moved = bytes + 2.0 * static_cast<double>(n * k);
  measure("wgrad", cuda::linear_wgrad_workspace(decode(ops::LinearWgrad{}, {x[0], y[0], dw[0]}, {0}), target), moved,
          [&](size_t i, cuda::Context& ctx) {
            cuda::linear_wgrad(decode(ops::LinearWgrad{}, {x[i], y[i], dw[0]}, {0}), ctx);
          });
  if (check::makes_squares(n, k, rows, 0, DType::BF16, target)) {
    auto* units = static_cast<double*>(device.zeros(static_cast<size_t>(cuda::unit_count(n * k)) * sizeof(double)));
    const cuda::GradientSquares squares{dw[0].as<const float>(), n * k, units};
    measure("wgrad with squares",
            cuda::linear_wgrad_workspace(decode(ops::LinearWgrad{}, {x[0], y[0], dw[0]}, {0}), target), moved,
            [&](size_t i, cuda::Context& ctx) {
              ctx.squares = &squares;
              cuda::linear_wgrad(decode(ops::LinearWgrad{}, {x[i], y[i], dw[0]}, {0}), ctx);
            });
  }
  device.release();
}

/** A gated MLP's products of `rows` with SwiGLU in them, and with the kernel after them. */
void with_swiglu(Device& device, const Options& options, const std::string& name, int64_t rows, int64_t ffn,
                 int64_t dim) {
  const auto act = [&](int64_t columns) {
    return tensor(device.normal(DType::BF16, rows * columns), DType::BF16, {rows, columns});
  };
  Copies copies;
  const auto weight = [&](int64_t n, int64_t k) {
    void* copy = device.normal(DType::BF16, n * k);
    copies.pairs.emplace_back(copy, copy);
    return tensor(copy, DType::F32, {n, k});
  };
  const Tensor x = act(dim), y = act(ffn), gate_up = act(2 * ffn), gradient = act(2 * ffn), absent{};
  const Tensor wide = weight(2 * ffn, dim), down = weight(dim, ffn);
  const ops::LinearSwiglu forward{x, wide, gate_up, y, ffn, rows, dim};
  const ops::LinearDgradSwiglu backward{x, down, gate_up, gradient, rows, dim, ffn};
  const ops::Linear product{x, wide, absent, gate_up, rows, dim, 2 * ffn};
  const ops::LinearDgrad dgrad{x, down, absent, y, rows, dim, ffn};
  const auto& target = device.properties().target;
  const auto measure = [&](const char* group, int64_t n, double bytes, size_t workspace, auto enqueue) {
    const double flops = 2 * static_cast<double>(rows) * static_cast<double>(n) * static_cast<double>(dim);
    Measurement m{group, name, {{"rows", rows}, {"n", n}, {"k", dim}}, flops, bytes, {}, 1};
    m.enqueue = [&](int, cuda::Context& ctx) {
      ctx.copies = &copies;
      enqueue(ctx);
    };
    run(device, options, workspace, m);
  };
  const double cells = static_cast<double>(rows) * static_cast<double>(ffn), depth = static_cast<double>(dim);
  const double wide_bytes = 6 * cells + 2 * depth * static_cast<double>(rows + 2 * ffn);
  const double down_bytes = 8 * cells + 2 * depth * static_cast<double>(rows + ffn);
  measure("swiglu in forward", 2 * ffn, wide_bytes, cuda::linear_swiglu_workspace(forward, target),
          [&](cuda::Context& ctx) { cuda::linear_swiglu(forward, ctx); });
  measure("swiglu after forward", 2 * ffn, wide_bytes, cuda::linear_workspace(product, target),
          [&](cuda::Context& ctx) {
            cuda::linear(product, ctx);
            cuda::swiglu({gate_up, y, ffn, rows}, ctx);
          });
  measure("swiglu in dgrad", ffn, down_bytes, cuda::linear_dgrad_swiglu_workspace(backward, target),
          [&](cuda::Context& ctx) { cuda::linear_dgrad_swiglu(backward, ctx); });
  measure("swiglu after dgrad", ffn, down_bytes, cuda::linear_dgrad_workspace(dgrad, target), [&](cuda::Context& ctx) {
    cuda::linear_dgrad(dgrad, ctx);
    cuda::swiglu_backward({gate_up, y, gradient, ffn, rows}, ctx);
  });
  device.release();
}

}  // namespace

void matmul_benchmarks(Device& device, const Options& options) {
  if (options.tiny) {
    three_forms(device, options, "tiny", 64, 48, 32);
    three_forms(device, options, "tiny, cut", 1736, 40, 160);
    return with_swiglu(device, options, "tiny", 64, 48, 32);
  }
  for (int64_t cube : {2048, 4096, 8192}) three_forms(device, options, "cube", cube, cube, cube);
  each_paper_product([&](const std::string& model, const char* product, int64_t rows, int64_t n, int64_t k) {
    three_forms(device, options, model + " " + product, rows, n, k);
  });
  for (const PaperModel& m : kPaperModels) with_swiglu(device, options, m.name, kPaperTokens, m.ffn, m.dim);
}

}  // namespace bench
