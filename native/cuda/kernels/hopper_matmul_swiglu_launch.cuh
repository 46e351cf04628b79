#pragma once
#include "native/cuda/kernels/hopper_matmul_launch.cuh"

/** The kernels of products fused with SwiGLU and its gradient, and what they are started with. */
namespace thalweg::cuda::matmul::hopper {

/** See Maps. Those a fusion has no use for hold another's. */
struct SwigluMaps {
  TensorMap a, b, up_b, addend, up_addend, c, up_c, y;
};

/** Row: of kTiles. P: Protocol, but for tests. */
template <int Row, Fusion U, class P>
__global__ void __launch_bounds__(kThreads, 1)
    swiglu_wgmma_kernel(const __grid_constant__ SwigluMaps m, const __grid_constant__ Problem problem, bool kept) {
  constexpr Form kForm = U == Fusion::kSwiglu ? Form::kForward : Form::kDgrad;
  const Maps maps{m.a, m.b, m.addend, m.c, &m.up_b, &m.up_addend, kept ? &m.up_c : nullptr, &m.y};
  const Output out{};  // of a product alone
  run_block<kTiles[Row], kForm, P, U>(maps, problem, out);
}

/** gate and up of `gate_up`, as boxes of so many rows and columns. */
inline void gated_maps(TensorMap& gate, TensorMap& up, const bf16* gate_up, const SwigluTensors& t, uint32_t across) {
  gate = panels(gate_up, t.m, t.ffn, 2 * t.ffn, kPanel, across);
  up = panels(gate_up + t.ffn, t.m, t.ffn, 2 * t.ffn, kPanel, across);
}

template <Fusion U>
SwigluMaps maps_of(const Shape& s, const Matrix<bf16>& a, const Matrix<bf16>& b, const SwigluTensors& t) {
  constexpr uint32_t kHalf = kPanel / 2;
  SwigluMaps m;
  m.a = m.b = m.up_b = m.addend = m.up_addend = m.c = m.up_c = m.y = panels(a.data, s.m, s.k, a.ld);
  if constexpr (U == Fusion::kSwiglu) {
    m.b = panels(b.data, t.ffn, s.k, b.ld, kHalf);
    m.up_b = panels(b.data + t.ffn * b.ld, t.ffn, s.k, b.ld, kHalf);
    m.y = panels(t.result, t.m, t.ffn, t.ffn, kPanel, kHalf);
    if (t.gate_up != nullptr) gated_maps(m.c, m.up_c, t.gate_up, t, kHalf);
  } else {
    m.b = panels(b.data, s.k, t.ffn, b.ld);
    gated_maps(m.addend, m.up_addend, t.gate_up, t, kPanel);
    gated_maps(m.c, m.up_c, t.result, t, kHalf);
  }
  return m;
}

template <int Row, Fusion U, class P = Protocol>
void launch_swiglu_row(const Shape& s, const Matrix<bf16>& a, const Matrix<bf16>& b, const Plan& plan,
                       const SwigluTensors& t, Context& ctx) {
  constexpr Tile kTile = kTiles[Row];
  const Problem problem = problem_of(s, plan, false);
  const int clusters = std::min(problem.count(), ctx.target.multiprocessors / plan.cluster);
  const GridShape grid{{static_cast<unsigned>(clusters * plan.cluster), 1, 1},
                       kThreads,
                       static_cast<unsigned>(plan.cluster),
                       sizeof(Shared<kTile>)};
  const bool kept = U != Fusion::kSwiglu || t.gate_up != nullptr;
  launch(ctx.stream, swiglu_wgmma_kernel<Row, U, P>, grid, maps_of<U>(s, a, b, t), problem, kept);
}

}  // namespace thalweg::cuda::matmul::hopper
