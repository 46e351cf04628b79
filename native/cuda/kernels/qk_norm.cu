#include "native/cuda/kernels/floats.cuh"
#include "native/cuda/kernels/partials.cuh"
#include "native/cuda/reduce.h"

/**
 * qkNorm: RMSNorm (see rmsnorm.cu) of each query and key head of rows [q heads | k heads | v heads], every head hd
 * wide; values are copied. Gradients of the two weights [hd] are sums over rows and heads.
 *
 * Bound by memory: in bf16 forward moves 4 bytes an element, backward 6. A head is one to 32 vectors of 16 bytes, held
 * by as many lanes (Group, the next power of two) that sum by shuffles. A thread stays in its column for all rows of
 * its block, so weights and weight gradients stay in registers; the block adds the heads' sums through shared memory
 * into one partial [q | k] and a second kernel adds partials in order. Other head sizes take a warp a head, element by
 * element.
 */
namespace thalweg::cuda {

namespace {

constexpr int kMostThreads = 256;
constexpr int kRowsInFlight = 4;

template <class T>
struct Forward {
  const T* x;
  const float *q_weight, *k_weight;
  T* y;
  float* rstd;
  int64_t rows;
  int heads, kv_heads, head_dim;
  float eps;

  DEVICE int normed() const { return heads + kv_heads; }
  DEVICE int all() const { return heads + 2 * kv_heads; }
  DEVICE int64_t width() const { return static_cast<int64_t>(all()) * head_dim; }
  DEVICE const float* weight(int head) const { return head < heads ? q_weight : k_weight; }
};

template <class T>
struct Backward {
  const T* x;
  const float *q_weight, *k_weight, *rstd;
  const T* dy;
  T* dx;
  float* partial;  // [partials, 2 hd]
  int64_t rows, rows_of_partial;
  int heads, kv_heads, head_dim;

