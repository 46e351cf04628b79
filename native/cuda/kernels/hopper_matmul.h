#pragma once
#include "native/cuda/kernels.h"
#include "native/cuda/kernels/hopper_matmul_tiles.h"
#include "native/cuda/kernels/matmul_store.cuh"

namespace thalweg::cuda::matmul::hopper {

/** Enqueues p's sums by `plan` into `out`: p.out, or the slices of a cut sum. Rows of A, B, a bf16 C and its addend are
 * multiples of 16 bytes, their addresses too. */
void launch_product(const Product<bf16>& p, const Plan& plan, const Output& out, Context& ctx);

/** As matmul::launch_swiglu, by wgmma. */
void launch_swiglu(Fusion fusion, const Shape& s, const Matrix<bf16>& a, const Matrix<bf16>& b, const Plan& plan,
                   const SwigluTensors& t, Context& ctx);

}  // namespace thalweg::cuda::matmul::hopper
