#include "native/cuda/kernels/hopper_matmul.h"
#include "native/cuda/kernels/hopper_matmul_swiglu_launch.cuh"

/**
 * The products of linear_swiglu.cu by the warpgroup products of sm_90a: the kernel of hopper_matmul.cu, its B's panels
 * half gate and half up, or with gate and up behind its sums in the ring, and other epilogues
 * (hopper_matmul_swiglu.cuh). Floor: the product's; an epilogue of two exponentials or reciprocals a result takes 16
 * results a clock at most, which ping-pong hides.
 */
namespace thalweg::cuda::matmul::hopper {

namespace {

/** The kernel of row plan.tile: counts down the table. */
template <Fusion U, int Row = kTileCount - 1>
void launch_fused(const Shape& s, const Matrix<bf16>& a, const Matrix<bf16>& b, const Plan& plan,
                  const SwigluTensors& t, Context& ctx) {
  if constexpr (Row >= 0) {
    if (plan.tile == Row) return launch_swiglu_row<Row, U>(s, a, b, plan, t, ctx);
    launch_fused<U, Row - 1>(s, a, b, plan, t, ctx);
  }
}

}  // namespace

void launch_swiglu(Fusion fusion, const Shape& s, const Matrix<bf16>& a, const Matrix<bf16>& b, const Plan& plan,
                   const SwigluTensors& t, Context& ctx) {
  if (fusion == Fusion::kSwiglu) return launch_fused<Fusion::kSwiglu>(s, a, b, plan, t, ctx);
  launch_fused<Fusion::kSwigluGradient>(s, a, b, plan, t, ctx);
}

}  // namespace thalweg::cuda::matmul::hopper
