#include "native/cuda/kernels/hopper_matmul.h"
#include "native/cuda/kernels/matmul_sources.cuh"
#include "native/cuda/kernels/matmul_swiglu.cuh"
#include "native/cuda/kernels/matmul_swiglu.h"
#include "native/cuda/kernels/matmul_swiglu_plan.h"

/**
 * A product and SwiGLU (or its gradient) as one kernel, bf16:
 *
 *   linear_swiglu         [gate | up] = x W^T, W [2 ffn, k] gate above up;  y = silu(gate) * up
 *   linear_dgrad_swiglu   dm = dy W, W [n, ffn];  [d gate | d up] = dm [up silu'(gate) | silu(gate)]
 *
 * What the separate kernel would read, 2/3 and all of its bytes but those it writes, is in registers or never written;
 * the products' floor is that of matmul.cu. A tile of the first is half gate, half up, of the same columns, so that
 * both are one thread's. Where a plan would cut the sum, in fp32, and for rows that are no whole vectors, the two
 * kernels run one after the other: the bits are theirs in every case (matmul_swiglu_plan.h).
 */
namespace thalweg::cuda {

namespace matmul {

namespace {

/** The kernel of row plan.tile: counts down the table. */
template <Fusion U, int Row = kTileCount - 1>
void launch_fused(const Problem<bf16>& p, const Plan& plan, const SwigluTensors& t, Context& ctx) {
  if constexpr (Row >= 0) {
    if constexpr (kTiles[Row].element_bytes() == 2) {
      if (plan.tile == Row) {
        constexpr Tile kTile = kTiles[Row];
        const auto blocks = static_cast<unsigned>(p.tiles_m * p.tiles_n);
        const GridShape grid{{blocks, 1, 1}, kTile.threads(), 1, kTile.shared_bytes()};
        return launch(ctx.stream, swiglu_mma_kernel<Row, U>, grid, p, t);
      }
    }
    launch_fused<U, Row - 1>(p, plan, t, ctx);
  }
}

}  // namespace

void launch_swiglu(Fusion fusion, const Shape& s, const Matrix<bf16>& a, const Matrix<bf16>& b, const Plan& plan,
                   const SwigluTensors& t, Context& ctx) {
  const Tile& tile = kTiles[plan.tile];
  const Problem<bf16> p{a, b, s.m, s.n, s.k, plan.k_per_split, cut(s.m, tile.m), cut(s.n, tile.n), plan.group};
  if (fusion == Fusion::kSwiglu) return launch_fused<Fusion::kSwiglu>(p, plan, t, ctx);
  launch_fused<Fusion::kSwigluGradient>(p, plan, t, ctx);
}

}  // namespace matmul

namespace {

using namespace matmul;

bool aligned(const Tensor& t) { return !t.present() || is_aligned(t.data, 16); }

FusedPlan plan_of(const ops::LinearSwiglu& p, const Target& target) {
  const bool vectors = p.ffn % 8 == 0 && aligned(p.gate_up) && aligned(p.y);
  return fused_plan({p.rows, 2 * p.ffn, p.k, p.x.dtype == DType::F32}, target, Fusion::kSwiglu, vectors);
}

FusedPlan plan_of(const ops::LinearDgradSwiglu& p, const Target& target) {
  const bool vectors = p.ffn % 8 == 0 && aligned(p.gate_up) && aligned(p.dgate_up);
  return fused_plan({p.rows, p.ffn, p.n, p.dy.dtype == DType::F32}, target, Fusion::kSwigluGradient, vectors);
}

/** One kernel over a and b, copied where they cannot be read as they are. */
void run_fused(const FusedPlan& plan, Fusion fusion, const Shape& s, const Source& a, const Source& b,
               const SwigluTensors& t, Context& ctx) {
  Pieces pieces;
  const Matrix<bf16> left = matrix<bf16>(a, pieces, ctx), right = matrix<bf16>(b, pieces, ctx);
  if (plan.wgmma)
    hopper::launch_swiglu(fusion, s, left, right, plan.hopper, t, ctx);
  else
    matmul::launch_swiglu(fusion, s, left, right, plan.mma, t, ctx);
}

size_t fused_workspace(const Source& a, const Source& b) {
  Pieces pieces;
  for (int64_t bytes : {matrix_bytes<bf16>(a), matrix_bytes<bf16>(b)}) pieces.take(bytes);
  return pieces.taken();
}

/** The two kernels apart, with what passes between them at the start of the workspace where it is no operand. */
struct Apart {
  Tensor between;
  size_t room = 0;
  Apart(std::byte* workspace, DType act, int64_t rows, int64_t columns) : between{workspace, act, 2, {rows, columns}} {
    Pieces pieces;
    pieces.take(static_cast<int64_t>(between.bytes()));
    room = pieces.taken();
  }
  explicit Apart(const Tensor& operand) : between(operand) {}
  Context behind(const Context& ctx) const {
    Context rest = ctx;
    rest.workspace += room;
    return rest;
  }
};

Apart apart(const ops::LinearSwiglu& p, std::byte* workspace) {
  if (p.gate_up.present()) return Apart(p.gate_up);
  return {workspace, p.x.dtype, p.rows, 2 * p.ffn};
}
Apart apart(const ops::LinearDgradSwiglu& p, std::byte* workspace) { return {workspace, p.dy.dtype, p.rows, p.ffn}; }

ops::Linear product(const ops::LinearSwiglu& p, const Apart& a) {
  return {p.x, p.weight, {}, a.between, p.rows, p.k, 2 * p.ffn};
}
ops::LinearDgrad product(const ops::LinearDgradSwiglu& p, const Apart& a) {
  return {p.dy, p.weight, {}, a.between, p.rows, p.n, p.ffn};
}

}  // namespace

void linear_swiglu(const ops::LinearSwiglu& p, Context& ctx) {
  const FusedPlan plan = plan_of(p, ctx.target);
  if (plan.fused) {
    bf16* kept = p.gate_up.present() ? p.gate_up.as<bf16>() : nullptr;
    const Shape shape{p.rows, 2 * p.ffn, p.k, false};
    const SwigluTensors tensors{kept, p.y.as<bf16>(), p.rows, p.ffn};
    return run_fused(plan, Fusion::kSwiglu, shape, {p.x}, {p.weight}, tensors, ctx);
  }
  const Apart two = apart(p, ctx.workspace);
  Context rest = two.behind(ctx);
  linear(product(p, two), rest);
  swiglu({two.between, p.y, p.ffn, p.rows}, rest);
}
size_t linear_swiglu_workspace(const ops::LinearSwiglu& p, const Target& target) {
  if (plan_of(p, target).fused) return fused_workspace({p.x}, {p.weight});
  const Apart two = apart(p, nullptr);
  return two.room + linear_workspace(product(p, two), target);
}

void linear_dgrad_swiglu(const ops::LinearDgradSwiglu& p, Context& ctx) {
  const FusedPlan plan = plan_of(p, ctx.target);
  if (plan.fused) {
    const SwigluTensors tensors{p.gate_up.as<bf16>(), p.dgate_up.as<bf16>(), p.rows, p.ffn};
    const Shape shape{p.rows, p.ffn, p.n, false};
    return run_fused(plan, Fusion::kSwigluGradient, shape, {p.dy}, {p.weight}, tensors, ctx);
  }
  const Apart two = apart(p, ctx.workspace);
  Context rest = two.behind(ctx);
  linear_dgrad(product(p, two), rest);
  swiglu_backward({p.gate_up, two.between, p.dgate_up, p.ffn, p.rows}, rest);
}
size_t linear_dgrad_swiglu_workspace(const ops::LinearDgradSwiglu& p, const Target& target) {
  if (plan_of(p, target).fused) return fused_workspace({p.dy}, {p.weight});
  const Apart two = apart(p, nullptr);
  return two.room + linear_dgrad_workspace(product(p, two), target);
}

}  // namespace thalweg::cuda
