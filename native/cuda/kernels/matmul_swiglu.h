#pragma once
#include "native/cuda/kernels.h"
#include "native/cuda/kernels/matmul_store.cuh"

namespace thalweg::cuda::matmul {

/** Enqueues by mma.sync, in `plan`'s tiles and its sum whole, a product with SwiGLU (a = x, b = the weight [2 ffn, k]:
 * shape {m, 2 ffn, k}) or with its gradient (a = dy, b = the weight [k, ffn]: shape {m, ffn, k}). Rows of a and b are
 * multiples of 16 bytes, their addresses too. */
void launch_swiglu(Fusion fusion, const Shape& s, const Matrix<bf16>& a, const Matrix<bf16>& b, const Plan& plan,
                   const SwigluTensors& t, Context& ctx);

}  // namespace thalweg::cuda::matmul
