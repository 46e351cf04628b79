// swiglu: y = silu(gate) * up with rows x = [gate | up] of 2 ffn elements, silu(g) = g sigmoid(g) (Shazeer 2020).
// Backward: dgate = dy up sigmoid(g) (1 + g (1 - sigmoid(g))), dup = dy silu(g). One exponential and one division per
// element either way; sigmoid is recomputed in the backward instead of stored.
#include "native/cpu/kernels/declare.h"
#include "native/cpu/kernels/simd.h"
#include "native/cpu/kernels/tiles.h"

namespace thalweg::cpu::THALWEG_ISA {

template <class T>
static void forward(const ops::Swiglu& p, Context& ctx) {
  run_blocks(ctx.pool, p.rows, tile_rows(2 * p.ffn), [&](int64_t begin, int64_t end, int) {
    for (int64_t r = begin; r < end; r++) {
      const T *gate = p.x.as<T>() + r * 2 * p.ffn, *up = gate + p.ffn;
      T* y = p.y.as<T>() + r * p.ffn;
      for_lanes(
          p.ffn, [&](int64_t i, int n) __attribute__((always_inline)) {
            const F g = load_part(gate + i, n);
            store_part(y + i, g * sigmoid(g) * load_part(up + i, n), n);
          });
    }
  });
}

void swiglu(const ops::Swiglu& p, Context& ctx) {
  p.x.dtype == DType::BF16 ? forward<bf16>(p, ctx) : forward<float>(p, ctx);
}
size_t swiglu_workspace(const ops::Swiglu&, int) { return 0; }

template <class T>
static void backward(const ops::SwigluBackward& p, Context& ctx) {
  run_blocks(ctx.pool, p.rows, tile_rows(2 * p.ffn), [&](int64_t begin, int64_t end, int) {
    for (int64_t r = begin; r < end; r++) {
      const T *gate = p.x.as<T>() + r * 2 * p.ffn, *up = gate + p.ffn, *dy = p.dy.as<T>() + r * p.ffn;
      T *dgate = p.dx.as<T>() + r * 2 * p.ffn, *dup = dgate + p.ffn;
      for_lanes(
          p.ffn, [&](int64_t i, int n) __attribute__((always_inline)) {
            const F g = load_part(gate + i, n), u = load_part(up + i, n), d = load_part(dy + i, n);
            const F s = sigmoid(g), silu = g * s;
            store_part(dgate + i, d * u * (s + silu * (set1(1.0f) - s)), n);
            store_part(dup + i, d * silu, n);
          });
    }
  });
}

void swiglu_backward(const ops::SwigluBackward& p, Context& ctx) {
  p.x.dtype == DType::BF16 ? backward<bf16>(p, ctx) : backward<float>(p, ctx);
}
size_t swiglu_backward_workspace(const ops::SwigluBackward&, int) { return 0; }

}  // namespace thalweg::cpu::THALWEG_ISA
