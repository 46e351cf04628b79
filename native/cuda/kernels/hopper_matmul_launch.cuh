#pragma once
#include "native/cuda/kernels.h"
#include "native/cuda/kernels/hopper_matmul_kernel.cuh"
#include "native/cuda/launch.h"
#include "native/cuda/tensor_map.h"

/** The kernel and what it is started with. */
namespace thalweg::cuda::matmul::hopper {

/** Row: of kTiles. P: Protocol, but for tests. */
template <int Row, Form F, class P>
__global__ void __launch_bounds__(kThreads, 1)
    wgmma_kernel(const __grid_constant__ TensorMap a, const __grid_constant__ TensorMap b,
                 const __grid_constant__ TensorMap addend, const __grid_constant__ TensorMap c,
                 const __grid_constant__ Problem problem, const __grid_constant__ Output out) {
  run_block<kTiles[Row], F, P>({a, b, addend, c}, problem, out);
}

/** Panels of a row-major matrix of bf16, or boxes of another size of it, under the swizzle of their rows' length. */
inline TensorMap panels(const void* base, int64_t rows, int64_t columns, int64_t ld, uint32_t down = kPanel,
                        uint32_t across = kPanel) {
  TensorBox box;
  box.base = base;
  box.size[0] = static_cast<uint64_t>(columns);
  box.size[1] = static_cast<uint64_t>(rows);
  box.stride[1] = static_cast<uint64_t>(ld) * 2;
  box.box[0] = across;
  box.box[1] = down;
  if (across == kPanel / 2) box.swizzle = BoxSwizzle::B64;
  return make_tensor_map(box);
}

template <int Row, Form F, class P = Protocol>
void launch_row(const Product<bf16>& p, const Plan& plan, const Output& out, Context& ctx) {
  constexpr Tile kTile = kTiles[Row];
  const Shape& s = p.shape;
  const Problem problem = problem_of(s, plan, out.half && out.addend != nullptr);
  const int clusters = std::min(problem.count(), ctx.target.multiprocessors / plan.cluster);
  const GridShape grid{{static_cast<unsigned>(clusters * plan.cluster), 1, 1},
                       kThreads,
                       static_cast<unsigned>(plan.cluster),
                       sizeof(Shared<kTile>)};
  const auto operand = [&](const Matrix<bf16>& from, int64_t side, bool mn_major) {
    return mn_major ? panels(from.data, s.k, side, from.ld) : panels(from.data, side, s.k, from.ld);
  };
  const TensorMap a = operand(p.a, s.m, a_mn_major(F)), b = operand(p.b, s.n, b_mn_major(F));
  // An fp32 C goes without maps; the parameters must hold something.
  const TensorMap c = out.half ? panels(out.c, out.m, out.columns, out.ld) : a;
  const TensorMap addend = problem.addend ? panels(out.addend, out.m, out.columns, out.ld) : a;
  launch(ctx.stream, wgmma_kernel<Row, F, P>, grid, a, b, addend, c, problem, out);
}

}  // namespace thalweg::cuda::matmul::hopper
