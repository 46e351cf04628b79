// linear_swiglu and linear_dgrad_swiglu: the two kernels each stands for, over blocks of rows, so that what passes
// between them ([gate | up] when nobody keeps it, the gradient of SwiGLU's result always) takes the memory of a block
// and is read while it is in a cache. A product's bits do not depend on how many rows it is given at a time.
#include <algorithm>

#include "native/cpu/kernels/declare.h"
#include "native/cpu/kernels/tiles.h"

namespace thalweg::cpu::THALWEG_ISA {

namespace {

/** Rows of a block: so many that packing a weight, where it is not kept packed, costs a few percent of its product. */
constexpr int64_t kRows = 1024;

Tensor matrix(void* data, DType dtype, int64_t rows, int64_t columns) { return {data, dtype, 2, {rows, columns}}; }

Tensor rows_of(const Tensor& t, int64_t first, int64_t rows) {
  auto* from = t.as<std::byte>() + static_cast<size_t>(first * t.shape[1]) * dtype_size(t.dtype);
  return matrix(from, t.dtype, rows, t.shape[1]);
}

size_t block_bytes(int64_t rows, int64_t columns, DType act) {
  return lines(static_cast<size_t>(std::min(rows, kRows) * columns) * dtype_size(act));
}

/** body(first row, rows) for each block. */
template <class Body>
void each_block(int64_t rows, Body&& body) {
  for (int64_t first = 0; first < rows; first += kRows) body(first, std::min(kRows, rows - first));
}

Context behind(const Context& ctx, size_t taken) {
  return {ctx.pool, ctx.scalars, ctx.integers, ctx.workspace + taken, ctx.packed};
}

/** The most that a product needs of those of all blocks: the last one is of another size. */
template <class WorkspaceOf>
size_t largest(int64_t rows, WorkspaceOf workspace_of) {
  const int64_t last = rows % kRows;
  return std::max(workspace_of(std::min(rows, kRows)), last > 0 ? workspace_of(last) : 0);
}

}  // namespace

void linear_swiglu(const ops::LinearSwiglu& p, Context& ctx) {
  const int64_t wide = 2 * p.ffn;
  Context inner = behind(ctx, p.gate_up.present() ? 0 : block_bytes(p.rows, wide, p.x.dtype));
  each_block(p.rows, [&](int64_t first, int64_t rows) {
    const Tensor x = rows_of(p.x, first, rows), y = rows_of(p.y, first, rows);
    const Tensor gate_up =
        p.gate_up.present() ? rows_of(p.gate_up, first, rows) : matrix(ctx.workspace, p.x.dtype, rows, wide);
    linear({x, p.weight, {}, gate_up, rows, p.k, wide}, inner);
    swiglu({gate_up, y, p.ffn, rows}, inner);
  });
}
size_t linear_swiglu_workspace(const ops::LinearSwiglu& p, int threads) {
  const int64_t wide = 2 * p.ffn;
  return block_bytes(p.rows, wide, p.x.dtype) + largest(p.rows, [&](int64_t rows) {
           const Tensor gate_up = matrix(nullptr, p.x.dtype, rows, wide);
           return linear_workspace({rows_of(p.x, 0, rows), p.weight, {}, gate_up, rows, p.k, wide}, threads);
         });
}

void linear_dgrad_swiglu(const ops::LinearDgradSwiglu& p, Context& ctx) {
  Context inner = behind(ctx, block_bytes(p.rows, p.ffn, p.dy.dtype));
  each_block(p.rows, [&](int64_t first, int64_t rows) {
    const Tensor dy = rows_of(p.dy, first, rows), dm = matrix(ctx.workspace, p.dy.dtype, rows, p.ffn);
    linear_dgrad({dy, p.weight, {}, dm, rows, p.n, p.ffn}, inner);
    swiglu_backward({rows_of(p.gate_up, first, rows), dm, rows_of(p.dgate_up, first, rows), p.ffn, rows}, inner);
  });
}
size_t linear_dgrad_swiglu_workspace(const ops::LinearDgradSwiglu& p, int threads) {
  return block_bytes(p.rows, p.ffn, p.dy.dtype) + largest(p.rows, [&](int64_t rows) {
           const Tensor dm = matrix(nullptr, p.dy.dtype, rows, p.ffn);
           return linear_dgrad_workspace({rows_of(p.dy, 0, rows), p.weight, {}, dm, rows, p.n, p.ffn}, threads);
         });
}

}  // namespace thalweg::cpu::THALWEG_ISA