  DEVICE int normed() const { return heads + kv_heads; }
  DEVICE int all() const { return heads + 2 * kv_heads; }
  DEVICE int64_t width() const { return static_cast<int64_t>(all()) * head_dim; }
  DEVICE const float* weight(int head) const { return head < heads ? q_weight : k_weight; }
};

/** Sum over aligned groups of Group lanes. */
template <int Group>
DEVICE float group_sum(float value) {
  UNROLL
  for (int mask = Group / 2; mask > 0; mask /= 2) value += shuffle_xor(value, mask);
  return value;
}

template <class T, int Group>
__global__ void __launch_bounds__(kMostThreads) qk_norm_kernel(const Forward<T> p) {
  constexpr int N = kVector<T>;
  const int column = static_cast<int>(owned_column()), head = column / Group, at = column % Group * N;
  const bool mine = head < p.all() && at < p.head_dim, normed = mine && head < p.normed();
  const int64_t place = static_cast<int64_t>(head) * p.head_dim + at;
  const Floats<N> weight = normed ? load_floats<N>(p.weight(head) + at) : zeros<N>();
  const int64_t first = static_cast<int64_t>(blockIdx.x) * kRowsInFlight;
  Vector<T, N> held[kRowsInFlight] = {};
  UNROLL
  for (int k = 0; k < kRowsInFlight; k++)
    if (mine && first + k < p.rows) held[k] = load<N>(p.x + (first + k) * p.width() + place);
  UNROLL
  for (int k = 0; k < kRowsInFlight; k++) {
    Floats<N> v = unpack(held[k]);
    float squares = 0.0f;
    UNROLL
    for (int i = 0; i < N; i++) squares += v[i] * v[i];
    const float scale = 1.0f / sqrtf(group_sum<Group>(squares) / static_cast<float>(p.head_dim) + p.eps);
    const int64_t row = first + k;
    if (!mine || row >= p.rows) continue;
    T* to = p.y + row * p.width() + place;
    if (!normed) {
      store_global<N>(to, held[k]);
      continue;
    }
    UNROLL
    for (int i = 0; i < N; i++) v[i] = v[i] * scale * weight[i];
    store_floats<N>(to, v);
    if (at == 0) p.rstd[row * p.normed() + head] = scale;
  }
}

/** Any head size: a warp a head. */
template <class T>
__global__ void __launch_bounds__(kMostThreads) qk_norm_ragged_kernel(const Forward<T> p) {
  const int64_t index = static_cast<int64_t>(blockIdx.x) * (kMostThreads / kWarp) + warp_index();
  const int64_t row = index / p.all();
  const int head = static_cast<int>(index % p.all());
  if (row >= p.rows) return;  // whole warps, and no barrier follows
  const T* x = p.x + index * p.head_dim;
  T* y = p.y + index * p.head_dim;
  if (head >= p.normed()) {
    for (int i = lane_index(); i < p.head_dim; i += kWarp) y[i] = x[i];
    return;
  }
  float squares = 0.0f;
  for (int i = lane_index(); i < p.head_dim; i += kWarp) squares += to_float(x[i]) * to_float(x[i]);
  const float scale = 1.0f / sqrtf(warp_sum(squares) / static_cast<float>(p.head_dim) + p.eps);
  if (lane_index() == 0) p.rstd[row * p.normed() + head] = scale;
  for (int i = lane_index(); i < p.head_dim; i += kWarp)
    y[i] = from_float<T>(to_float(x[i]) * scale * p.weight(head)[i]);
}

template <class T, int Group>
__global__ void __launch_bounds__(kMostThreads) qk_norm_backward_kernel(const Backward<T> p) {
  constexpr int N = kVector<T>;
  struct Shared {
    float sums[kMostThreads * N];  // [heads of this block][Group * N]
  };
  auto& shared = shared_memory<Shared>();
  const int column = static_cast<int>(owned_column()), head = column / Group, at = column % Group * N;
  const bool mine = head < p.all() && at < p.head_dim, normed = mine && head < p.normed();
  const int64_t place = static_cast<int64_t>(head) * p.head_dim + at;
  const Floats<N> weight = normed ? load_floats<N>(p.weight(head) + at) : zeros<N>();
  const int64_t begin = blockIdx.x * p.rows_of_partial;
  const int64_t end = begin + p.rows_of_partial < p.rows ? begin + p.rows_of_partial : p.rows;
  Floats<N> sums = zeros<N>();
  for (int64_t first = begin; first < end; first += kRowsInFlight) {
    Vector<T, N> x_held[kRowsInFlight] = {}, dy_held[kRowsInFlight] = {};
    UNROLL
    for (int k = 0; k < kRowsInFlight; k++) {
      if (!mine || first + k >= end) continue;
      const int64_t from = (first + k) * p.width() + place;
      if (normed) x_held[k] = load<N>(p.x + from);
      dy_held[k] = load<N>(p.dy + from);
    }
    UNROLL
    for (int k = 0; k < kRowsInFlight; k++) {
      const int64_t row = first + k;
      const Floats<N> x = unpack(x_held[k]), dy = unpack(dy_held[k]);
      float product = 0.0f;
      UNROLL
      for (int i = 0; i < N; i++) product += dy[i] * weight[i] * x[i];
      product = group_sum<Group>(product);
      if (!mine || row >= end) continue;
      T* to = p.dx + row * p.width() + place;
      if (!normed) {
        store_global<N>(to, dy_held[k]);
        continue;
      }
      const float scale = p.rstd[row * p.normed() + head];
      const float back = product / static_cast<float>(p.head_dim) * scale * scale;
      Floats<N> out;
      UNROLL
      for (int i = 0; i < N; i++) {
        out[i] = scale * (dy[i] * weight[i] - x[i] * back);
        sums[i] += dy[i] * (x[i] * scale);
      }
      store_floats<N>(to, out);
    }
  }
  UNROLL
  for (int i = 0; i < N; i++) shared.sums[threadIdx.x * N + i] = sums[i];
  sync_threads();
  const int first_head = static_cast<int>(blockIdx.y * blockDim.x) / Group;
  const int heads_here = static_cast<int>(blockDim.x) / Group;
  float* partial = p.partial + (static_cast<int64_t>(blockIdx.x) * gridDim.y + blockIdx.y) * 2 * p.head_dim;
  for (int i = static_cast<int>(threadIdx.x); i < 2 * p.head_dim; i += static_cast<int>(blockDim.x)) {
    const bool query = i < p.head_dim;
    float total = 0.0f;
    for (int h = 0; h < heads_here; h++)
      if ((first_head + h < p.heads) == query) total += shared.sums[h * Group * N + i - (query ? 0 : p.head_dim)];
    partial[i] = total;  // value heads and columns past the row hold 0
  }
}

/** Any head size: one warp a run of rows, its sums in the workspace, each column with its own lane. */
template <class T>
__global__ void __launch_bounds__(kWarp) qk_norm_backward_ragged_kernel(const Backward<T> p) {
  float* partial = p.partial + static_cast<int64_t>(blockIdx.x) * 2 * p.head_dim;
  const int lane = lane_index();
  for (int i = lane; i < p.head_dim; i += kWarp) partial[i] = partial[p.head_dim + i] = 0.0f;
  const int64_t begin = blockIdx.x * p.rows_of_partial;
  const int64_t end = begin + p.rows_of_partial < p.rows ? begin + p.rows_of_partial : p.rows;
  for (int64_t index = begin * p.all(); index < end * p.all(); index++) {
    const int64_t row = index / p.all(), start = index * p.head_dim;
    const int head = static_cast<int>(index % p.all());
    if (head >= p.normed()) {
      for (int i = lane; i < p.head_dim; i += kWarp) p.dx[start + i] = p.dy[start + i];
      continue;
    }
    const float* weight = p.weight(head);
    float* sums = partial + (head < p.heads ? 0 : p.head_dim);
    const float scale = p.rstd[row * p.normed() + head];
    float product = 0.0f;
    for (int i = lane; i < p.head_dim; i += kWarp)
      product += to_float(p.dy[start + i]) * weight[i] * to_float(p.x[start + i]);
    const float back = warp_sum(product) / static_cast<float>(p.head_dim) * scale * scale;
    for (int i = lane; i < p.head_dim; i += kWarp) {
      const float x = to_float(p.x[start + i]), dy = to_float(p.dy[start + i]);
      sums[i] += dy * (x * scale);
      p.dx[start + i] = from_float<T>(scale * (dy * weight[i] - x * back));
    }
  }
}

/** Lanes for a head of `vectors` vectors: the next power of two; 0 when a warp cannot hold it. */
int group_of(int64_t vectors) {
  int group = 1;
  while (group < vectors) group *= 2;
  return group <= kWarp ? group : 0;
}

/** run.operator()<Group>(). */
template <class Run>
void with_group(int group, const Run& run) {
  switch (group) {
    case 1:
      return run.template held<1>();
    case 2:
      return run.template held<2>();
    case 4:
      return run.template held<4>();
    case 8:
      return run.template held<8>();
    case 16:
      return run.template held<16>();
    case 32:
      return run.template held<32>();
    default:
      return run.ragged();
  }
}

template <class T>
int group_for(const Tensor& x, const Tensor& y, const Tensor& qw, const Tensor& kw, int64_t head_dim) {
  const bool vectors = head_dim % kVector<T> == 0 && is_aligned(x.data, 16) && is_aligned(y.data, 16) &&
                       is_aligned(qw.data, 16) && is_aligned(kw.data, 16);
  return vectors ? group_of(head_dim / kVector<T>) : 0;
}

template <class T>
struct RunForward {
  Forward<T> p;
  Context& ctx;
  int64_t heads;  // all of a row

