#include "native/cuda/kernels.h"
#include "native/cuda/kernels/hopper_matmul.h"
#include "native/cuda/kernels/matmul_fma.cuh"
#include "native/cuda/kernels/matmul_mma.cuh"
#include "native/cuda/kernels/matmul_slices.cuh"
#include "native/cuda/kernels/matmul_sources.cuh"

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
 * In bf16 the weight is read from the backend's copy, or rounded into the workspace first. Operands whose rows are not
 * a multiple of 16 bytes are copied there too, with rows that are. Where tiles are too few for the device, as in most
 * weight gradients, the sum is cut into parts that go to fp32 slices of the workspace, which add_slices adds in their
 * order: no atomics, the same bits always; where ctx.squares is given it sums their squares too. Tiles, cuts and their
 * reasons are in matmul_tiles.h. On sm_90 products large enough go to the kernel of hopper_matmul.cu instead.
 */
namespace thalweg::cuda {

namespace {

using namespace matmul;

Output output(const Tensor& c, const void* addend) {
  const int64_t columns = c.shape[1];
  const bool half = c.dtype == DType::BF16;
  const bool vectors =
      columns % (half ? 8 : 4) == 0 && is_aligned(c.data, 16) && (addend == nullptr || is_aligned(addend, 16));
  return {c.data, addend, nullptr, c.shape[0], columns, columns, 0, half, vectors};
}
const void* data_of(const Tensor& t) { return t.present() ? t.data : nullptr; }

template <int Row, Form F, class E>
void launch_tile(const Product<E>& p, const Plan& plan, const Output& out, Context& ctx) {
  constexpr Tile kTile = kTiles[Row];
  const int64_t down = cut(p.shape.m, kTile.m), across = cut(p.shape.n, kTile.n);
  const GridShape grid{
      {static_cast<unsigned>(down * across * plan.splits), 1, 1}, kTile.threads(), 1, kTile.shared_bytes()};
  const Problem<E> problem{p.a, p.b, p.shape.m, p.shape.n, p.shape.k, plan.k_per_split, down, across, plan.group};
  if constexpr (kTile.kind == Kind::kFma)
    launch(ctx.stream, fma_kernel<Row, F>, grid, problem, out);
  else
    launch(ctx.stream, mma_kernel<Row, F>, grid, problem, out);
}

/** The kernel of row plan.tile: counts down the table. */
template <Form F, class E, int Row = kTileCount - 1>
void launch_form(const Product<E>& p, const Plan& plan, const Output& out, Context& ctx) {
  if constexpr (Row >= 0) {
    if constexpr (kTiles[Row].element_bytes() == sizeof(E))
      if (plan.tile == Row) return launch_tile<Row, F>(p, plan, out, ctx);
    launch_form<F, E, Row - 1>(p, plan, out, ctx);
  }
}

template <class E>
void launch_product(const Product<E>& p, const Plan& plan, const Output& out, Context& ctx) {
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
void launch_add_slices(const float* slices, int64_t ld, int splits, const Output& out, Context& ctx) {
  const int64_t threads = out.m * (out.columns / N);
  const GridShape grid{{static_cast<unsigned>(ceil_div(threads, kReduceThreads)), 1, 1}, kReduceThreads};
  launch(ctx.stream, add_slices<T, N>, grid, slices, ld, splits, out);
}

/** Where in the tensor of ctx.squares C begins, if its squares are to be made; else -1. */
int64_t place_in_squares(const Output& out, int64_t ld, int splits, const Context& ctx) {
  const GradientSquares* squares = ctx.squares;
  if (squares == nullptr || out.half || !out.vectors || ld != out.columns || !is_aligned(squares->grads, 16)) return -1;
  const auto from = reinterpret_cast<uintptr_t>(squares->grads), at = reinterpret_cast<uintptr_t>(out.c);
  const int64_t begin = static_cast<int64_t>((at - from) / sizeof(float)), size = out.m * out.columns;
  return at >= from && begin + size <= squares->n && squares_pay(begin, size, splits, ctx.target) ? begin : -1;
}

void launch_add_slices_squares(const float* slices, int splits, const Output& out, int64_t begin, Context& ctx) {
  const UnitRange units = units_of(begin, out.m * out.columns);
  const GridShape grid{{static_cast<unsigned>(units.count), 1, 1}, kUnitThreads, 1, sizeof(double) * kUnitThreads};
  launch(ctx.stream, add_slices_squares, grid, slices, splits, out, begin - units.first * kUnit,
         ctx.squares->units + units.first);
}

void add_up(const float* slices, int64_t ld, int splits, const Output& out, Context& ctx) {
  if (out.half)
    return out.vectors ? launch_add_slices<bf16, 8>(slices, ld, splits, out, ctx)
                       : launch_add_slices<bf16, 1>(slices, ld, splits, out, ctx);
  const int64_t begin = place_in_squares(out, ld, splits, ctx);
  if (begin >= 0) return launch_add_slices_squares(slices, splits, out, begin, ctx);
  out.vectors ? launch_add_slices<float, 4>(slices, ld, splits, out, ctx)
              : launch_add_slices<float, 1>(slices, ld, splits, out, ctx);
}

/** By the plan of either table. */
template <class E, class PlanOf>
void run(const Product<E>& p, const PlanOf& plan, Pieces& pieces, Context& ctx) {
  if (plan.splits == 1) return launch_product(p, plan, p.out, ctx);
  const int64_t ld = slice_columns(p.shape);
  auto* slices = reinterpret_cast<float*>(ctx.workspace + pieces.take(slice_bytes(p.shape, plan.splits)));
  launch_product(p, plan, {slices, nullptr, nullptr, p.shape.m, ld, ld, p.shape.m * ld, false, true}, ctx);
  add_up(slices, ld, plan.splits, p.out, ctx);
}

/** What an op is, whatever the precision. */
struct Request {
  Form form;
  Source a, b;
  int64_t m, n, k;
  DType act;
};

Request request(const ops::Linear& p) { return {Form::kForward, {p.x}, {p.weight}, p.rows, p.n, p.k, p.x.dtype}; }
Request request(const ops::LinearDgrad& p) { return {Form::kDgrad, {p.dy}, {p.weight}, p.rows, p.k, p.n, p.dy.dtype}; }
Request request(const ops::LinearWgrad& p) { return {Form::kWgrad, {p.dy}, {p.x}, p.n, p.k, p.rows, p.x.dtype}; }

/** use(plan): with the plan of the table whose kernel is the faster. */
template <class E, class Use>
auto with_plan(const Request& r, const Output& out, const Target& target, Use use) {
  const Shape shape{r.m, r.n, r.k, sizeof(E) == 4};
  const Plan everywhere = plan(shape, target);
  if constexpr (sizeof(E) == 2) {
    const hopper::Plan wgmma = hopper::plan(shape, target, out.half);
    if (hopper::preferred(wgmma, everywhere, target, out.vectors)) return use(wgmma);
  }
  return use(everywhere);
}

template <class E>
void run(const Request& r, const Output& out, Context& ctx) {
  Pieces pieces;
  const Matrix<E> a = matrix<E>(r.a, pieces, ctx), b = matrix<E>(r.b, pieces, ctx);
  const Product<E> product{r.form, {r.m, r.n, r.k, sizeof(E) == 4}, a, b, out};
  with_plan<E>(r, out, ctx.target, [&](const auto& plan) { run<E>(product, plan, pieces, ctx); });
}
void run(const Request& r, const Output& out, Context& ctx) {
  r.act == DType::F32 ? run<float>(r, out, ctx) : run<bf16>(r, out, ctx);
}

template <class E>
size_t workspace(const Request& r, const Output& out, const Target& target) {
  const int splits = with_plan<E>(r, out, target, [](const auto& plan) { return plan.splits; });
  const int64_t slices = slice_bytes({r.m, r.n, r.k, sizeof(E) == 4}, splits);
  Pieces pieces;
  for (int64_t bytes : {matrix_bytes<E>(r.a), matrix_bytes<E>(r.b), slices}) pieces.take(bytes);
  return pieces.taken();
}
size_t workspace(const Request& r, const Output& out, const Target& target) {
  return r.act == DType::F32 ? workspace<float>(r, out, target) : workspace<bf16>(r, out, target);
}

Output output(const ops::Linear& p) { return output(p.y, data_of(p.residual)); }
Output output(const ops::LinearDgrad& p) { return output(p.dx, data_of(p.addend)); }
Output output(const ops::LinearWgrad& p) {
  return output(p.dweight, p.accumulate == ops::kOverwrite ? nullptr : p.dweight.data);
}

}  // namespace

void linear(const ops::Linear& p, Context& ctx) { run(request(p), output(p), ctx); }
size_t linear_workspace(const ops::Linear& p, const Target& target) { return workspace(request(p), output(p), target); }

void linear_dgrad(const ops::LinearDgrad& p, Context& ctx) { run(request(p), output(p), ctx); }
size_t linear_dgrad_workspace(const ops::LinearDgrad& p, const Target& target) {
  return workspace(request(p), output(p), target);
}

void linear_wgrad(const ops::LinearWgrad& p, Context& ctx) {
  Output out = output(p);
  if (p.accumulate == ops::kAddUnlessFirst) out.skip = ctx.integers + ops::kIntegerFirstMicroBatch;
  run(request(p), out, ctx);
}
size_t linear_wgrad_workspace(const ops::LinearWgrad& p, const Target& target) {
  return workspace(request(p), output(p), target);
}

}  // namespace thalweg::cuda
