#include "native/cuda/kernels.h"
#include "native/cuda/kernels/matmul_fma.cuh"
#include "native/cuda/kernels/matmul_mma.cuh"
#include "native/cuda/kernels/matmul_round.cuh"
#include "native/cuda/launch.h"

/**
 * The three products of a linear layer with weight W [n, k], for x [rows, k], y [rows, n]:
 *
 *   forward  y  = x W^T (+ residual)   A = x    B = W   sum over k      A, B sum-major
 *   dgrad    dx = dy W  (+ addend)     A = dy   B = W   sum over n      A sum-major, B side-major
 *   wgrad    dW (+)= dy^T x            A = dy   B = x   sum over rows   A, B side-major
 *
 * all as C(i, j) = sum over p of A(i, p) B(j, p), 2 rows n k operations each, no transposed copy of anything. Bound by
 * the tensor cores once rows, n and k pass a few hundred: a 128 x 256 tile makes 85 products of each byte it reads.
 *
 * In bf16 the weight is read from the backend's copy, or rounded into the workspace first (n k * 6 bytes moved). Where
 * tiles are too few for the device, as in most weight gradients, the sum is cut into parts that go to fp32 slices of
 * the workspace, which add_slices adds in their order: no atomics, the same bits always. Tiles, cuts and their reasons
 * are in matmul_tiles.h.
 */