  template <int Group>
  void held() const {
    launch(ctx.stream, qk_norm_kernel<T, Group>, columns_shape(ceil_div(p.rows, kRowsInFlight), heads * Group), p);
  }
  void ragged() const {
    const GridShape shape = {{static_cast<unsigned>(ceil_div(p.rows * heads, kMostThreads / kWarp)), 1, 1},
                             kMostThreads};
    launch(ctx.stream, qk_norm_ragged_kernel<T>, shape, p);
  }
};

template <class T>
void forward(const ops::QkNorm& p, Context& ctx) {
  const RunForward<T> run = {
      {p.x.as<const T>(), p.q_weight.as<const float>(), p.k_weight.as<const float>(), p.y.as<T>(), p.rstd.as<float>(),
       p.rows, static_cast<int>(p.heads), static_cast<int>(p.kv_heads), static_cast<int>(p.head_dim), p.eps},
      ctx,
      p.heads + 2 * p.kv_heads};
  with_group(group_for<T>(p.x, p.y, p.q_weight, p.k_weight, p.head_dim), run);
}

template <class T>
struct RunBackward {
  const ops::QkNormBackward& op;
  Backward<T> p;
  Context& ctx;

  template <int Group>
  void held() const {
    GridShape shape = columns_shape(partials_of(p.rows), (op.heads + 2 * op.kv_heads) * Group);
    shape.shared_bytes = sizeof(float) * kMostThreads * kVector<T>;
    launch(ctx.stream, qk_norm_backward_kernel<T, Group>, shape, p);
    add(partials_of(p.rows) * shape.blocks[1]);
  }
  void ragged() const {
    const GridShape shape = {{static_cast<unsigned>(partials_of(p.rows)), 1, 1}, kWarp};
    launch(ctx.stream, qk_norm_backward_ragged_kernel<T>, shape, p);
    add(partials_of(p.rows));
  }
  void add(int64_t partials) const {
    const int64_t hd = op.head_dim;
    sum_partials(ctx, p.partial, partials, hd, 2 * hd, op.accumulate, op.dq_weight.template as<float>());
    sum_partials(ctx, p.partial + hd, partials, hd, 2 * hd, op.accumulate, op.dk_weight.template as<float>());
  }
};

template <class T>
void backward(const ops::QkNormBackward& p, Context& ctx) {
  const RunBackward<T> run = {
      p,
      {p.x.as<const T>(), p.q_weight.as<const float>(), p.k_weight.as<const float>(), p.rstd.as<const float>(),
       p.dy.as<const T>(), p.dx.as<T>(), reinterpret_cast<float*>(ctx.workspace), p.rows, rows_of_partial(p.rows),
       static_cast<int>(p.heads), static_cast<int>(p.kv_heads), static_cast<int>(p.head_dim)},
      ctx};
  const int group = is_aligned(p.dy.data, 16) ? group_for<T>(p.x, p.dx, p.q_weight, p.k_weight, p.head_dim) : 0;
  with_group(group, run);
}

}  // namespace

void qk_norm(const ops::QkNorm& p, Context& ctx) {
  p.x.dtype == DType::F32 ? forward<float>(p, ctx) : forward<bf16>(p, ctx);
}
size_t qk_norm_workspace(const ops::QkNorm&, const Target&) { return 0; }

void qk_norm_backward(const ops::QkNormBackward& p, Context& ctx) {
  p.x.dtype == DType::F32 ? backward<float>(p, ctx) : backward<bf16>(p, ctx);
}
size_t qk_norm_backward_workspace(const ops::QkNormBackward& p, const Target&) {
  const int64_t cuts = std::max<int64_t>(1, ceil_div((p.heads + 2 * p.kv_heads) * kWarp, kMostThreads));
  return static_cast<size_t>(partials_of(p.rows) * cuts * 2 * p.head_dim) * sizeof(float);
}

}  // namespace thalweg::cuda
