#include "native/cuda/kernels/floats.cuh"
#include "native/cuda/kernels/partials.cuh"
#include "native/cuda/reduce.h"

/**
 * rmsnorm (Zhang & Sennrich 2019): x [rows, dim] -> y = x rstd weight, rstd = 1 / sqrt(mean(x^2) + eps), and with
 * g = dy weight its gradient dx = rstd (g - x rstd^2 mean(g x)) + addend, dweight = sum over rows of dy x rstd.
 *
 * Bound by memory: in bf16 forward moves 4 bytes an element, backward 6 (8 with addend), about 5 operations each. So a
 * row is read once and stays in registers, as loaded, until its sum is known: forward by one warp up to 256 vectors of
 * 16 bytes (no barrier), else by a block of 128 to 512 threads. Backward has three operands: by one warp up to 64
 * vectors, else by a block with a vector or two a thread, and several rows at once. Other rows take two passes, the
 * second from the caches.
 *
 * dweight without atomics: a block takes a fixed run of rows (rows_of_partial), each thread sums what falls into its
 * own columns in registers, the block writes one partial [dim] to the workspace, a second kernel adds them in order.
 */
namespace thalweg::cuda {

namespace {

constexpr int kTeams = 8;          // rows a block of warps works on side by side
constexpr int kLoopThreads = 256;  // of the kernels that read rows twice

template <int Lanes>
constexpr int kBlockThreads = Lanes == kWarp ? kTeams * kWarp : Lanes;

template <int Lanes>
DEVICE int team_index() {
  return Lanes == kWarp ? warp_index() : 0;
}
template <int Lanes>
DEVICE int lane_of_team() {
  return Lanes == kWarp ? lane_index() : static_cast<int>(threadIdx.x);
}

/** Over the Lanes threads of a row; scratch as block_sum wants it, unused by a warp. */
template <int Lanes>
DEVICE float row_sum(float value, float* scratch) {
  if constexpr (Lanes == kWarp)
    return warp_sum(value);
  else
    return block_sum<Lanes>(value, scratch);
}

template <int N>
DEVICE float squares_of(const Floats<N>& v) {
  float total = 0.0f;
  UNROLL
  for (int i = 0; i < N; i++) total += v[i] * v[i];
  return total;
}

/** y = x scale weight for one vector. */
template <class T, int N>
DEVICE void store_scaled(T* y, Floats<N> v, float scale, const float* weight) {
  const Floats<N> w = load_floats<N>(weight);
  UNROLL
  for (int i = 0; i < N; i++) v[i] = v[i] * scale * w[i];
  store_floats<N>(y, v);
}

/** Lanes threads a row, each holding up to Held vectors of it. */
template <class T, int Lanes, int Held>
__global__ void __launch_bounds__(kBlockThreads<Lanes>)
    rmsnorm_kernel(const T* x, const float* weight, T* y, float* rstd, int64_t rows, int dim, float eps) {
  constexpr int N = kVector<T>;
  struct Shared {
    float scratch[kBlockThreads<Lanes> / kWarp];
  };
  const int lane = lane_of_team<Lanes>();
  const int64_t row = static_cast<int64_t>(blockIdx.x) * (kBlockThreads<Lanes> / Lanes) + team_index<Lanes>();
  if (Lanes == kWarp && row >= rows) return;  // whole warps, and no barrier follows
  x += row * dim;
  y += row * dim;
  Vector<T, N> held[Held] = {};
  UNROLL
  for (int k = 0; k < Held; k++) {
    const int column = (k * Lanes + lane) * N;
    if (column < dim) held[k] = load<N>(x + column);
  }
  float squares = 0.0f;
  UNROLL
  for (int k = 0; k < Held; k++) squares += squares_of(unpack(held[k]));
  const float total = row_sum<Lanes>(squares, shared_memory<Shared>().scratch);
  const float scale = 1.0f / sqrtf(total / static_cast<float>(dim) + eps);
  if (lane == 0) rstd[row] = scale;
  UNROLL
  for (int k = 0; k < Held; k++) {
    const int column = (k * Lanes + lane) * N;
    if (column < dim) store_scaled(y + column, unpack(held[k]), scale, weight + column);
  }
}

/** Any dim: a block a row, read twice. */
template <class T, int N>
__global__ void __launch_bounds__(kLoopThreads)
    rmsnorm_loop_kernel(const T* x, const float* weight, T* y, float* rstd, int64_t dim, float eps) {
  struct Shared {
    float scratch[kLoopThreads / kWarp];
  };
  const int64_t row = blockIdx.x, first = static_cast<int64_t>(threadIdx.x) * N;
  x += row * dim;
  y += row * dim;
  float squares = 0.0f;
  for (int64_t i = first; i < dim; i += kLoopThreads * N) squares += squares_of(load_floats<N>(x + i));
  const float total = block_sum<kLoopThreads>(squares, shared_memory<Shared>().scratch);
  const float scale = 1.0f / sqrtf(total / static_cast<float>(dim) + eps);
  if (threadIdx.x == 0) rstd[row] = scale;
  for (int64_t i = first; i < dim; i += kLoopThreads * N) store_scaled(y + i, load_floats<N>(x + i), scale, weight + i);
}

/** Operands of the backward kernels. */
template <class T>
struct Backward {
  const T* x;
  const float *weight, *rstd;
  const T *dy, *addend;  // addend may be null
  T* dx;
  float* partial;  // [partials, dim]
  int64_t rows, rows_of_partial;
  int dim;
  float over_dim;  // 1 / dim
};

/** sum of dy weight x over one vector. */
template <int N>
DEVICE float product_of(const Floats<N>& x, const Floats<N>& dy, const Floats<N>& weight) {
  float total = 0.0f;
  UNROLL
  for (int i = 0; i < N; i++) total += dy[i] * weight[i] * x[i];
  return total;
}

/** What does not wait for the row's sum: out, which holds the addend, += rstd dy weight, and sums += dy x rstd. */
template <int N>
DEVICE void begin_gradient(const Floats<N>& x, const Floats<N>& dy, const Floats<N>& weight, float scale,
                           Floats<N>& out, Floats<N>& sums) {
  UNROLL
  for (int i = 0; i < N; i++) {
    out[i] += scale * (dy[i] * weight[i]);
    sums[i] += dy[i] * (x[i] * scale);
  }
}

/** dx = out - x back, back = rstd^3 mean(g x). */
template <class T, int N>
DEVICE void finish_gradient(T* dx, Floats<N> out, const Floats<N>& x, float back) {
  UNROLL
  for (int i = 0; i < N; i++) out[i] -= x[i] * back;
  store_floats<N>(dx, out);
}

/** row_sum of several rows with one barrier: calls in turn take one half of scratch [2][Rows][warps] and the other. */
template <int Lanes, int Rows>
DEVICE void row_sums(float (&values)[Rows], float* scratch, int half) {
  UNROLL
  for (int r = 0; r < Rows; r++) values[r] = warp_sum(values[r]);
  if constexpr (Lanes > kWarp) {
    constexpr int kWarps = Lanes / kWarp;
    scratch += half * Rows * kWarps;
    UNROLL
    for (int r = 0; r < Rows; r++)
      if (lane_index() == 0) scratch[r * kWarps + warp_index()] = values[r];
    sync_threads();
    UNROLL
    for (int r = 0; r < Rows; r++) {
      values[r] = scratch[r * kWarps];
      UNROLL
      for (int w = 1; w < kWarps; w++) values[r] += scratch[r * kWarps + w];
    }
  }
}

/** What a thread holds of a row: its vectors of the operands, as loaded. */
template <class T, int Held>
struct HeldRow {
  Vector<T, kVector<T>> x[Held] = {}, dy[Held] = {}, addend[Held] = {};
  float scale = 0.0f;
};

/** Row `row` of the block's. */
template <class T, int Lanes, int Held>
DEVICE HeldRow<T, Held> load_row(const Backward<T>& p, int row) {
  constexpr int N = kVector<T>;
  const int64_t rows_before = blockIdx.x * p.rows_of_partial, start = rows_before * p.dim;
  HeldRow<T, Held> out;
  out.scale = p.rstd[rows_before + row];
  UNROLL
  for (int k = 0; k < Held; k++) {
    const int column = (k * Lanes + lane_of_team<Lanes>()) * N, at = row * p.dim + column;
    if (column >= p.dim) continue;
    out.x[k] = load<N>(p.x + start + at);
    out.dy[k] = load<N>(p.dy + start + at);
    if (p.addend != nullptr) out.addend[k] = load<N>(p.addend + start + at);
  }
  return out;
}

/** Teams add their sums in turn; the last one's total goes out. */
template <class T, int Lanes, int Held>
DEVICE void store_partial(const Backward<T>& p, Floats<kVector<T>> (&sums)[Held], float* shared) {
  constexpr int N = kVector<T>, kTurns = kBlockThreads<Lanes> / Lanes;
  float* partial = p.partial + static_cast<int64_t>(blockIdx.x) * p.dim;
  UNROLL
  for (int t = 0; t < kTurns; t++) {
    if (t > 0) sync_threads();
    if (team_index<Lanes>() != t) continue;
    UNROLL
    for (int k = 0; k < Held; k++) {
      const int column = (k * Lanes + lane_of_team<Lanes>()) * N;
      if (column >= p.dim) continue;
      if (t > 0) {
        const Floats<N> before = load_floats<N>(shared + column);
        UNROLL
        for (int i = 0; i < N; i++) sums[k][i] += before[i];
      }
      if (t == kTurns - 1) {
        store_floats<N>(partial + column, sums[k]);
      } else {
        UNROLL
        for (int i = 0; i < N; i++) shared[column + i] = sums[k][i];
      }
    }
  }
}

template <class T, int Lanes, int Held, int Rows>
struct BackwardShared {
  static constexpr int kTeamsOfBlock = kBlockThreads<Lanes> / Lanes;
  float scratch[Lanes > kWarp ? 2 * Rows* Lanes / kWarp : 4];
  alignas(16) float sums[kTeamsOfBlock > 1 ? Lanes* Held* kVector<T> : 4];
};

/** Blocks of the gradient that should run side by side on a multiprocessor; a cap on registers. */
template <class T, int Lanes, int Held>
constexpr int kResident = Lanes == kWarp ? 2
                          : Lanes <= 256 ? (sizeof(T) == 2 ? 4 : 3)
                          : Held == 1    ? 2
                                         : 1;

/** Lanes threads a row, each holding up to Held vectors of it, of Rows rows at a time. */
template <class T, int Lanes, int Held, int Rows>
__global__ void __launch_bounds__(kBlockThreads<Lanes>, kResident<T, Lanes, Held>)
    rmsnorm_backward_kernel(const Backward<T> p) {
  constexpr int N = kVector<T>, kTeamsOfBlock = kBlockThreads<Lanes> / Lanes;
  auto& shared = shared_memory<BackwardShared<T, Lanes, Held, Rows>>();
  const int lane = lane_of_team<Lanes>();
  const int64_t begin = blockIdx.x * p.rows_of_partial, left = p.rows - begin;
  const int count = static_cast<int>(left < p.rows_of_partial ? left : p.rows_of_partial);
  T* const dx = p.dx + begin * p.dim;
  Floats<N> weight[Held], sums[Held];
  UNROLL
  for (int k = 0; k < Held; k++) {
    const int column = (k * Lanes + lane) * N;
    weight[k] = column < p.dim ? load_floats<N>(p.weight + column) : zeros<N>();
    sums[k] = zeros<N>();
  }
  int half = 0;
  for (int first = team_index<Lanes>(); first < count; first += kTeamsOfBlock * Rows, half ^= 1) {
    HeldRow<T, Held> held[Rows];
    UNROLL
    for (int r = 0; r < Rows; r++)
      if (first + r * kTeamsOfBlock < count) held[r] = load_row<T, Lanes, Held>(p, first + r * kTeamsOfBlock);
    float products[Rows] = {};
    Floats<N> out[Rows][Held];
    UNROLL
    for (int r = 0; r < Rows; r++) {
      UNROLL
      for (int k = 0; k < Held; k++) {
        const Floats<N> x = unpack(held[r].x[k]), dy = unpack(held[r].dy[k]);
        out[r][k] = unpack(held[r].addend[k]);
        products[r] += product_of(x, dy, weight[k]);
        begin_gradient(x, dy, weight[k], held[r].scale, out[r][k], sums[k]);
      }
    }
    row_sums<Lanes>(products, shared.scratch, half);
    UNROLL
    for (int r = 0; r < Rows; r++) {
      const int row = first + r * kTeamsOfBlock;
      const float scale = held[r].scale, back = products[r] * p.over_dim * scale * scale * scale;
      UNROLL
      for (int k = 0; k < Held; k++) {
        const int column = (k * Lanes + lane) * N;
        if (row < count && column < p.dim)
          finish_gradient(dx + row * p.dim + column, out[r][k], unpack(held[r].x[k]), back);
      }
    }
  }
  store_partial<T, Lanes>(p, sums, shared.sums);
}

/** Any dim: rows are read twice and the sums kept in the workspace, each column by its own thread. */
template <class T, int N>
__global__ void __launch_bounds__(kLoopThreads) rmsnorm_backward_loop_kernel(const Backward<T> p) {
  struct Shared {
    float scratch[kLoopThreads / kWarp];
  };
  float* partial = p.partial + static_cast<int64_t>(blockIdx.x) * p.dim;
  const int first = static_cast<int>(threadIdx.x) * N;
  const int64_t begin = blockIdx.x * p.rows_of_partial;
  const int64_t end = begin + p.rows_of_partial < p.rows ? begin + p.rows_of_partial : p.rows;
  for (int64_t row = begin; row < end; row++) {
    const int64_t start = row * p.dim;
    const float scale = p.rstd[row];
    float product = 0.0f;
    for (int i = first; i < p.dim; i += kLoopThreads * N)
      product +=
          product_of(load_floats<N>(p.x + start + i), load_floats<N>(p.dy + start + i), load_floats<N>(p.weight + i));
    const float total = block_sum<kLoopThreads>(product, shared_memory<Shared>().scratch);
    const float back = total * p.over_dim * scale * scale * scale;
    for (int i = first; i < p.dim; i += kLoopThreads * N) {
      const Floats<N> x = load_floats<N>(p.x + start + i), dy = load_floats<N>(p.dy + start + i);
      Floats<N> sums = row == begin ? zeros<N>() : load_floats<N>(partial + i);
      Floats<N> out = p.addend != nullptr ? load_floats<N>(p.addend + start + i) : zeros<N>();
      begin_gradient(x, dy, load_floats<N>(p.weight + i), scale, out, sums);
      finish_gradient(p.dx + start + i, out, x, back);
      store_floats<N>(partial + i, sums);
    }
  }
}

/** How a row is held: run.held<Lanes, Held>(), or run.loop() when it does not fit. */
template <class Run>
void choose_forward(int64_t vectors, Run run) {
  if (vectors <= 32) return run.template held<kWarp, 1>();
  if (vectors <= 64) return run.template held<kWarp, 2>();
  if (vectors <= 128) return run.template held<kWarp, 4>();
  if (vectors <= 256) return run.template held<kWarp, 8>();
  if (vectors <= 512) return run.template held<128, 4>();
  if (vectors <= 1024) return run.template held<256, 4>();
  if (vectors <= 2048) return run.template held<512, 4>();
  run.template loop<true>();
}

/**
 * The same backward, with the rows that are loaded at a time. A thread keeps the weight, the sums of dweight and three
 * operands: few vectors a thread, so that four blocks (all of the 512 on 132 multiprocessors) run side by side, and
 * several rows, so that 70 to 100 KB are on their way to each multiprocessor.
 */
template <class Run>
void choose_backward(int64_t vectors, Run run) {
  if (vectors <= 32) return run.template held<kWarp, 1, 4>();
  if (vectors <= 64) return run.template held<kWarp, 2, 2>();
  if (vectors <= 128) return run.template held<128, 1, 3>();
  if (vectors <= 256) return run.template held<256, 1, 2>();
  if (vectors <= 512) return run.template held<512, 1, 2>();
  if (vectors <= 1024) return run.template held<512, 2, 1>();
  run.template loop<true>();
}

template <class T>
struct RunForward {
  const ops::Rmsnorm& p;
  Context& ctx;

