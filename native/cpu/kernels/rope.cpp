// rope: rotates each query and key head of rows [q heads | k heads | v heads] by its position (Su et al. 2021), halves
// paired as in Hugging Face LLaMA: with c, s = table[position] and a, b the halves of a head,
// (a, b) -> (a c - b s, b c + a s). inverse negates s. Moves every element once each way; y may be x.
#include "native/base/error.h"
#include "native/cpu/kernels/declare.h"
#include "native/cpu/kernels/simd.h"
#include "native/cpu/kernels/tiles.h"
#include "native/ops/step_inputs.h"

namespace thalweg::cpu::THALWEG_ISA {

template <bool kInverse, class T>
THALWEG_INLINE void rotate(const T* x, const float* cosine, const float* sine, int64_t half, T* y) {
  for_lanes(
      half, [&](int64_t i, int n) __attribute__((always_inline)) {
        const F c = load_part(cosine + i, n), s = kInverse ? -load_part(sine + i, n) : load_part(sine + i, n);
        const F a = load_part(x + i, n), b = load_part(x + half + i, n);
        store_part(y + i, a * c - b * s, n);
        store_part(y + half + i, b * c + a * s, n);
      });
}

template <bool kInverse, class T>
static void rotate_rows(const ops::Rope& p, Context& ctx) {
  const int64_t rotated = p.heads + p.kv_heads, width = (rotated + p.kv_heads) * p.head_dim, half = p.head_dim / 2;
  const int64_t offset = ctx.integers[ops::kIntegerPositionOffset];
  run_blocks(ctx.pool, p.rows, tile_rows(width), [&](int64_t begin, int64_t end, int) {
    for (int64_t r = begin; r < end; r++) {
      const T* x = p.x.as<T>() + r * width;
      T* y = p.y.as<T>() + r * width;
      const float* cosine = p.table.as<float>() + (offset + r % p.seq) * p.head_dim;
      for (int64_t h = 0; h < rotated; h++)
        rotate<kInverse>(x + h * p.head_dim, cosine, cosine + half, half, y + h * p.head_dim);
      const size_t values = static_cast<size_t>(p.kv_heads * p.head_dim) * sizeof(T);
      if (x != y) __builtin_memcpy(y + rotated * p.head_dim, x + rotated * p.head_dim, values);
    }
  });
}

void rope(const ops::Rope& p, Context& ctx) {
  const int64_t offset = ctx.integers[ops::kIntegerPositionOffset];
  if (offset < 0 || offset + p.seq > p.positions)
    fail("BAD_INPUT", "rope: positions ", offset, " to ", offset + p.seq - 1, " are asked for, but the table has ",
         p.positions, ". Use a shorter sequence or a model with a larger context.");
  const bool half = p.x.dtype == DType::BF16;
  if (p.inverse != 0)
    half ? rotate_rows<true, bf16>(p, ctx) : rotate_rows<true, float>(p, ctx);
  else
    half ? rotate_rows<false, bf16>(p, ctx) : rotate_rows<false, float>(p, ctx);
}
size_t rope_workspace(const ops::Rope&, int) { return 0; }

}  // namespace thalweg::cpu::THALWEG_ISA
