// embedding: y[r] = weight[tokens[r]]. Moves dim * (4 + sizeof(act)) bytes per row, no arithmetic.
// embeddingBackward: dweight[v] (+)= sum of dy[r] over the rows r of token v, in row order. A linked list of rows per
// token is threaded through the workspace (built in one serial pass over the tokens), then every token's sum is
// independent: each row of dweight is written once, by one tile, whatever the number of threads.
#include "native/base/error.h"
#include "native/cpu/kernels/declare.h"
#include "native/cpu/kernels/simd.h"
#include "native/cpu/kernels/tiles.h"
#include "native/ops/step_inputs.h"

namespace thalweg::cpu::THALWEG_ISA {

static void check_tokens(const char* op, const int32_t* tokens, int64_t rows, int64_t vocab) {
  for (int64_t r = 0; r < rows; r++)
    if (tokens[r] < 0 || tokens[r] >= vocab)
      fail("BAD_INPUT", op, ": row ", r, " holds token ", tokens[r], ", but the vocabulary has ", vocab,
           " tokens (0 to ", vocab - 1, "). Tokenize the data with this model's tokenizer.");
}

template <class T>
static void gather(const ops::Embedding& p, Context& ctx) {
  const int32_t* tokens = p.tokens.as<int32_t>();
  const float* weight = p.weight.as<float>();
  T* y = p.y.as<T>();
  run_blocks(ctx.pool, p.rows, tile_rows(p.dim), [&](int64_t begin, int64_t end, int) {
    for (int64_t r = begin; r < end; r++) {
      const float* from = weight + tokens[r] * p.dim;
      T* to = y + r * p.dim;
      for_lanes(
          p.dim, [&](int64_t i, int n)
                     __attribute__((always_inline)) { store_part(to + i, load_part(from + i, n), n); });
    }
  });
}

void embedding(const ops::Embedding& p, Context& ctx) {
  check_tokens("embedding", p.tokens.as<int32_t>(), p.rows, p.vocab);
  p.y.dtype == DType::BF16 ? gather<bf16>(p, ctx) : gather<float>(p, ctx);
}
size_t embedding_workspace(const ops::Embedding&, int) { return 0; }

namespace {

/** Rows of each token, ascending: first[token], next[row], -1 ends. */
struct RowLists {
  int32_t* first;  // [vocab]
  int32_t* next;   // [rows]
};

/** More than this is written past the caches when zeroed: it would only push out what the next kernels need. */
constexpr int64_t kStreamedElements = int64_t{1} << 23;
constexpr int64_t kHeadBlock = 4096;
constexpr int64_t kVocabBlock = 64;

/** Vectors summed side by side while a list is walked. */
constexpr int kStripe = 8;

/** to[0, dim) (+)= sum of dy rows from `row` on along the list. */
template <class T>
void sum_rows(const T* dy, int64_t dim, const int32_t* next, int32_t row, bool add, float* to) {
  int64_t i = 0;
  for (; i + kStripe * kWidth <= dim; i += kStripe * kWidth) {
    F total[kStripe];
    for (int v = 0; v < kStripe; v++) total[v] = load(dy + row * dim + i + v * kWidth);
    for (int32_t r = next[row]; r >= 0; r = next[r])
      for (int v = 0; v < kStripe; v++) total[v] = total[v] + load(dy + r * dim + i + v * kWidth);
    for (int v = 0; v < kStripe; v++) {
      float* at = to + i + v * kWidth;
      store(at, add ? load(at) + total[v] : total[v]);
    }
  }
  for_lanes(
      dim - i, [&](int64_t j, int n) __attribute__((always_inline)) {
        F total = load_part(dy + row * dim + i + j, n);
        for (int32_t r = next[row]; r >= 0; r = next[r]) total = total + load_part(dy + r * dim + i + j, n);
        float* at = to + i + j;
        store_part(at, add ? load_part(at, n) + total : total, n);
      });
}

void zero_row(float* to, int64_t dim, bool streamed) {
  int64_t i = 0;
  if (streamed && reinterpret_cast<uintptr_t>(to) % 64 == 0)
    for (; i + kWidth <= dim; i += kWidth) stream(to + i, zero());
  for_lanes(
      dim - i, [&](int64_t j, int n) __attribute__((always_inline)) { store_part(to + i + j, zero(), n); });
}

template <class T>
void scatter(const ops::EmbeddingBackward& p, const RowLists& lists, bool add, Context& ctx) {
  const T* dy = p.dy.as<T>();
  float* dweight = p.dweight.as<float>();
  if (add) {  // only rows that occur are touched: walk the rows, each list is done by its first row
    const int32_t* tokens = p.tokens.as<int32_t>();
    run_blocks(ctx.pool, p.rows, tile_rows(p.dim), [&](int64_t begin, int64_t end, int) {
      for (int64_t r = begin; r < end; r++)
        if (lists.first[tokens[r]] == r)
          sum_rows(dy, p.dim, lists.next, static_cast<int32_t>(r), true, dweight + tokens[r] * p.dim);
    });
    return;
  }
  const bool streamed = p.vocab * p.dim > kStreamedElements;
  run_blocks(ctx.pool, p.vocab, kVocabBlock, [&](int64_t begin, int64_t end, int) {
    for (int64_t v = begin; v < end; v++) {
      float* to = dweight + v * p.dim;
      if (lists.first[v] < 0)
        zero_row(to, p.dim, streamed);
      else
        sum_rows(dy, p.dim, lists.next, lists.first[v], false, to);
    }
    if (streamed) stream_fence();
  });
}

}  // namespace

void embedding_backward(const ops::EmbeddingBackward& p, Context& ctx) {
  const int32_t* tokens = p.tokens.as<int32_t>();
  check_tokens("embeddingBackward", tokens, p.rows, p.vocab);
  const RowLists lists = {reinterpret_cast<int32_t*>(ctx.workspace),
                          reinterpret_cast<int32_t*>(ctx.workspace + lines(static_cast<size_t>(p.vocab) * 4))};
  run_blocks(ctx.pool, p.vocab, kHeadBlock, [&](int64_t begin, int64_t end, int) {
    for (int64_t v = begin; v < end; v++) lists.first[v] = -1;
  });
  for (int64_t r = p.rows - 1; r >= 0; r--) {
    lists.next[r] = lists.first[tokens[r]];
    lists.first[tokens[r]] = static_cast<int32_t>(r);
  }
  const bool add = ops::accumulates(p.accumulate, ctx.integers);
  p.dy.dtype == DType::BF16 ? scatter<bf16>(p, lists, add, ctx) : scatter<float>(p, lists, add, ctx);
}
size_t embedding_backward_workspace(const ops::EmbeddingBackward& p, int) {
  return lines(static_cast<size_t>(p.vocab) * 4) + lines(static_cast<size_t>(p.rows) * 4);
}

}  // namespace thalweg::cpu::THALWEG_ISA
