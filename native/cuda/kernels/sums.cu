#include "native/cuda/kernels.h"
#include "native/cuda/kernels/rows.cuh"
#include "native/cuda/launch.h"
#include "native/cuda/ptx/math.h"
#include "native/cuda/reduce.h"

/**
 * sum = sum x, dot = sum a b and gradNorm = sqrt(sum g^2) over n fp32, in fp64 over fixed blocks added in order.
 * Bound by memory: 4 bytes an element (dot 8).
 *
 * Consumer GPUs do two fp64 operations a clock and multiprocessor, too few for one an element: their memory delivers up
 * to 1.5 elements in that time and converting costs as much as adding. So each thread adds a run of kRun elements in
 * pairs of fp32 (Dekker 1971, Knuth's two-sum: p + e = a b exactly by an fma, s + e = s + p exactly), whose error is
 * about 2^-45 of the run's absolute sum, and only runs are added in fp64: a quarter of an fp64 operation an element.
 * Where fp32 products would overflow or lose digits to underflow, the run is done again in fp64 (rare: a branch).
 *
 * A block of 256 threads takes kBlock elements; thread t owns elements 4 t to 4 t + 3 of every 1024, also when the
 * pointers do not allow vectors. Its fp64 sum goes to the workspace; one block adds those in order.
 */
