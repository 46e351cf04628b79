#include "native/cuda/kernels/floats.cuh"
#include "native/cuda/kernels/rows.cuh"

/**
 * rope: rotates each query and key head of rows [q heads | k heads | v heads] by its position (Su et al. 2021), halves
 * paired as in Hugging Face LLaMA: with c, s = table[position] and a, b the halves of a head,
 * (a, b) -> (a c - b s, b c + a s). inverse negates s. Values are copied when y is not x.
 *
 * Bound by memory: 4 bytes an element in bf16; table rows are shared by all heads of a row and come from the caches. A
 * thread owns one vector of each half of one head, in kRowsInFlight rows that it loads before it stores the first.
 */
namespace thalweg::cuda {

namespace {

constexpr int kMostThreads = 256;
constexpr int kRowsInFlight = 2;

template <class T>
struct Rotation {
  const T* x;
  const float* table;
  T* y;
  const int32_t* integers;
  Fault* fault;
  int64_t rows, seq, positions;
  int rotated, value_elements, head_dim;
  float sign;  // of the sine

  DEVICE int64_t width() const { return static_cast<int64_t>(rotated) * head_dim + value_elements; }
};

/** (a, b) turned by the N angles whose cosines are at `cosine`, sines half a row further. */
template <class T, int N>
DEVICE void store_rotated(const Rotation<T>& p, T* to, const Vector<T, N>& a, const Vector<T, N>& b,
                          const float* cosine) {
  const int half = p.head_dim / 2;
  const Floats<N> c = load_floats<N>(cosine), s = load_floats<N>(cosine + half);
  const Floats<N> from_a = unpack(a), from_b = unpack(b);
  Floats<N> to_a, to_b;
  UNROLL
  for (int i = 0; i < N; i++) {
    const float sine = p.sign * s[i];
    to_a[i] = from_a[i] * c[i] - from_b[i] * sine;
    to_b[i] = from_b[i] * c[i] + from_a[i] * sine;
  }
  store_floats<N>(to, to_a);
  store_floats<N>(to + half, to_b);
}

template <class T, int N>
__global__ void __launch_bounds__(kMostThreads) rope_kernel(const Rotation<T> p) {
  const int half = p.head_dim / 2, per_head = half / N, column = static_cast<int>(owned_column());
  const int pairs = p.rotated * per_head;
  const bool rotates = column < pairs;
  // A rotated column is a pair of vectors half a head apart; after them come single vectors of values.
  const int64_t place = rotates ? column / per_head * static_cast<int64_t>(p.head_dim) + column % per_head * N
                                : p.rotated * static_cast<int64_t>(p.head_dim) + (column - pairs) * N;
  if (place >= p.width() || (!rotates && p.x == p.y)) return;
  const int64_t first = static_cast<int64_t>(blockIdx.x) * kRowsInFlight;
  Vector<T, N> a[kRowsInFlight] = {}, b[kRowsInFlight] = {};
  UNROLL
  for (int k = 0; k < kRowsInFlight; k++) {
    if (first + k >= p.rows) continue;
    const T* from = p.x + (first + k) * p.width() + place;
    a[k] = load<N>(from);
    if (rotates) b[k] = load<N>(from + half);
  }
  const int64_t offset = p.integers[ops::kIntegerPositionOffset];  // while the rows are on their way
  if (offset < 0 || offset + p.seq > p.positions) {
    const int64_t row = offset < 0 ? 0 : p.seq - 1;
    if (column == 0 && blockIdx.x == 0) note_fault(p.fault, Fault::kPosition, row, offset + row, p.positions);
    return;
  }
  UNROLL
  for (int k = 0; k < kRowsInFlight; k++) {
    const int64_t row = first + k;
    if (row >= p.rows) continue;
    T* to = p.y + row * p.width() + place;
    if (!rotates) {
      store_global<N>(to, a[k]);
      continue;
    }
    const int64_t position = offset + static_cast<uint32_t>(row) % static_cast<uint32_t>(p.seq);
    store_rotated<T, N>(p, to, a[k], b[k], p.table + position * p.head_dim + column % per_head * N);
  }
}

template <class T, int N>
void run(const ops::Rope& p, Context& ctx) {
  const int64_t rotated = p.heads + p.kv_heads, values = p.kv_heads * p.head_dim;
  const int64_t columns = rotated * p.head_dim / 2 / N + (p.x.data == p.y.data ? 0 : values / N);
  const Rotation<T> rotation = {p.x.as<const T>(),
                                p.table.as<const float>(),
                                p.y.as<T>(),
                                ctx.integers,
                                ctx.fault,
                                p.rows,
                                p.seq,
                                p.positions,
                                static_cast<int>(rotated),
                                static_cast<int>(values),
                                static_cast<int>(p.head_dim),
                                p.inverse != 0 ? -1.0f : 1.0f};
  launch(ctx.stream, rope_kernel<T, N>, columns_shape(ceil_div(p.rows, kRowsInFlight), columns, kMostThreads),
         rotation);
}

template <class T>
void rotate(const ops::Rope& p, Context& ctx) {
  const bool vectors = p.head_dim % (2 * kVector<T>) == 0 && is_aligned(p.x.data, 16) && is_aligned(p.y.data, 16) &&
                       is_aligned(p.table.data, 16);
  vectors ? run<T, kVector<T>>(p, ctx) : run<T, 1>(p, ctx);
}

}  // namespace

void rope(const ops::Rope& p, Context& ctx) { p.x.dtype == DType::F32 ? rotate<float>(p, ctx) : rotate<bf16>(p, ctx); }
size_t rope_workspace(const ops::Rope&, const Target&) { return 0; }

}  // namespace thalweg::cuda