  template <int Lanes, int Held>
  void held() const {
    constexpr int kRows = kBlockThreads<Lanes> / Lanes;
    const GridShape shape = {{static_cast<unsigned>(ceil_div(p.rows, kRows)), 1, 1},
                             kBlockThreads<Lanes>,
                             1,
                             sizeof(float) * kBlockThreads<Lanes> / kWarp};
    launch(ctx.stream, rmsnorm_kernel<T, Lanes, Held>, shape, p.x.as<const T>(), p.weight.as<const float>(),
           p.y.as<T>(), p.rstd.as<float>(), p.rows, static_cast<int>(p.dim), p.eps);
  }
  template <bool Vectors>
  void loop() const {
    const GridShape shape = {
        {static_cast<unsigned>(p.rows), 1, 1}, kLoopThreads, 1, sizeof(float) * kLoopThreads / kWarp};
    launch(ctx.stream, rmsnorm_loop_kernel < T, Vectors ? kVector<T> : 1 >, shape, p.x.as<const T>(),
           p.weight.as<const float>(), p.y.as<T>(), p.rstd.as<float>(), p.dim, p.eps);
  }
};

template <class T>
void forward(const ops::Rmsnorm& p, Context& ctx) {
  const bool vectors =
      p.dim % kVector<T> == 0 && is_aligned(p.x.data, 16) && is_aligned(p.y.data, 16) && is_aligned(p.weight.data, 16);
  const RunForward<T> run = {p, ctx};
  vectors ? choose_forward(p.dim / kVector<T>, run) : run.template loop<false>();
}

template <class T>
struct RunBackward {
  Backward<T> p;
  Context& ctx;

