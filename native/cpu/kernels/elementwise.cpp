// Elementwise ops on flat tensors, and the fp64 sums. All move their operands once; tiles are fixed runs of elements.
#include "native/base/error.h"
#include "native/cpu/kernels/declare.h"
#include "native/cpu/kernels/reduce.h"
#include "native/cpu/kernels/simd.h"
#include "native/cpu/kernels/tiles.h"
#include "native/ops/step_inputs.h"

namespace thalweg::cpu::THALWEG_ISA {

/** body(i, n) over [0, count), tiles side by side. */
template <class Body>
static void each_lane(Context& ctx, int64_t count, Body&& body) {
  run_blocks(ctx.pool, count, kTileElements, [&](int64_t begin, int64_t end, int) {
    for_lanes(
        end - begin, [&](int64_t i, int n) __attribute__((always_inline)) { body(begin + i, n); });
  });
}

template <class T>
static void add_as(const ops::Add& p, Context& ctx) {
  const T *a = p.a.as<T>(), *b = p.b.as<T>();
  T* y = p.y.as<T>();
  each_lane(
      ctx, p.n, [&](int64_t i, int n) __attribute__((always_inline)) {
        store_part(y + i, load_part(a + i, n) + load_part(b + i, n), n);
      });
}
void add(const ops::Add& p, Context& ctx) { p.y.dtype == DType::BF16 ? add_as<bf16>(p, ctx) : add_as<float>(p, ctx); }
size_t add_workspace(const ops::Add&, int) { return 0; }

void axpy(const ops::Axpy& p, Context& ctx) {
  const float* x = p.x.as<float>();
  float* y = p.y.as<float>();
  const F alpha = set1(p.alpha);
  each_lane(
      ctx, p.n, [&](int64_t i, int n) __attribute__((always_inline)) {
        store_part(y + i, fma(alpha, load_part(x + i, n), load_part(y + i, n)), n);
      });
}
size_t axpy_workspace(const ops::Axpy&, int) { return 0; }

void scale(const ops::Scale& p, Context& ctx) {
  const float* x = p.x.as<float>();
  float* y = p.y.as<float>();
  const F alpha = set1(p.alpha);
  each_lane(
      ctx,
      p.n, [&](int64_t i, int n) __attribute__((always_inline)) { store_part(y + i, alpha * load_part(x + i, n), n); });
}
size_t scale_workspace(const ops::Scale&, int) { return 0; }

void average(const ops::Average& p, Context& ctx) {
  if (*p.status.as<int32_t>() != 0) return;
  const float decay = ctx.scalars[ops::kScalarAverageDecay], share = 1.0f - decay;
  const float* x = p.x.as<float>();
  float* y = p.y.as<float>();
  // From the nearer end, so that a decay of 0 gives x itself and one of nearly 1 keeps the small change.
  const bool from_average = share < 0.5f;
  const F factor = set1(from_average ? share : -decay);
  each_lane(
      ctx, p.n, [&](int64_t i, int n) __attribute__((always_inline)) {
        const F now = load_part(x + i, n), before = load_part(y + i, n);
        store_part(y + i, fma(factor, now - before, from_average ? before : now), n);
      });
}
size_t average_workspace(const ops::Average&, int) { return 0; }

template <class From, class To>
static void convert(const ops::Copy& p, Context& ctx) {
  const From* x = p.x.as<From>();
  To* y = p.y.as<To>();
  each_lane(
      ctx, p.n, [&](int64_t i, int n) __attribute__((always_inline)) { store_part(y + i, load_part(x + i, n), n); });
}
void copy(const ops::Copy& p, Context& ctx) {
  const DType from = p.x.dtype, to = p.y.dtype;
  if (from == to) {
    if (p.x.data == p.y.data) return;
    const int64_t size = static_cast<int64_t>(dtype_size(to));
    run_blocks(ctx.pool, p.n, kTileElements, [&](int64_t begin, int64_t end, int) {
      __builtin_memcpy(p.y.as<char>() + begin * size, p.x.as<char>() + begin * size,
                       static_cast<size_t>((end - begin) * size));
    });
  } else if (from == DType::F32 && to == DType::BF16) {
    convert<float, bf16>(p, ctx);
  } else if (from == DType::BF16 && to == DType::F32) {
    convert<bf16, float>(p, ctx);
  } else {
    fail("BAD_PROGRAM", "copy converts between f32 and bf16 only; found ", dtype_name(from), " to ", dtype_name(to),
         ".");
  }
}
size_t copy_workspace(const ops::Copy&, int) { return 0; }

template <class T>
static void fill_as(T* y, T value, int64_t count, Context& ctx) {
  run_blocks(ctx.pool, count, kTileElements, [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; i++) y[i] = value;
  });
}
void fill(const ops::Fill& p, Context& ctx) {
  if (p.y.dtype == DType::F32) return fill_as(p.y.as<float>(), p.value, p.n, ctx);
  if (p.y.dtype == DType::I32) return fill_as(p.y.as<int32_t>(), static_cast<int32_t>(p.value), p.n, ctx);
  bf16 rounded;
  store_n(&rounded, set1(p.value), 1);
  fill_as(p.y.as<bf16>(), rounded, p.n, ctx);
}
size_t fill_workspace(const ops::Fill&, int) { return 0; }

void dot(const ops::Dot& p, Context& ctx) {
  const float *a = p.a.as<float>(), *b = p.b.as<float>();
  *p.y.as<float>() = static_cast<float>(reduce_blocks(
      ctx, p.n, [&](int64_t i, int n, H& low, H& high) __attribute__((always_inline)) {
        const F va = load_part(a + i, n), vb = load_part(b + i, n);
        low = low + low_half(va) * low_half(vb);
        high = high + high_half(va) * high_half(vb);
      }));
}
size_t dot_workspace(const ops::Dot& p, int) { return reduce_workspace(p.n); }

void sum(const ops::Sum& p, Context& ctx) {
  const float* x = p.x.as<float>();
  const double total = reduce_blocks(
      ctx, p.n, [&](int64_t i, int n, H& low, H& high) __attribute__((always_inline)) {
        const F v = load_part(x + i, n);
        low = low + low_half(v);
        high = high + high_half(v);
      });
  float* y = p.y.as<float>();
  const double before = ops::accumulates(p.accumulate, ctx.integers) ? *y : 0.0;
  *y = static_cast<float>(before + total);
}
size_t sum_workspace(const ops::Sum& p, int) { return reduce_workspace(p.n); }

}  // namespace thalweg::cpu::THALWEG_ISA
