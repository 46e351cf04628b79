#include "native/cuda/kernels/floats.cuh"
#include "native/cuda/kernels/rows.cuh"
#include "native/cuda/kernels/token_sort.cuh"

/**
 * embedding: y[r] = weight[tokens[r]], rounded to the compute precision (from the bf16 copy of the weight when there is
 * one: the same bits). Moves dim * 2 * sizeof(act) bytes a row.
 *
 * embeddingBackward: dweight[v] (+)= sum of dy[r] over rows r with tokens[r] = v. Moves dy once, 4 dim bytes for every
 * token that occurs, and when overwriting 4 dim zeros for every other; the work is rows, not vocab x rows:
 *   1. rows are sorted by token (token_sort.cuh), rows of a token in row order;
 *   2. a block takes kPiece sorted rows and adds them up in order; a token whose rows lie within goes to dweight, the
 *      pieces of those that do not (at most two a block) go to the workspace;
 *   3. the block in which such a token begins adds its pieces in order;
 *   4. when overwriting, rows of dweight whose token does not occur are zeroed.
 * Sums depend on the tokens alone. Frequent tokens (bytes, spaces) thus spread over many blocks.
 */
namespace thalweg::cuda {

namespace {

constexpr int kMostThreads = 256;
constexpr int kRowsInFlight = 4;
constexpr int kPiece = 32;      // sorted rows of a block
constexpr int kZeroedRows = 8;  // rows of dweight a block looks at

template <class From, class To, int N>
__global__ void __launch_bounds__(kMostThreads, 4)  // without the 4 ptxas spills for a fifth block
    embedding_kernel(const int32_t* tokens, const From* weight, To* y, int64_t rows, int64_t vocab, int64_t dim,
                     Fault* fault) {
  const int64_t column = owned_column() * N, first = static_cast<int64_t>(blockIdx.x) * kRowsInFlight;
  if (column >= dim) return;
  int32_t token[kRowsInFlight];  // or -1
  UNROLL
  for (int k = 0; k < kRowsInFlight; k++) {
    token[k] = first + k < rows ? tokens[first + k] : -1;
    if (first + k >= rows || (token[k] >= 0 && token[k] < vocab)) continue;
    if (column == 0) note_fault(fault, Fault::kToken, first + k, token[k], vocab);
    token[k] = -1;
  }
  Floats<N> held[kRowsInFlight] = {};
  UNROLL
  for (int k = 0; k < kRowsInFlight; k++)
    if (token[k] >= 0) held[k] = load_floats<N>(weight + token[k] * dim + column);
  UNROLL
  for (int k = 0; k < kRowsInFlight; k++)
    if (token[k] >= 0) store_floats<N>(y + (first + k) * dim + column, held[k]);
}

template <class From, class To>
void gather(const ops::Embedding& p, const void* weight, Context& ctx) {
  const auto* from = static_cast<const From*>(weight);
  const auto* tokens = p.tokens.as<const int32_t>();
  auto* y = p.y.as<To>();
  constexpr int N = kVector<To>;
  const int64_t blocks = ceil_div(p.rows, kRowsInFlight);
  if (p.dim % N == 0 && is_aligned(from, 16) && is_aligned(y, 16))
    launch(ctx.stream, embedding_kernel<From, To, N>, columns_shape(blocks, p.dim / N, kMostThreads), tokens, from, y,
           p.rows, p.vocab, p.dim, ctx.fault);
  else
    launch(ctx.stream, embedding_kernel<From, To, 1>, columns_shape(blocks, p.dim, kMostThreads), tokens, from, y,
           p.rows, p.vocab, p.dim, ctx.fault);
}

/** Operands of the gradient's kernels. */
template <class T>
struct Pieces {
  const uint32_t *keys, *order, *present;  // sorted tokens, their rows; which tokens occur
  const T* dy;
  float* dweight;
  float* partial;  // [pieces, 2, dim]: sums of a token that began before the piece, and of one that goes on after it
  const int32_t* integers;
  int64_t rows, vocab, dim, accumulate;