  template <int Lanes, int Held, int Rows>
  void held() const {
    const GridShape shape = {{static_cast<unsigned>(partials_of(p.rows)), 1, 1},
                             kBlockThreads<Lanes>,
                             1,
                             sizeof(BackwardShared<T, Lanes, Held, Rows>)};
    launch(ctx.stream, rmsnorm_backward_kernel<T, Lanes, Held, Rows>, shape, p);
  }
  template <bool Vectors>
  void loop() const {
    const GridShape shape = {
        {static_cast<unsigned>(partials_of(p.rows)), 1, 1}, kLoopThreads, 1, sizeof(float) * kLoopThreads / kWarp};
    launch(ctx.stream, rmsnorm_backward_loop_kernel < T, Vectors ? kVector<T> : 1 >, shape, p);
  }
};

template <class T>
void backward(const ops::RmsnormBackward& p, Context& ctx) {
  auto* partial = reinterpret_cast<float*>(ctx.workspace);
  const T* addend = p.addend.present() ? p.addend.as<const T>() : nullptr;
  const RunBackward<T> run = {{p.x.as<const T>(), p.weight.as<const float>(), p.rstd.as<const float>(),
                               p.dy.as<const T>(), addend, p.dx.as<T>(), partial, p.rows, rows_of_partial(p.rows),
                               static_cast<int>(p.dim), 1.0f / static_cast<float>(p.dim)},
                              ctx};
  const bool vectors = p.dim % kVector<T> == 0 && is_aligned(p.x.data, 16) && is_aligned(p.dy.data, 16) &&
                       is_aligned(p.dx.data, 16) && is_aligned(p.weight.data, 16) && is_aligned(addend, 16);
  vectors ? choose_backward(p.dim / kVector<T>, run) : run.template loop<false>();
  sum_partials(ctx, partial, partials_of(p.rows), p.dim, p.dim, p.accumulate, p.dweight.as<float>());
}

}  // namespace

void rmsnorm(const ops::Rmsnorm& p, Context& ctx) {
  p.x.dtype == DType::F32 ? forward<float>(p, ctx) : forward<bf16>(p, ctx);
}
size_t rmsnorm_workspace(const ops::Rmsnorm&, const Target&) { return 0; }

void rmsnorm_backward(const ops::RmsnormBackward& p, Context& ctx) {
  p.x.dtype == DType::F32 ? backward<float>(p, ctx) : backward<bf16>(p, ctx);
}
size_t rmsnorm_backward_workspace(const ops::RmsnormBackward& p, const Target&) {
  return static_cast<size_t>(partials_of(p.rows) * p.dim) * sizeof(float);
}

}  // namespace thalweg::cuda