namespace thalweg::cuda {

namespace {

constexpr int kThreads = 256;
constexpr int kLastThreads = 512;
constexpr int kRun = 16;  // elements a thread adds in fp32 pairs: four vectors, loaded at once
constexpr int64_t kBlock = 16384;

enum class Terms { Values, Products };

/** Four elements, those from n on zero. */
template <bool Vectors>
DEVICE Vector<float, 4> load_four(const float* from, int64_t i, int64_t n) {
  Vector<float, 4> out;
  if (Vectors && i + 4 <= n) return load<4>(from + i);
  UNROLL
  for (int k = 0; k < 4; k++) out[k] = i + k < n ? from[i + k] : 0.0f;
  return out;
}

/** The sum of a run in fp64, whatever the magnitudes. */
template <Terms kTerms>
DEVICE double run_wide(const Vector<float, 4> (&a)[kRun / 4], const Vector<float, 4> (&b)[kRun / 4]) {
  double total = 0.0;
  UNROLL
  for (int k = 0; k < kRun; k++) {
    const double x = a[k / 4][k % 4];
    total += kTerms == Terms::Values ? x : x * b[k / 4][k % 4];
  }
  return total;
}

/** The same in pairs of fp32 where they hold it. */
template <Terms kTerms>
DEVICE double run_sum(const Vector<float, 4> (&a)[kRun / 4], const Vector<float, 4> (&b)[kRun / 4]) {
  float high = 0.0f, low = 0.0f, size = 0.0f;
  bool any = false;  // a product that is not 0
  UNROLL
  for (int k = 0; k < kRun; k++) {
    const float x = a[k / 4][k % 4], y = b[k / 4][k % 4];
    float term = x;
    if constexpr (kTerms == Terms::Products) {
      term = multiply_rounded(x, y);
      low += fmaf(x, y, -term);
      any = any || (x != 0.0f && y != 0.0f);
    }
    const float sum = high + term, back = sum - high;
    low += (high - (sum - back)) + (term - back);
    high = sum;
    size += fabsf(term);
  }
  const bool holds = size < 1e38f && (kTerms == Terms::Values || size > 1e-30f || !any);
  return holds ? static_cast<double>(high) + static_cast<double>(low) : run_wide<kTerms>(a, b);
}

template <Terms kTerms, bool Vectors>
__global__ void __launch_bounds__(kThreads) blocks_kernel(const float* a, const float* b, int64_t n, double* partial) {
  struct Shared {
    double scratch[kThreads / kWarp];
  };
  double total = 0.0;
  const int64_t begin = static_cast<int64_t>(blockIdx.x) * kBlock + 4 * threadIdx.x;
  for (int64_t i = begin; i < begin + kBlock && i < n; i += kRun * kThreads) {
    Vector<float, 4> x[kRun / 4], y[kRun / 4];
    UNROLL
    for (int k = 0; k < kRun / 4; k++) {
      x[k] = load_four<Vectors>(a, i + 4 * k * kThreads, n);
      y[k] = kTerms == Terms::Products && a != b ? load_four<Vectors>(b, i + 4 * k * kThreads, n) : x[k];
    }
    total += run_sum<kTerms>(x, y);
  }
  total = block_sum<kThreads>(total, shared_memory<Shared>().scratch);
  if (threadIdx.x == 0) partial[blockIdx.x] = total;
}

/** The sum of `count` partials, to every thread of the one block of kLastThreads. */
DEVICE double sum_blocks(const double* partial, int64_t count) {
  struct Shared {
    double scratch[kLastThreads / kWarp];
  };
  double total = 0.0;
  for (int64_t i = threadIdx.x; i < count; i += kLastThreads) total += partial[i];
  return block_sum<kLastThreads>(total, shared_memory<Shared>().scratch);
}

__global__ void __launch_bounds__(kLastThreads)
    finish_sum_kernel(const double* partial, int64_t count, int64_t accumulate, const int32_t* integers, float* y) {
  const double total = sum_blocks(partial, count);
  if (threadIdx.x != 0) return;
  const double before = adds(accumulate, integers) ? static_cast<double>(*y) : 0.0;
  *y = static_cast<float>(before + total);
}

__global__ void __launch_bounds__(kLastThreads)
    finish_norm_kernel(const double* partial, int64_t count, const float* loss, float* norm, int32_t* status) {
  const double total = sum_blocks(partial, count);
  if (threadIdx.x != 0) return;
  const float root = static_cast<float>(sqrt(total));
  *norm = root;
  const float doubt = *loss - *loss + (root - root);  // 0, or NaN when one of the two is not finite
  if (!(doubt == 0.0f)) *status = 1;
}

constexpr GridShape kLastShape = {{1, 1, 1}, kLastThreads, 1, sizeof(double) * kLastThreads / kWarp};

size_t partial_bytes(int64_t n) { return static_cast<size_t>(ceil_div(n, kBlock)) * sizeof(double); }

/** Partials of the blocks into the workspace. */
template <Terms kTerms>
const double* sum_in_blocks(const float* a, const float* b, int64_t n, Context& ctx) {
  auto* partial = reinterpret_cast<double*>(ctx.workspace);
  const GridShape shape = {
      {static_cast<unsigned>(ceil_div(n, kBlock)), 1, 1}, kThreads, 1, sizeof(double) * kThreads / kWarp};
  if (is_aligned(a, 16) && is_aligned(b, 16))
    launch(ctx.stream, blocks_kernel<kTerms, true>, shape, a, b, n, partial);
  else
    launch(ctx.stream, blocks_kernel<kTerms, false>, shape, a, b, n, partial);
  return partial;
}

}  // namespace

void sum(const ops::Sum& p, Context& ctx) {
  const auto* x = p.x.as<const float>();
  const double* partial = sum_in_blocks<Terms::Values>(x, x, p.n, ctx);
  launch(ctx.stream, finish_sum_kernel, kLastShape, partial, ceil_div(p.n, kBlock), p.accumulate, ctx.integers,
         p.y.as<float>());
}
size_t sum_workspace(const ops::Sum& p, const Target&) { return partial_bytes(p.n); }

void dot(const ops::Dot& p, Context& ctx) {
  const double* partial = sum_in_blocks<Terms::Products>(p.a.as<const float>(), p.b.as<const float>(), p.n, ctx);
  launch(ctx.stream, finish_sum_kernel, kLastShape, partial, ceil_div(p.n, kBlock), int64_t{ops::kOverwrite},
         ctx.integers, p.y.as<float>());
}
size_t dot_workspace(const ops::Dot& p, const Target&) { return partial_bytes(p.n); }

void grad_norm(const ops::GradNorm& p, Context& ctx) {
  const auto* grads = p.grads.as<const float>();
  const double* partial = sum_in_blocks<Terms::Products>(grads, grads, p.n, ctx);
  launch(ctx.stream, finish_norm_kernel, kLastShape, partial, ceil_div(p.n, kBlock), p.loss.as<const float>(),
         p.norm.as<float>(), p.status.as<int32_t>());
}
size_t grad_norm_workspace(const ops::GradNorm& p, const Target&) { return partial_bytes(p.n); }

}  // namespace thalweg::cuda
