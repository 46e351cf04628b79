#include "native/cuda/kernels/floats.cuh"
#include "native/cuda/kernels/rows.cuh"
#include "native/cuda/ptx/math.h"
#include "native/cuda/reduce.h"

/**
 * classifier: softmax cross-entropy of each row of logits [rows, columns] over its first `vocab` columns, and its
 * gradient over the memory of the logits:
 *   lse = log sum exp(x),  loss = lse - x[target],  dlogits = lossScale ((1 + 2 zLoss lse) softmax(x) - onehot(target))
 * with zeros beyond `vocab` and in rows whose target is negative.
 *
 * Bound by memory when a logit is read once and its gradient written once (4 bytes an element in bf16); two
 * exponentials an element keep the special function units busy about half of that time. One block a row: each thread
 * goes over its vectors with an online softmax (Milakov & Gimelshein 2018), keeping them in shared memory when the row
 * fits there (no barrier: it reads back only its own), else reading them again, mostly from L2; block-wide maximum and
 * sum; then the gradient. Rows go from the last to the first: the product that made the logits wrote those last.
 */
namespace thalweg::cuda {

namespace {

/** Stands for the maximum of nothing but -inf, so that -inf - maximum is -inf and not NaN. */
constexpr float kLowest = -3.0e38f;
constexpr int kInFlight = 4;  // vectors a thread loads before it uses the first

template <class T>
struct Rows {
  const T* logits;
  const int32_t* targets;
  float *loss, *lse;
  T* dlogits;  // may be null, may be logits
  const float* scalars;
  Fault* fault;
  int64_t rows;
  int columns, vocab;
  float z_loss;
};

template <int Threads, class T, int N>
struct Shared {
  float scratch[Threads / kWarp];
  alignas(16) Vector<T, N> row[1];  // [columns / N] where kept
};

/** Columns from `vocab` on do not count. */
template <int N>
DEVICE Floats<N> masked(Floats<N> v, int column, int vocab) {
  if (column + N > vocab) {
    UNROLL
    for (int i = 0; i < N; i++)
      if (column + i >= vocab) v[i] = -INFINITY;
  }
  return v;
}

/** What a thread knows of its part of a row: maximum, and sum of exp(x - maximum). */
struct Online {
  float most = kLowest, sum = 0.0f;

