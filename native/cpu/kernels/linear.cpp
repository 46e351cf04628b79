/**
 * The three products of a linear layer with weight W [n, k], on activations of rows x k and rows x n:
 *   forward  y [rows, n] = x W^T (+ residual)      B = W^T: columns of B are rows of W, contiguous along the sum
 *   dgrad    dx[rows, k] = dy W  (+ addend)        B = W
 *   wgrad    dW[n, k]  (+)= dy^T x                 A = dy^T, B = x, sum over rows
 * each 2 rows n k floating point operations. fp32, and bf16 without a tile unit, run on gemm_f32.h; bf16 with one on
 * gemm_amx.h, with weights packed beforehand (kept in step by adamw), since packing them anew costs as much as a third
 * of such a product. In fp32 packing costs a few percent, less than the memory traffic and the space of a second copy.
 */
#include "native/cpu/kernels/declare.h"
#include "native/cpu/kernels/gemm_amx.h"
#include "native/cpu/kernels/gemm_driver.h"
#include "native/cpu/kernels/gemm_f32.h"
#include "native/ops/step_inputs.h"

namespace thalweg::cpu::THALWEG_ISA {

namespace {

#if THALWEG_SIMD >= 3
using Bf16Engine = gemm::AmxEngine;
#else
using Bf16Engine = gemm::F32Engine;
#endif

gemm::Kind activation(const Tensor& t) { return t.dtype == DType::BF16 ? gemm::Kind::Bf16 : gemm::Kind::F32; }
gemm::Kind weights(DType act) { return act == DType::BF16 ? gemm::Kind::F32AsBf16 : gemm::Kind::F32; }

gemm::Operand weight_operand(const void* w, int64_t n, int64_t k, DType act, Orientation orientation) {
  if (orientation == Orientation::Forward) return {w, weights(act), true, n, k, k};
  return {w, weights(act), false, k, n, k};
}

gemm::Output output(const Tensor& c, const Tensor& addend) {
  return {c.data, addend.present() ? addend.data : nullptr, c.dtype, c.shape[1]};
}

gemm::Product product(const ops::Linear& p) {
  const gemm::Operand x{p.x.data, activation(p.x), true, p.rows, p.k, p.k};
  return {x, weight_operand(p.weight.data, p.n, p.k, p.x.dtype, Orientation::Forward), nullptr,
          output(p.y, p.residual)};
}

gemm::Product product(const ops::LinearDgrad& p) {
  const gemm::Operand dy{p.dy.data, activation(p.dy), true, p.rows, p.n, p.n};
  return {dy, weight_operand(p.weight.data, p.n, p.k, p.dy.dtype, Orientation::Dgrad), nullptr, output(p.dx, p.addend)};
}

gemm::Product product(const ops::LinearWgrad& p, bool accumulate) {
  const gemm::Operand dy{p.dy.data, activation(p.dy), false, p.n, p.rows, p.n};
  const gemm::Operand x{p.x.data, activation(p.x), false, p.k, p.rows, p.k};
  return {dy, x, nullptr, output(p.dweight, accumulate ? p.dweight : Tensor{})};
}

void run(const gemm::Product& g, DType act, Context& ctx) {
  if (act == DType::BF16)
    gemm::run<Bf16Engine>(g, ctx);
  else
    gemm::run<gemm::F32Engine>(g, ctx);
}

size_t workspace(const gemm::Product& g, DType act, int threads) {
  if (act == DType::BF16) return gemm::workspace_bytes<Bf16Engine>(g.left, g.right, g.out.dtype, threads);
  return gemm::workspace_bytes<gemm::F32Engine>(g.left, g.right, g.out.dtype, threads);
}

const void* packed(const Context& ctx, const Tensor& weight, Orientation orientation, DType act) {
  return ctx.packed == nullptr ? nullptr : ctx.packed->find(weight.data, orientation, act);
}

template <class Engine>
void pack_rows_as(const float* w, int64_t n, int64_t k, int64_t row0, int64_t rows, const Packed& dst) {
  static_assert(kPackRows % Engine::kNr == 0 && kPackRows % Engine::kStep == 0);
  auto* panels = static_cast<typename Engine::Element*>(dst.data);
  const gemm::Operand from = weight_operand(w, n, k, dst.act, dst.orientation);
  const int64_t depth = gemm::round_up(from.k, Engine::kStep);
  if (dst.orientation == Orientation::Forward) {
    for (int64_t row = row0; row < row0 + rows; row += Engine::kNr)
      Engine::pack_right(from, row / Engine::kNr, 0, depth, panels + row * depth);
    return;
  }
  const int64_t steps = gemm::round_up(rows, Engine::kStep);
  for (int64_t strip = 0; strip * Engine::kNr < k; strip++)
    Engine::pack_right(from, strip, row0, steps, panels + Engine::kNr * (strip * depth + row0));
}

}  // namespace

void linear(const ops::Linear& p, Context& ctx) {
  gemm::Product g = product(p);
  g.packed_right = packed(ctx, p.weight, Orientation::Forward, p.x.dtype);
  run(g, p.x.dtype, ctx);
}
size_t linear_workspace(const ops::Linear& p, int threads) { return workspace(product(p), p.x.dtype, threads); }

void linear_dgrad(const ops::LinearDgrad& p, Context& ctx) {
  gemm::Product g = product(p);
  g.packed_right = packed(ctx, p.weight, Orientation::Dgrad, p.dy.dtype);
  run(g, p.dy.dtype, ctx);
}
size_t linear_dgrad_workspace(const ops::LinearDgrad& p, int threads) {
  return workspace(product(p), p.dy.dtype, threads);
}

void linear_wgrad(const ops::LinearWgrad& p, Context& ctx) {
  run(product(p, ops::accumulates(p.accumulate, ctx.integers)), p.x.dtype, ctx);
}
size_t linear_wgrad_workspace(const ops::LinearWgrad& p, int threads) {
  return workspace(product(p, false), p.x.dtype, threads);
}

size_t packed_weight_bytes(int64_t n, int64_t k, DType act, Orientation orientation) {
  if (THALWEG_SIMD < 3 || act != DType::BF16) return 0;
  const int64_t extent = orientation == Orientation::Forward ? n : k, sum = orientation == Orientation::Forward ? k : n;
  return sizeof(Bf16Engine::Element) * gemm::round_up(extent, Bf16Engine::kNr) * gemm::round_up(sum, Bf16Engine::kStep);
}

void pack_weight_rows(const float* w, int64_t n, int64_t k, int64_t row0, int64_t rows, const Packed& dst) {
  if (dst.act == DType::BF16)
    pack_rows_as<Bf16Engine>(w, n, k, row0, rows, dst);
  else
    pack_rows_as<gemm::F32Engine>(w, n, k, row0, rows, dst);
}

}  // namespace thalweg::cpu::THALWEG_ISA
