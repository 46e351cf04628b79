#include "native/cuda/kernels/hopper_matmul.h"
#include "native/cuda/kernels/hopper_matmul_launch.cuh"

/**
 * C(i, j) = sum over p of A(i, p) B(j, p) by the warpgroup products of sm_90a: bf16 operands, fp32 sums, C of bf16 or
 * fp32, in the three forms of matmul.cu. Floor: 2 m n k operations at 4096 a clock and multiprocessor; a 128 x 256 tile
 * makes 85 products of each byte it reads, 128 in a cluster of two.
 *
 * No operand is transposed: wgmma reads K-major and MN-major panels alike. Ragged edges are TMA's business: what lies
 * outside a tensor is zero when loaded and dropped when stored. The pieces, one a file: tiles (every choice), layout
 * (panels and descriptors), pipeline (the ring), epilogue, kernel, launch. docs/kernels/matmul.md tells the whole.
 *
 * The structure is that of CUTLASS's sm_90 kernels (cooperative and ping-pong warp specialisation) and of DeepGEMM's
 * sm90_bf16_gemm; that the addend of C rides the ring of operands as further steps is ours.
 */
namespace thalweg::cuda::matmul::hopper {

namespace {

/** The kernel of row plan.tile: counts down the table. */
template <Form F, int Row = kTileCount - 1>
void launch_form(const Product<bf16>& p, const Plan& plan, const Output& out, Context& ctx) {
  if constexpr (Row >= 0) {
    if (plan.tile == Row) return launch_row<Row, F>(p, plan, out, ctx);
    launch_form<F, Row - 1>(p, plan, out, ctx);
  }
}

}  // namespace

void launch_product(const Product<bf16>& p, const Plan& plan, const Output& out, Context& ctx) {
  switch (p.form) {
    case Form::kForward:
      return launch_form<Form::kForward>(p, plan, out, ctx);
    case Form::kDgrad:
      return launch_form<Form::kDgrad>(p, plan, out, ctx);
    case Form::kWgrad:
      return launch_form<Form::kWgrad>(p, plan, out, ctx);
  }
}

}  // namespace thalweg::cuda::matmul::hopper
