#include "native/base/error.h"
#include "native/cuda/kernels.h"
#include "native/cuda/kernels/floats.cuh"
#include "native/cuda/launch.h"
#include "native/cuda/ptx/thread.h"

/**
 * Ops on flat tensors of n elements: add y = a + b, axpy y += alpha x, scale y = alpha x, average (the moving one
 * of the weights), copy (converting between fp32 and bf16), fill, and round_weights, the copy that refreshes bf16
 * weights. Bound by memory: every operand moves once, 6 bytes an element for add in bf16, 12 for axpy and average, 6
 * for fp32 to bf16.
 *
 * A thread reads kInFlight vectors before it writes the first (the compiler may not, as y may be an operand); threads
 * of a block lie side by side. Any n: the last block does what is left of the last vector element by element.
 */
namespace thalweg::cuda {

namespace {

constexpr int kThreads = 256;
constexpr int kInFlight = 4;

/** Body: read<N>(i) gives Values<N> of elements [i, i + N), write<N>(i, values) finishes them. */
template <class Body, int N>
__global__ void __launch_bounds__(kThreads) each_kernel(Body body, int64_t n) {
  const int64_t vectors = n / N, first = static_cast<int64_t>(blockIdx.x) * kThreads * kInFlight + threadIdx.x;
  typename Body::template Values<N> values[kInFlight] = {};
  UNROLL
  for (int k = 0; k < kInFlight; k++) {
    const int64_t v = first + k * kThreads;
    if (v < vectors) values[k] = body.template read<N>(v * N);
  }
  UNROLL
  for (int k = 0; k < kInFlight; k++) {
    const int64_t v = first + k * kThreads;
    if (v < vectors) body.template write<N>(v * N, values[k]);
  }
  if constexpr (N > 1) {
    const int64_t i = vectors * N + threadIdx.x;
    if (blockIdx.x == gridDim.x - 1 && i < n) body.template write<1>(i, body.template read<1>(i));
  }
}

template <int N, class Body>
void run_each(Context& ctx, const Body& body, int64_t n) {
  const GridShape shape = {{static_cast<unsigned>(ceil_div(n, int64_t{N} * kThreads * kInFlight)), 1, 1}, kThreads};
  launch(ctx.stream, each_kernel<Body, N>, shape, body, n);
}

template <int N, class Body>
void each(Context& ctx, const Body& body, int64_t n, bool aligned) {
  aligned ? run_each<N>(ctx, body, n) : run_each<1>(ctx, body, n);
}

template <class T>
struct AddBody {
  const T *a, *b;
  T* y;
  template <int N>
  struct Values {
    Vector<T, N> a, b;
  };
  template <int N>
  DEVICE Values<N> read(int64_t i) const {
    return {load<N>(a + i), load<N>(b + i)};
  }
  template <int N>
  DEVICE void write(int64_t i, const Values<N>& values) const {
    Floats<N> sum = unpack(values.a);
    const Floats<N> other = unpack(values.b);
    UNROLL
    for (int k = 0; k < N; k++) sum[k] += other[k];
    store_global<N>(y + i, pack<T>(sum));
  }
};

template <class T>
void add_as(const ops::Add& p, Context& ctx) {
  const AddBody<T> body = {p.a.as<const T>(), p.b.as<const T>(), p.y.as<T>()};
  each<kVector<T>>(ctx, body, p.n, is_aligned(body.a, 16) && is_aligned(body.b, 16) && is_aligned(body.y, 16));
}

struct AxpyBody {
  const float* x;
  float* y;
  float alpha;
  template <int N>
  struct Values {
    Vector<float, N> x, y;
  };
  template <int N>
  DEVICE Values<N> read(int64_t i) const {
    return {load<N>(x + i), load<N>(y + i)};
  }
  template <int N>
  DEVICE void write(int64_t i, Values<N> values) const {
    UNROLL
    for (int k = 0; k < N; k++) values.y[k] = fmaf(alpha, values.x[k], values.y[k]);
    store_global<N>(y + i, values.y);
  }
};

struct ScaleBody {
  const float* x;
  float* y;
  float alpha;
  template <int N>
  using Values = Vector<float, N>;
  template <int N>
  DEVICE Values<N> read(int64_t i) const {
    return load<N>(x + i);
  }
  template <int N>
  DEVICE void write(int64_t i, Values<N> values) const {
    UNROLL
    for (int k = 0; k < N; k++) values[k] *= alpha;
    store_global<N>(y + i, values);
  }
};

/** From the nearer end, so that a decay of 0 gives x itself and one of nearly 1 keeps the small change. */
struct AverageBody {
  const float* x;
  float* y;
  const float* scalars;
  const int32_t* status;
  template <int N>
  struct Values {
    Vector<float, N> x, y;
  };
  template <int N>
  DEVICE Values<N> read(int64_t i) const {
    return {load<N>(x + i), load<N>(y + i)};
  }
  template <int N>
  DEVICE void write(int64_t i, const Values<N>& values) const {
    if (*status != 0) return;
    const float decay = scalars[ops::kScalarAverageDecay], share = 1.0f - decay;
    Vector<float, N> mean;
    UNROLL
    for (int k = 0; k < N; k++) {
      const float now = values.x[k], before = values.y[k];
      mean[k] = share < 0.5f ? fmaf(share, now - before, before) : fmaf(-decay, now - before, now);
    }
    store_global<N>(y + i, mean);
  }
};

/** Between fp32 and bf16. */
template <class From, class To>
struct CopyBody {
  const From* x;
  To* y;
  template <int N>
  using Values = Floats<N>;
  template <int N>
  DEVICE Values<N> read(int64_t i) const {
    return load_floats<N>(x + i);
  }
  template <int N>
  DEVICE void write(int64_t i, const Values<N>& values) const {
    store_floats<N>(y + i, values);
  }
};

template <class Bits>
struct MoveBody {
  const Bits* x;
  Bits* y;
  template <int N>
  using Values = Vector<Bits, N>;
  template <int N>
  DEVICE Values<N> read(int64_t i) const {
    return load<N>(x + i);
  }
  template <int N>
  DEVICE void write(int64_t i, const Values<N>& values) const {
    store_global<N>(y + i, values);
  }
};

template <class Bits>
struct FillBody {
  Bits* y;
  Bits value;
  template <int N>
  struct Values {};
  template <int N>
  DEVICE Values<N> read(int64_t) const {
    return {};
  }
  template <int N>
  DEVICE void write(int64_t i, const Values<N>&) const {
    Vector<Bits, N> values;
    UNROLL
    for (int k = 0; k < N; k++) values[k] = value;
    store_global<N>(y + i, values);
  }
};

template <class From, class To>
void convert(const From* x, To* y, int64_t n, Context& ctx) {
  each<8>(ctx, CopyBody<From, To>{x, y}, n, is_aligned(x, 16) && is_aligned(y, 16));
}

template <class Bits>
void move(const ops::Copy& p, Context& ctx) {
  const auto* x = p.x.as<const Bits>();
  each<kVector<Bits>>(ctx, MoveBody<Bits>{x, p.y.as<Bits>()}, p.n, is_aligned(x, 16) && is_aligned(p.y.data, 16));
}

template <class Bits>
void fill_bits(const ops::Fill& p, uint32_t value, Context& ctx) {
  each<kVector<Bits>>(ctx, FillBody<Bits>{p.y.as<Bits>(), static_cast<Bits>(value)}, p.n, is_aligned(p.y.data, 16));
}

uint32_t bits_on_host(float value) {
  uint32_t bits;
  memcpy(&bits, &value, 4);
  return bits;
}

/** To nearest even; a NaN stays one. */
uint32_t bf16_on_host(float value) {
  const uint32_t bits = bits_on_host(value);
  if ((bits & 0x7FFFFFFF) > 0x7F800000) return 0x7FFF;
  return (bits + 0x7FFF + (bits >> 16 & 1)) >> 16;
}

}  // namespace

void add(const ops::Add& p, Context& ctx) { p.y.dtype == DType::F32 ? add_as<float>(p, ctx) : add_as<bf16>(p, ctx); }
size_t add_workspace(const ops::Add&, const Target&) { return 0; }

void axpy(const ops::Axpy& p, Context& ctx) {
  const AxpyBody body = {p.x.as<const float>(), p.y.as<float>(), p.alpha};
  each<4>(ctx, body, p.n, is_aligned(body.x, 16) && is_aligned(body.y, 16));
}
size_t axpy_workspace(const ops::Axpy&, const Target&) { return 0; }

void scale(const ops::Scale& p, Context& ctx) {
  const ScaleBody body = {p.x.as<const float>(), p.y.as<float>(), p.alpha};
  each<4>(ctx, body, p.n, is_aligned(body.x, 16) && is_aligned(body.y, 16));
}
size_t scale_workspace(const ops::Scale&, const Target&) { return 0; }

void average(const ops::Average& p, Context& ctx) {
  const AverageBody body = {p.x.as<const float>(), p.y.as<float>(), ctx.scalars, p.status.as<const int32_t>()};
  each<4>(ctx, body, p.n, is_aligned(body.x, 16) && is_aligned(body.y, 16));
}
size_t average_workspace(const ops::Average&, const Target&) { return 0; }

void copy(const ops::Copy& p, Context& ctx) {
  const DType from = p.x.dtype, to = p.y.dtype;
  if (from == to) {
    if (p.x.data == p.y.data) return;
    dtype_size(to) == 4 ? move<uint32_t>(p, ctx) : move<uint16_t>(p, ctx);
  } else if (from == DType::F32 && to == DType::BF16) {
    convert(p.x.as<const float>(), p.y.as<bf16>(), p.n, ctx);
  } else if (from == DType::BF16 && to == DType::F32) {
    convert(p.x.as<const bf16>(), p.y.as<float>(), p.n, ctx);
  } else {
    fail("BAD_PROGRAM", "copy converts between f32 and bf16 only; found ", dtype_name(from), " to ", dtype_name(to),
         ".");
  }
}
size_t copy_workspace(const ops::Copy&, const Target&) { return 0; }

void fill(const ops::Fill& p, Context& ctx) {
  if (p.y.dtype == DType::F32) return fill_bits<uint32_t>(p, bits_on_host(p.value), ctx);
  if (p.y.dtype == DType::I32) return fill_bits<uint32_t>(p, static_cast<uint32_t>(static_cast<int32_t>(p.value)), ctx);
  fill_bits<uint16_t>(p, bf16_on_host(p.value), ctx);
}
size_t fill_workspace(const ops::Fill&, const Target&) { return 0; }

void round_weights(const float* from, void* to, int64_t n, Context& ctx) {
  convert(from, static_cast<bf16*>(to), n, ctx);
}

}  // namespace thalweg::cuda