namespace thalweg::cuda {

namespace {

using namespace matmul;

constexpr size_t kAlignment = 256;
constexpr size_t padded(size_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

/** What an op asks for, in terms of C = A B. */
struct Product {
  Form form;
  Shape shape;
  const void *a, *b;
  int64_t lda, ldb;
  Output out;
};

Shape shape_of(const Tensor& operand, int64_t m, int64_t n, int64_t k, int64_t lda, int64_t ldb) {
  const bool fp32 = operand.dtype == DType::F32;
  const int64_t per = fp32 ? 4 : 8;
  return {m, n, k, fp32, lda % per == 0 && ldb % per == 0};
}

/** C of `columns` columns, with or without something added: rows are vectors when everything is aligned. */
Output output(const Tensor& c, const void* addend, int64_t columns) {
  const bool half = c.dtype == DType::BF16;
  const bool vectors =
      columns % (half ? 8 : 4) == 0 && is_aligned(c.data, 16) && (addend == nullptr || is_aligned(addend, 16));
  return {c.data, addend, nullptr, columns, columns, 0, half, vectors};
}

template <class E>
Problem<E> problem(const Product& p, const Plan& plan, const Tile& tile) {
  return {{static_cast<const E*>(p.a), p.lda},
          {static_cast<const E*>(p.b), p.ldb},
          p.shape.m,
          p.shape.n,
          p.shape.k,
          plan.k_per_split,
          cut(p.shape.m, tile.m),
          cut(p.shape.n, tile.n),
          plan.group};
}

template <int Row, Form F, bool Aligned>
void launch_tile(const Product& p, const Plan& plan, const Output& out, Context& ctx) {
  constexpr Tile kTile = kTiles[Row];
  const auto blocks = static_cast<unsigned>(cut(p.shape.m, kTile.m) * cut(p.shape.n, kTile.n) * plan.splits);
  const GridShape grid{{blocks, 1, 1}, kTile.threads(), 1, kTile.shared_bytes()};
  if constexpr (kTile.kind == Kind::kFma)
    launch(ctx.stream, fma_kernel<Row, F, Aligned>, grid, problem<float>(p, plan, kTile), out);
  else
    launch(ctx.stream, mma_kernel<Row, F, Aligned>, grid, problem<bf16>(p, plan, kTile), out);
}

template <Form F>
void launch_form(const Product& p, const Plan& plan, const Output& out, Context& ctx) {
  const bool aligned = p.shape.aligned && is_aligned(p.a, 16) && is_aligned(p.b, 16);
  if (p.shape.fp32)
    return aligned ? launch_tile<kFp32, F, true>(p, plan, out, ctx) : launch_tile<kFp32, F, false>(p, plan, out, ctx);
  if (!aligned) return launch_tile<kSmall, F, false>(p, plan, out, ctx);
  switch (plan.tile) {
    case 0:
      return launch_tile<0, F, true>(p, plan, out, ctx);
    case 1:
      return launch_tile<1, F, true>(p, plan, out, ctx);
    default:
      return launch_tile<kSmall, F, true>(p, plan, out, ctx);
  }
}

void launch_product(const Product& p, const Plan& plan, const Output& out, Context& ctx) {
  switch (p.form) {
    case Form::kForward:
      return launch_form<Form::kForward>(p, plan, out, ctx);
    case Form::kDgrad:
      return launch_form<Form::kDgrad>(p, plan, out, ctx);
    case Form::kWgrad:
      return launch_form<Form::kWgrad>(p, plan, out, ctx);
  }
}

template <class T, int N>
void launch_add_slices(const float* slices, const Product& p, const Plan& plan, Context& ctx) {
  const int64_t threads = p.shape.m * cut(p.shape.n, N);
  const GridShape grid{{static_cast<unsigned>(ceil_div(threads, kReduceThreads)), 1, 1}, kReduceThreads};
  launch(ctx.stream, add_slices<T, N>, grid, slices, slice_columns(p.shape), plan.splits, p.shape.m, p.out);
}

/** `slices`: slice_bytes(shape, plan) of the workspace. */
void run(const Product& p, std::byte* slices, Context& ctx) {
  const Plan chosen = plan(p.shape, ctx.target);
  if (chosen.splits == 1) return launch_product(p, chosen, p.out, ctx);
  const int64_t ld = slice_columns(p.shape);
  launch_product(p, chosen, {slices, nullptr, nullptr, ld, ld, p.shape.m * ld, false, true}, ctx);
  const auto* from = reinterpret_cast<const float*>(slices);
  if (p.out.half)
    launch_add_slices<bf16, 8>(from, p, chosen, ctx);
  else
    launch_add_slices<float, 4>(from, p, chosen, ctx);
}

/** The weight as the product reads it: itself in fp32; else its bf16 copy, made in the workspace if there is none. */
const void* weight_operand(const Tensor& weight, const Shape& shape, Context& ctx) {
  if (shape.fp32) return weight.data;
  if (ctx.copies != nullptr)
    if (const void* copy = ctx.copies->find(weight.data)) return copy;
  round_operand(weight.as<const float>(), ctx.workspace, weight.numel(), ctx);
  return ctx.workspace;
}
size_t weight_bytes(const Tensor& weight, const Shape& shape) {
  return shape.fp32 ? 0 : padded(static_cast<size_t>(weight.numel()) * 2);
}
size_t workspace(const Tensor& weight, const Shape& shape, const Target& target) {
  return weight_bytes(weight, shape) + static_cast<size_t>(slice_bytes(shape, plan(shape, target)));
}

Shape shape_of(const ops::Linear& p) { return shape_of(p.x, p.rows, p.n, p.k, p.k, p.k); }
Shape shape_of(const ops::LinearDgrad& p) { return shape_of(p.dy, p.rows, p.k, p.n, p.n, p.k); }
Shape shape_of(const ops::LinearWgrad& p) { return shape_of(p.x, p.n, p.k, p.rows, p.n, p.k); }

}  // namespace

void linear(const ops::Linear& p, Context& ctx) {
  const Shape shape = shape_of(p);
  const void* w = weight_operand(p.weight, shape, ctx);
  const void* residual = p.residual.present() ? p.residual.data : nullptr;
  run({Form::kForward, shape, p.x.data, w, p.k, p.k, output(p.y, residual, p.n)},
      ctx.workspace + weight_bytes(p.weight, shape), ctx);
}
size_t linear_workspace(const ops::Linear& p, const Target& target) { return workspace(p.weight, shape_of(p), target); }

void linear_dgrad(const ops::LinearDgrad& p, Context& ctx) {
  const Shape shape = shape_of(p);
  const void* w = weight_operand(p.weight, shape, ctx);
  const void* addend = p.addend.present() ? p.addend.data : nullptr;
  run({Form::kDgrad, shape, p.dy.data, w, p.n, p.k, output(p.dx, addend, p.k)},
      ctx.workspace + weight_bytes(p.weight, shape), ctx);
}
size_t linear_dgrad_workspace(const ops::LinearDgrad& p, const Target& target) {
  return workspace(p.weight, shape_of(p), target);
}

void linear_wgrad(const ops::LinearWgrad& p, Context& ctx) {
  Output out = output(p.dweight, p.accumulate == ops::kOverwrite ? nullptr : p.dweight.data, p.k);
  if (p.accumulate == ops::kAddUnlessFirst) out.skip = ctx.integers + ops::kIntegerFirstMicroBatch;
  run({Form::kWgrad, shape_of(p), p.dy.data, p.x.data, p.n, p.k, out}, ctx.workspace, ctx);
}
size_t linear_wgrad_workspace(const ops::LinearWgrad& p, const Target& target) {
  const Shape shape = shape_of(p);
  return static_cast<size_t>(slice_bytes(shape, plan(shape, target)));
}

}  // namespace thalweg::cuda
