#include "native/cpu/bind.h"

#include <type_traits>

#include "native/engine/parameters.h"
#include "native/ops/starts.h"
#include "native/ops/step_inputs.h"

namespace thalweg::cpu {

namespace {

void check_range(const Tensor& values, int64_t limit, const char* what, const char* bound) {
  const int32_t* v = values.as<const int32_t>();
  const int64_t n = values.numel();
  for (int64_t i = 0; i < n; i++)
    if (v[i] >= limit) fail("BAD_INPUT", what, " ", v[i], " in row ", i, " is not below ", bound, " ", limit);
}

void check_tokens(const Tensor& tokens, int64_t vocab) {
  const int32_t* v = tokens.as<const int32_t>();
  const int64_t n = tokens.numel();
  for (int64_t i = 0; i < n; i++)
    if (v[i] < 0) fail("BAD_INPUT", "token ", v[i], " in row ", i, " is negative");
  check_range(tokens, vocab, "token", "the vocabulary size");
}

/** What a declaration cannot check because it depends on the values of a step: everything kernels use as an index. */
template <class P>
void check_values(const P& p, const Context& ctx) {
  if constexpr (std::is_same_v<P, ops::Embedding>) check_tokens(p.tokens, p.vocab);
  if constexpr (std::is_same_v<P, ops::EmbeddingBackward>) check_tokens(p.tokens, p.vocab);
  if constexpr (std::is_same_v<P, ops::Classifier>) check_range(p.targets, p.vocab, "target", "the vocabulary size");
  if constexpr (std::is_same_v<P, ops::Rope>) {
    const int64_t first = ctx.integers[ops::kIntegerPositionOffset];
    if (first < 0 || first + p.seq > p.positions)
      fail("BAD_INPUT", "positions ", first, " to ", first + p.seq, " lie outside the table of ", p.positions);
  }
  if constexpr (std::is_same_v<P, ops::Attention> || std::is_same_v<P, ops::AttentionBackward>)
    if (p.starts.present()) ops::check_starts(p.starts.template as<const int32_t>(), p.rows, p.seq);
  if constexpr (std::is_same_v<P, ops::AttentionDecode>) {
    const int64_t length = ctx.integers[ops::kIntegerCacheLength];
    if (length < 0 || length >= p.capacity)
      fail("BAD_INPUT", "cacheLength ", length, " leaves no place in caches of ", p.capacity);
  }
  (void)p;
  (void)ctx;
}

template <class P>
BoundCommand bind_typed(const ops::Command& command, bool packed, void (*kernel)(const P&, Context&)) {
  BoundCommand bound;
  const P p = P::decode(command);
  bound.run = [p, kernel](Context& ctx) {
    check_values(p, ctx);
    kernel(p, ctx);
  };
  bound.op = command.op;
  bound.label = command.label;
  bound.packed = packed;
  const int written = command.op == ops::Adamw::kName && !packed ? 3 : engine::written_operand(command.op);
  if (written >= 0) {
    const Tensor& t = command.operands[static_cast<size_t>(written)];
    bound.written = t.data;
    bound.written_bytes = t.bytes();
  }
  return bound;
}

}  // namespace

BoundCommand bind_command(const Kernels& kernels, const ops::Command& command, bool packed) {
#define THALWEG_BIND(Params, name) \
  if (command.op == ops::Params::kName) return bind_typed<ops::Params>(command, packed, kernels.name);
  THALWEG_OPS(THALWEG_BIND)
#undef THALWEG_BIND
  fail("BAD_PROGRAM", "command ", command.op, ": no such op");
}

size_t workspace_bytes(const Kernels& kernels, const ops::Command& command, int threads) {
#define THALWEG_WORKSPACE(Params, name) \
  if (command.op == ops::Params::kName) return kernels.name##_workspace(ops::Params::decode(command), threads);
  THALWEG_OPS(THALWEG_WORKSPACE)
#undef THALWEG_WORKSPACE
  return 0;
}

bool pack_request(const ops::Command& command, PackRequest& out) {
  if (command.op == ops::Linear::kName) {
    const auto p = ops::Linear::decode(command);
    out = {p.weight.as<const float>(), p.n, p.k, Orientation::Forward, p.x.dtype};
    return true;
  }
  if (command.op == ops::LinearDgrad::kName) {
    const auto p = ops::LinearDgrad::decode(command);
    out = {p.weight.as<const float>(), p.n, p.k, Orientation::Dgrad, p.dy.dtype};
    return true;
  }
  if (command.op == ops::LinearSwiglu::kName) {
    const auto p = ops::LinearSwiglu::decode(command);
    out = {p.weight.as<const float>(), 2 * p.ffn, p.k, Orientation::Forward, p.x.dtype};
    return true;
  }
  if (command.op == ops::LinearDgradSwiglu::kName) {
    const auto p = ops::LinearDgradSwiglu::decode(command);
    out = {p.weight.as<const float>(), p.n, p.ffn, Orientation::Dgrad, p.dy.dtype};
    return true;
  }
  return false;
}

}  // namespace thalweg::cpu
