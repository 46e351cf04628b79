#include <cmath>

#include "test/native/bench/documents.h"
#include "test/native/bench/harness.h"

namespace bench {

namespace {

struct Problem {
  int64_t tokens, seq, heads, kv_heads, dim;
  bool documents = false;

  int64_t width() const { return (heads + 2 * kv_heads) * dim; }
  int64_t out() const { return heads * dim; }
};

/** Operands of both passes, in as many sets as fill the rotation. */
struct Operands {
  std::vector<Tensor> qkv, y, lse, dy, dqkv;
  Tensor starts;

  Operands(Device& device, const Problem& p, int sets, const std::vector<int32_t>& documents) {
    const auto zeros = [&](DType dtype, int64_t width) {
      return tensor(device.zeros(static_cast<size_t>(p.tokens * width) * dtype_size(dtype)), dtype, {p.tokens, width});
    };
    for (int i = 0; i < sets; i++) {
      qkv.push_back(tensor(device.normal(DType::BF16, p.tokens * p.width()), DType::BF16, {p.tokens, p.width()}));
      y.push_back(zeros(DType::BF16, p.out()));
      lse.push_back(zeros(DType::F32, p.heads));
      dy.push_back(tensor(device.normal(DType::BF16, p.tokens * p.out()), DType::BF16, {p.tokens, p.out()}));
      dqkv.push_back(zeros(DType::BF16, p.width()));
    }
    if (!documents.empty()) starts = tensor(device.integers(documents), DType::I32, {p.tokens});
  }
  ops::Attention forward(size_t i, const std::vector<double>& attributes) const {
    return ops::Attention::decode({"attention", "bench", {qkv[i], starts, y[i], lse[i]}, attributes});
  }
  ops::AttentionBackward backward(size_t i, std::vector<double> attributes, bool any_order) const {
    attributes.push_back(any_order);
    return ops::AttentionBackward::decode(
        {"attentionBackward", "bench", {qkv[i], y[i], lse[i], dy[i], starts, dqkv[i]}, attributes});
  }
};

/** Forward, and backward with dQ added in its order and in any; FLOPs of the pairs that count, 2.5 times backward. */
void both_ways(Device& device, const Options& options, const Problem& p) {
  const auto documents = p.documents ? document_starts(p.tokens, p.seq) : std::vector<int32_t>{};
  const double pairs = p.documents ? visible_pairs(documents, p.seq)
                                   : static_cast<double>(p.tokens) * static_cast<double>(p.seq + 1) / 2;
  const double bytes = 2.0 * static_cast<double>(p.tokens * (p.width() + p.out()));
  const int sets = sets_for(options, bytes);
  const Operands operands(device, p, sets, documents);
  const std::vector<double> attributes = {static_cast<double>(p.seq), static_cast<double>(p.heads),
                                          static_cast<double>(p.kv_heads), static_cast<double>(p.dim),
                                          1 / std::sqrt(static_cast<double>(p.dim))};
  const auto& target = device.properties().target;
  const std::string name = p.documents ? "documents" : "causal";
  Measurement m{"attention forward",
                name,
                {{"tokens", p.tokens}, {"seq", p.seq}, {"heads", p.heads}, {"kvHeads", p.kv_heads}, {"headDim", p.dim}},
                4.0 * pairs * static_cast<double>(p.out()),
                bytes,
                {},
                sets};
  const auto forward = [&](int set, cuda::Context& ctx) {
    cuda::attention(operands.forward(static_cast<size_t>(set), attributes), ctx);
  };
  m.enqueue = forward;
  const size_t room = cuda::attention_workspace(operands.forward(0, attributes), target);
  run(device, options, room, m);
  for (int i = 0; i < sets; i++) {  // the backward pass reads every set's y and lse
    cuda::Context ctx = device.context(room);
    forward(i, ctx);
  }
  m.group = "attention backward";
  m.flops *= 2.5;
  m.bytes = 2.0 * static_cast<double>(p.tokens * (2 * p.width() + 2 * p.out()));
  for (bool any_order : {false, true}) {
    m.name = any_order ? name + ", dq in any order" : name;
    m.enqueue = [&](int set, cuda::Context& ctx) {
      cuda::attention_backward(operands.backward(static_cast<size_t>(set), attributes, any_order), ctx);
    };
    run(device, options, cuda::attention_backward_workspace(operands.backward(0, attributes, any_order), target), m);
  }
  device.release();
}

}  // namespace

void attention_benchmarks(Device& device, const Options& options) {
  if (options.tiny) {
    both_ways(device, options, {64, 32, 2, 1, 64});
    return both_ways(device, options, {64, 32, 2, 1, 64, true});
  }
  constexpr int64_t kTokens = 16384, kWidth = 2048;
  for (int64_t dim : {64, 128})
    for (int64_t seq : {1024, 2048, 4096, 8192, 16384})
      both_ways(device, options, {kTokens, seq, kWidth / dim, kWidth / dim, dim});
  both_ways(device, options, {kTokens, 4096, 32, 32, 48});
  both_ways(device, options, {kTokens, 4096, 16, 4, 128});
  for (int64_t dim : {64, 128})
    for (int64_t seq : {4096, 16384}) both_ways(device, options, {kTokens, seq, kWidth / dim, kWidth / dim, dim, true});
}

}  // namespace bench
