#include <cmath>

#include "test/native/bench/harness.h"

namespace bench {

namespace {

/** Causal attention over `tokens` in sequences of `seq`; FLOPs of the pairs that count, once forward, 2.5 times
 * backward. */
void both_ways(Device& device, const Options& options, int64_t tokens, int64_t seq, int64_t heads, int64_t kv_heads,
               int64_t dim) {
  const int64_t width = (heads + 2 * kv_heads) * dim, out = heads * dim;
  const double pairs = static_cast<double>(tokens) * static_cast<double>(seq + 1) / 2;
  const double flops = 4.0 * pairs * static_cast<double>(out);
  const double bytes = 2.0 * static_cast<double>(tokens * (width + out));
  const int sets = sets_for(options, bytes);
  std::vector<Tensor> qkv, y, lse, dy, dqkv;
  for (int i = 0; i < sets; i++) {
    qkv.push_back(tensor(device.normal(DType::BF16, tokens * width), DType::BF16, {tokens, width}));
    y.push_back(tensor(device.zeros(static_cast<size_t>(tokens * out) * 2), DType::BF16, {tokens, out}));
    lse.push_back(tensor(device.zeros(static_cast<size_t>(tokens * heads) * 4), DType::F32, {tokens, heads}));
    dy.push_back(tensor(device.normal(DType::BF16, tokens * out), DType::BF16, {tokens, out}));
    dqkv.push_back(tensor(device.zeros(static_cast<size_t>(tokens * width) * 2), DType::BF16, {tokens, width}));
  }
  const std::vector<double> attributes = {static_cast<double>(seq), static_cast<double>(heads),
                                          static_cast<double>(kv_heads), static_cast<double>(dim),
                                          1 / std::sqrt(static_cast<double>(dim))};
  const auto forward = [&](size_t i) {
    return ops::Attention::decode({"attention", "bench", {qkv[i], Tensor{}, y[i], lse[i]}, attributes});
  };
  const auto backward = [&](size_t i) {
    return ops::AttentionBackward::decode(
        {"attentionBackward", "bench", {qkv[i], y[i], lse[i], dy[i], Tensor{}, dqkv[i]}, attributes});
  };
  const auto& target = device.properties().target;
  Measurement m{"attention forward",
                "causal",
                {{"tokens", tokens}, {"seq", seq}, {"heads", heads}, {"kvHeads", kv_heads}, {"headDim", dim}},
                flops,
                bytes,
                {},
                sets};
  m.enqueue = [&](int set, cuda::Context& ctx) { cuda::attention(forward(static_cast<size_t>(set)), ctx); };
  run(device, options, cuda::attention_workspace(forward(0), target), m);
  for (int i = 0; i < sets; i++) {  // the backward pass reads every set's y and lse
    cuda::Context ctx = device.context(cuda::attention_workspace(forward(0), target));
    cuda::attention(forward(static_cast<size_t>(i)), ctx);
  }
  m.group = "attention backward";
  m.flops = 2.5 * flops;
  m.bytes = 2.0 * static_cast<double>(tokens * (2 * width + 2 * out));
  m.enqueue = [&](int set, cuda::Context& ctx) { cuda::attention_backward(backward(static_cast<size_t>(set)), ctx); };
  run(device, options, cuda::attention_backward_workspace(backward(0), target), m);
  device.release();
}

}  // namespace

void attention_benchmarks(Device& device, const Options& options) {
  if (options.tiny) return both_ways(device, options, 64, 32, 2, 1, 64);
  constexpr int64_t kTokens = 16384, kWidth = 2048;
  for (int64_t dim : {64, 128})
    for (int64_t seq : {1024, 2048, 4096, 8192, 16384})
      both_ways(device, options, kTokens, seq, kWidth / dim, kWidth / dim, dim);
  both_ways(device, options, kTokens, 4096, 32, 32, 48);
  both_ways(device, options, kTokens, 4096, 16, 4, 128);
}

}  // namespace bench