  DEVICE float* piece_sum(int64_t piece, int side, int64_t column) const {
    return partial + (2 * piece + side) * dim + column;
  }
};

template <class T, int N>
DEVICE void store_token(const Pieces<T>& p, uint32_t token, int64_t column, Floats<N> sum) {
  float* to = p.dweight + token * p.dim + column;
  if (adds(p.accumulate, p.integers)) {
    const Floats<N> before = load_floats<N>(to);
    UNROLL
    for (int i = 0; i < N; i++) sum[i] += before[i];
  }
  store_floats<N>(to, sum);
}

/** Step 2. */
template <class T, int N>
__global__ void __launch_bounds__(kMostThreads) sum_pieces_kernel(const Pieces<T> p) {
  const int64_t column = owned_column() * N, piece = blockIdx.x, begin = piece * kPiece;
  const int64_t end = begin + kPiece < p.rows ? begin + kPiece : p.rows;
  if (column >= p.dim) return;
  uint32_t token = p.keys[begin];
  bool began_before = begin > 0 && p.keys[begin - 1] == token;
  Floats<N> sum = zeros<N>();
  for (int64_t first = begin; first < end; first += kRowsInFlight) {
    Vector<T, N> held[kRowsInFlight] = {};
    uint32_t tokens[kRowsInFlight];
    UNROLL
    for (int k = 0; k < kRowsInFlight; k++) {
      tokens[k] = first + k < end ? p.keys[first + k] : static_cast<uint32_t>(p.vocab);
      if (tokens[k] < p.vocab) held[k] = load<N>(p.dy + p.order[first + k] * p.dim + column);
    }
    UNROLL
    for (int k = 0; k < kRowsInFlight; k++) {
      if (first + k >= end) continue;
      if (tokens[k] != token) {  // a token that does not exist comes last and is never finished here
        if (began_before)
          store_floats<N>(p.piece_sum(piece, 0, column), sum);
        else
          store_token(p, token, column, sum);
        token = tokens[k];
        began_before = false;
        sum = zeros<N>();
      }
      const Floats<N> row = unpack(held[k]);
      UNROLL
      for (int i = 0; i < N; i++) sum[i] += row[i];
    }
  }
  if (token >= p.vocab) return;
  const bool goes_on = end < p.rows && p.keys[end] == token;
  if (began_before || goes_on)
    store_floats<N>(p.piece_sum(piece, began_before ? 0 : 1, column), sum);
  else
    store_token(p, token, column, sum);
}

/** Step 3: a token that begins in this piece and goes on after it. */
template <class T, int N>
__global__ void __launch_bounds__(kMostThreads) join_pieces_kernel(const Pieces<T> p) {
  const int64_t column = owned_column() * N, piece = blockIdx.x, begin = piece * kPiece, end = begin + kPiece;
  if (column >= p.dim || end >= p.rows) return;
  const uint32_t token = p.keys[end];
  if (p.keys[end - 1] != token || token >= p.vocab) return;
  if (p.keys[begin] == token && begin > 0 && p.keys[begin - 1] == token) return;
  // The last piece that holds the token, by bisection: its first row does, the first row of the next does not.
  int64_t last = piece + 1, beyond = (p.rows + kPiece - 1) / kPiece;
  while (beyond - last > 1) {
    const int64_t middle = (last + beyond) / 2;
    (p.keys[middle * kPiece] == token ? last : beyond) = middle;
  }
  Floats<N> sum = load_floats<N>(p.piece_sum(piece, 1, column));
  for (int64_t first = piece + 1; first <= last; first += kRowsInFlight) {
    Floats<N> held[kRowsInFlight] = {};
    UNROLL
    for (int k = 0; k < kRowsInFlight; k++)
      if (first + k <= last) held[k] = load_floats<N>(p.piece_sum(first + k, 0, column));
    UNROLL
    for (int k = 0; k < kRowsInFlight; k++) {
      UNROLL
      for (int i = 0; i < N; i++) sum[i] += held[k][i];
    }
  }
  store_token(p, token, column, sum);
}

/** Step 4. */
template <class T, int N>
__global__ void __launch_bounds__(kMostThreads) zero_absent_kernel(const Pieces<T> p) {
  const int64_t column = owned_column() * N, first = static_cast<int64_t>(blockIdx.x) * kZeroedRows;
  if (column >= p.dim || adds(p.accumulate, p.integers)) return;
  for (int64_t v = first; v < first + kZeroedRows && v < p.vocab; v++)
    if (p.present[v] == 0) store_floats<N>(p.dweight + v * p.dim + column, zeros<N>());
}

int64_t pieces_of(int64_t rows) { return ceil_div(rows, kPiece); }

/** Bytes of the sums of pieces, before the room of the sort. */
size_t partial_bytes(const ops::EmbeddingBackward& p) {
  return static_cast<size_t>(pieces_of(p.rows) * 2 * p.dim) * sizeof(float);
}

template <class T, int N>
void scatter_in(const Pieces<T>& p, Context& ctx) {
  const int64_t columns = p.dim / N, pieces = pieces_of(p.rows);
  launch(ctx.stream, sum_pieces_kernel<T, N>, columns_shape(pieces, columns, kMostThreads), p);
  if (pieces > 1) launch(ctx.stream, join_pieces_kernel<T, N>, columns_shape(pieces, columns, kMostThreads), p);
  if (p.accumulate != ops::kAdd)
    launch(ctx.stream, zero_absent_kernel<T, N>, columns_shape(ceil_div(p.vocab, kZeroedRows), columns, kMostThreads),
           p);
}

template <class T>
void scatter(const ops::EmbeddingBackward& p, Context& ctx) {
  auto* partial = reinterpret_cast<float*>(ctx.workspace);
  const TokenSort sort = TokenSort::in(reinterpret_cast<uint32_t*>(ctx.workspace + partial_bytes(p)), p.rows);
  const int result = sort_tokens(ctx, sort, p.tokens.as<const int32_t>(), p.rows, p.vocab);
  const Pieces<T> pieces = {sort.keys[result],
                            sort.order[result],
                            sort.present,
                            p.dy.as<const T>(),
                            p.dweight.as<float>(),
                            partial,
                            ctx.integers,
                            p.rows,
                            p.vocab,
                            p.dim,
                            p.accumulate};
  const bool vectors = p.dim % kVector<T> == 0 && is_aligned(p.dy.data, 16) && is_aligned(p.dweight.data, 16);
  vectors ? scatter_in<T, kVector<T>>(pieces, ctx) : scatter_in<T, 1>(pieces, ctx);
}

}  // namespace

void embedding(const ops::Embedding& p, Context& ctx) {
  if (p.y.dtype == DType::F32) return gather<float, float>(p, p.weight.data, ctx);
  const void* copy = ctx.copies != nullptr ? ctx.copies->find(p.weight.data) : nullptr;
  if (copy != nullptr)
    gather<bf16, bf16>(p, copy, ctx);
  else
    gather<float, bf16>(p, p.weight.data, ctx);
}
size_t embedding_workspace(const ops::Embedding&, const Target&) { return 0; }

void embedding_backward(const ops::EmbeddingBackward& p, Context& ctx) {
  p.dy.dtype == DType::F32 ? scatter<float>(p, ctx) : scatter<bf16>(p, ctx);
}
size_t embedding_backward_workspace(const ops::EmbeddingBackward& p, const Target&) {
  return partial_bytes(p) + TokenSort::words(p.rows, p.vocab) * sizeof(uint32_t);
}

}  // namespace thalweg::cuda