  template <int N>
  DEVICE void add(const Floats<N>& values) {
    float peak = most;
    UNROLL
    for (int i = 0; i < N; i++) peak = fmaxf(peak, values[i]);
    sum *= exp2_fast((most - peak) * kLog2E);
    most = peak;
    UNROLL
    for (int i = 0; i < N; i++) sum += exp2_fast((values[i] - peak) * kLog2E);
  }
};

template <class T, int N, int Threads, bool Kept>
DEVICE Online read_row(const Rows<T>& p, const T* x, Vector<T, N>* kept) {
  Online online;
  constexpr int kStep = Threads * N;
  for (int first = static_cast<int>(threadIdx.x) * N; first < p.vocab; first += kStep * kInFlight) {
    Vector<T, N> held[kInFlight];
    UNROLL
    for (int k = 0; k < kInFlight; k++)
      if (first + k * kStep < p.vocab) held[k] = load<N>(x + first + k * kStep);
    UNROLL
    for (int k = 0; k < kInFlight; k++) {
      const int column = first + k * kStep;
      if (column >= p.vocab) continue;
      if constexpr (Kept) kept[column / N] = held[k];
      online.add(masked(unpack(held[k]), column, p.vocab));
    }
  }
  return online;
}

/** dlogits = factor exp(x - most) - lossScale at the target; factor holds 1 / sum. */
template <class T, int N, int Threads, bool Kept>
DEVICE void write_gradient(const Rows<T>& p, const T* x, T* dx, const Vector<T, N>* kept, int target, float most,
                           float factor, float loss_scale) {
  constexpr int kStep = Threads * N;
  const int vocab = target < 0 ? 0 : p.vocab;
  for (int first = static_cast<int>(threadIdx.x) * N; first < p.columns; first += kStep * kInFlight) {
    Vector<T, N> held[kInFlight];
    UNROLL
    for (int k = 0; k < kInFlight; k++) {
      const int column = first + k * kStep;
      if (column < vocab) held[k] = Kept ? kept[column / N] : load<N>(x + column);
    }
    UNROLL
    for (int k = 0; k < kInFlight; k++) {
      const int column = first + k * kStep;
      if (column >= p.columns) continue;
      Floats<N> out = zeros<N>();
      if (column < vocab) {
        const Floats<N> v = masked(unpack(held[k]), column, vocab);
        UNROLL
        for (int i = 0; i < N; i++) {
          out[i] = factor * exp2_fast((v[i] - most) * kLog2E);
          if (column + i == target) out[i] -= loss_scale;
        }
      }
      store_floats<N>(dx + column, out);
    }
  }
}

/** Blocks that should run side by side on a multiprocessor; a cap on registers. */
template <class T, int Threads>
constexpr int kResident = Threads != 512   ? 1
                          : sizeof(T) == 2 ? 3
                                           : 2;

template <class T, int N, int Threads, bool Kept>
__global__ void __launch_bounds__(Threads, (kResident<T, Threads>)) classifier_kernel(const Rows<T> p) {
  auto& shared = shared_memory<Shared<Threads, T, N>>();
  const int64_t row = p.rows - 1 - static_cast<int64_t>(blockIdx.x);
  const int target = p.targets[row];
  if (target >= p.vocab) {  // the whole block
    if (threadIdx.x == 0) note_fault(p.fault, Fault::kTarget, row, target, p.vocab);
    return;
  }
  const T* x = p.logits + row * p.columns;
  const float picked = target < 0 ? 0.0f : to_float(x[target]);  // before anything of the row is overwritten
  const Online part = read_row<T, N, Threads, Kept>(p, x, shared.row);
  const float most = block_max<Threads>(part.most, shared.scratch);
  const float sum = block_sum<Threads>(part.sum * exp2_fast((part.most - most) * kLog2E), shared.scratch);
  const float log_sum = logf(sum), lse = most + log_sum;
  if (threadIdx.x == 0) {
    p.lse[row] = lse;
    p.loss[row] = target < 0 ? 0.0f : (most - picked) + log_sum;  // no digits lost to a large maximum
  }
  if (p.dlogits == nullptr) return;
  const float loss_scale = p.scalars[ops::kScalarLossScale];
  const float factor = loss_scale * (1.0f + 2.0f * p.z_loss * lse) / sum;
  write_gradient<T, N, Threads, Kept>(p, x, p.dlogits + row * p.columns, shared.row, target, most, factor, loss_scale);
}

template <class T, int N, int Threads, bool Kept>
void run(const Rows<T>& rows, Context& ctx) {
  const size_t kept = Kept ? static_cast<size_t>(rows.columns) * sizeof(T) : 0;
  const GridShape shape = {{static_cast<unsigned>(rows.rows), 1, 1}, Threads, 1, sizeof(Shared<Threads, T, N>) + kept};
  launch(ctx.stream, classifier_kernel<T, N, Threads, Kept>, shape, rows);
}

template <class T>
void classify(const ops::Classifier& p, Context& ctx) {
  constexpr int N = kVector<T>;
  const Rows<T> rows = {p.logits.as<const T>(),
                        p.targets.as<const int32_t>(),
                        p.loss.as<float>(),
                        p.lse.as<float>(),
                        p.dlogits.present() ? p.dlogits.as<T>() : nullptr,
                        ctx.scalars,
                        ctx.fault,
                        p.rows,
                        static_cast<int>(p.columns),
                        static_cast<int>(p.vocab),
                        p.z_loss};
  const bool vectors = p.columns % N == 0 && is_aligned(rows.logits, 16) && is_aligned(rows.dlogits, 16);
  const size_t bytes = static_cast<size_t>(p.columns) * sizeof(T) + sizeof(Shared<1024, T, N>);
  // Two or three blocks of 512 side by side, one loading while the others compute; when one row fits, one of 1024.
  if (!vectors)
    run<T, 1, 256, false>(rows, ctx);
  else if (p.columns <= int64_t{N} * 512)
    run<T, N, 128, true>(rows, ctx);
  else if (2 * (bytes + 1024) <= ctx.target.shared_limit)
    run<T, N, 512, true>(rows, ctx);
  else if (bytes <= ctx.target.shared_limit)
    run<T, N, 1024, true>(rows, ctx);
  else
    run<T, N, 1024, false>(rows, ctx);
}

}  // namespace

void classifier(const ops::Classifier& p, Context& ctx) {
  p.logits.dtype == DType::F32 ? classify<float>(p, ctx) : classify<bf16>(p, ctx);
}
size_t classifier_workspace(const ops::Classifier&, const Target&) { return 0; }

}  // namespace thalweg::cuda
