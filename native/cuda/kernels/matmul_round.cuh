#pragma once
#include "native/cuda/kernels.h"
#include "native/cuda/launch.h"
#include "native/cuda/ptx/types.h"

/** The weight of a bf16 product without a kept copy: n fp32 to bf16, to nearest even. Bound by memory: 6 bytes an
 * element, 8 elements a thread. */
namespace thalweg::cuda::matmul {

constexpr int kRoundThreads = 256;

template <int N>
__global__ void __launch_bounds__(kRoundThreads) round_kernel(const float* from, bf16* to, int64_t n) {
  const int64_t at = (static_cast<int64_t>(blockIdx.x) * kRoundThreads + threadIdx.x) * N;
  if (at >= n) return;
  constexpr int kPart = N == 1 ? 1 : 4;
  Vector<bf16, N> rounded;
  UNROLL
  for (int i = 0; i < N; i += kPart) {
    const Vector<float, kPart> part = load<kPart>(from + at + i);
    UNROLL
    for (int j = 0; j < kPart; j++) rounded[i + j] = from_float<bf16>(part[j]);
  }
  store<N>(to + at, rounded);
}

template <int N>
void launch_rounding(const float* from, void* to, int64_t n, Context& ctx) {
  const GridShape grid{{static_cast<unsigned>(ceil_div(n, int64_t{kRoundThreads} * N)), 1, 1}, kRoundThreads};
  launch(ctx.stream, round_kernel<N>, grid, from, static_cast<bf16*>(to), n);
}

inline void round_operand(const float* from, void* to, int64_t n, Context& ctx) {
  if (n % 8 == 0 && is_aligned(from, 16) && is_aligned(to, 16))
    launch_rounding<8>(from, to, n, ctx);
  else
    launch_rounding<1>(from, to, n, ctx);
}

}  // namespace thalweg::cuda::matmul
