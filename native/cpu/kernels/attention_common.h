#pragma once
#include <algorithm>

#include "native/cpu/kernels/declare.h"
#include "native/cpu/kernels/simd.h"

/**
 * What the attention kernels share: geometry, the split into tasks, scratch.
 *
 * Queries and keys are cut into blocks of kBlock. Scores are held transposed, S^T [keys, queries]: the softmax of a
 * query then runs down a column, so maximum, sum and mask are lane-wise and no vector is ever reduced sideways.
 */
namespace thalweg::cpu::THALWEG_ISA::attn {

constexpr int64_t kBlock = 64;
/** Key blocks whose K, V, dK, dV a backward task keeps at hand: 8 * 64 keys * 64 dims * 4 * 4 bytes are half a MiB. */
constexpr int64_t kKeyBlocks = 8;
constexpr float kLog2e = 1.44269504088896341f;
constexpr float kLn2 = 0.693147180559945309f;

THALWEG_INLINE int64_t round_up(int64_t x, int64_t unit) { return (x + unit - 1) / unit * unit; }

/** Geometry of one call: rows of qkv are [heads | kv_heads | kv_heads] * dim, rows of y heads * dim. */
struct Shape {
  int64_t batch, seq, heads, kv_heads, group, dim, blocks;
  float scale;

  int64_t pairs() const { return batch * kv_heads; }
  int64_t qkv_stride() const { return (heads + 2 * kv_heads) * dim; }
  int64_t y_stride() const { return heads * dim; }
  /** Offset in qkv (or dqkv) of the first row of sequence b of query head h, or key or value head. */
  int64_t q(int64_t b, int64_t h) const { return b * seq * qkv_stride() + h * dim; }
  int64_t k(int64_t b, int64_t kv) const { return b * seq * qkv_stride() + (heads + kv) * dim; }
  int64_t v(int64_t b, int64_t kv) const { return b * seq * qkv_stride() + (heads + kv_heads + kv) * dim; }
  int64_t y(int64_t b, int64_t h) const { return b * seq * y_stride() + h * dim; }
  /** Valid rows of a block: kBlock except perhaps in the last one. */
  int64_t rows(int64_t block) const { return std::min(kBlock, seq - block * kBlock); }
};

template <class Params>
THALWEG_INLINE Shape shape_of(const Params& p) {
  return {p.rows / p.seq, p.seq, p.heads, p.kv_heads, p.heads / p.kv_heads, p.head_dim, (p.seq + kBlock - 1) / kBlock,
          p.scale};
}

/**
 * Which blocks of keys the queries of a block see, and which rows of them they do not, where a sequence holds several
 * documents: query q sees keys starts[q] to q. Null starts: a sequence is one document.
 */
class Documents {
 public:
  Documents(const Tensor& starts, const Shape& s, int64_t sequence)
      : starts_(starts.present() ? starts.as<const int32_t>() + sequence * s.seq : nullptr), seq_(s.seq) {}

  /** First block of keys that these queries see; not decreasing. */
  int64_t first_keys(int64_t queries) const { return starts_ ? starts_[queries * kBlock] / kBlock : 0; }
  /** End of the blocks of queries, out of `blocks`, that see any block of keys before `keys_end`. */
  int64_t queries_end(int64_t keys_end, int64_t blocks) const {
    int64_t end = starts_ ? std::min(keys_end, blocks) : blocks;
    while (end < blocks && first_keys(end) < keys_end) end++;
    return end;
  }
  /** For each of these queries the row of this block of keys before which it sees nothing; null when they see it all.
   */
  const float* hidden(int64_t queries, int64_t keys) {
    if (!starts_) return nullptr;
    const int64_t first = queries * kBlock, last = std::min(first + kBlock, seq_) - 1;
    if (starts_[last] <= keys * kBlock) return nullptr;
    for (int64_t i = 0; i < kBlock; i++)
      from_[i] = static_cast<float>(starts_[std::min(first + i, last)] - keys * kBlock);
    return from_;
  }

 private:
  const int32_t* starts_;
  int64_t seq_;
  alignas(64) float from_[kBlock];
};

/** The blocks of one sequence cut into chunks, from the shape only. */
struct Chunks {
  int64_t blocks, count;
  int64_t first(int64_t chunk) const { return blocks * chunk / count; }
  int64_t longest() const { return (blocks + count - 1) / count; }
};

/** Hands out 64-byte aligned pieces of a buffer; with a null base it only counts, which is how workspaces are sized. */
struct Carver {
  std::byte* base;
  size_t used = 0;
  template <class T>
  T* take(int64_t count) {
    T* piece = base ? reinterpret_cast<T*>(base + used) : nullptr;
    used += (static_cast<size_t>(count) * sizeof(T) + 63) / 64 * 64;
    return piece;
  }
};

/**
 * Rows that will be needed soon. A head's rows lie a whole activation row apart, where no hardware prefetcher follows;
 * step(), called between small products, fetches a few of them into the second-level cache.
 */
class Ahead {
 public:
  void clear() { count_ = next_ = 0; }
  template <class T>
  void add(const T* first, int64_t stride, int64_t rows, int64_t dim) {
    pieces_[count_++] = {reinterpret_cast<const char*>(first), stride * static_cast<int64_t>(sizeof(T)), rows,
                         dim * static_cast<int64_t>(sizeof(T))};
  }
  /** Spreads what was added over this many steps. */
  void over(int64_t steps) {
    int64_t rows = 0;
    for (int i = 0; i < count_; i++) rows += pieces_[i].rows;
    rows_per_step_ = (rows + steps - 1) / steps;
  }
  void step() {
    for (int64_t n = rows_per_step_; n > 0 && next_ < count_; n--) {
      Piece& piece = pieces_[next_];
      for (int64_t i = 0; i < piece.bytes; i += 64) __builtin_prefetch(piece.at + i, 0, 2);
      piece.at += piece.stride;
      if (--piece.rows == 0) next_++;
    }
  }

 private:
  struct Piece {
    const char* at;
    int64_t stride, rows, bytes;
  };
  Piece pieces_[8];
  int count_ = 0, next_ = 0;
  int64_t rows_per_step_ = 0;
};

/** Bytes of one Scratch, a multiple of 64. */
template <class Scratch, class... Args>
size_t scratch_bytes(const Args&... args) {
  Carver counter{nullptr};
  Scratch s(counter, args...);
  (void)s;
  return counter.used;
}

/** 2^x for x <= 127, NaN stays NaN; below -126 it gives 2^-126. kDegree 6: 1 ulp (Cephes exp2f, Moshier); 4: 3e-6. */
template <int kDegree>
THALWEG_INLINE F exp2(F x) {
  x = max(set1(-126.0f), x);
  const F n = round_even(x);
  const F f = x - n;
  F p;
  if constexpr (kDegree == 6) {
    p = set1(1.535336188319500e-4f);
    p = fma(p, f, set1(1.339887440266574e-3f));
    p = fma(p, f, set1(9.618437357674640e-3f));
    p = fma(p, f, set1(5.550332471162809e-2f));
    p = fma(p, f, set1(2.402264791363012e-1f));
    p = fma(p, f, set1(6.931472028550421e-1f));
    p = fma(p, f, set1(1.0f));
  } else {
    static_assert(kDegree == 4);
    p = set1(9.58285e-3f);
    p = fma(p, f, set1(5.590642e-2f));
    p = fma(p, f, set1(2.4024099e-1f));
    p = fma(p, f, set1(6.9312419e-1f));
    p = fma(p, f, set1(1.0f));
  }
#if THALWEG_SIMD >= 2
  return scale_by_power(p, n);
#else
  return reinterpret_cast<F>(reinterpret_cast<I>(p) + (__builtin_convertvector(n, I) << 23));
#endif
}

/** x with its first `dead` lanes (clamped to 0..kWidth) replaced. */
THALWEG_INLINE F blank(F x, int64_t dead, F with) {
  if (dead <= 0) return x;
  return select(first_lanes(static_cast<int>(std::min<int64_t>(dead, kWidth))), with, x);
}

/** x with the lanes replaced from which key `row` is hidden: those with row < from, see Documents. */
THALWEG_INLINE F hide(F x, int64_t row, F from, F with) {
  return select(less(set1(static_cast<float>(row)), from), with, x);
}

/** What kWidth queries see of a block of keys, lane i being query first_query + i: rows below `keys`, of which from row
 * `masked` on key r is hidden from the queries before it, and with kWithin rows before `from` are, see Documents. keys
 * and masked are multiples of the strips in which the diagonal is computed. */
template <bool kWithin>
struct Column {
  int64_t keys, masked, first_query;
  F from;

  Column(int64_t query, int64_t strip, bool diagonal, const float* hidden)
      : keys(kBlock), masked(kBlock), first_query(query), from(zero()) {
    if (diagonal) masked = query / strip * strip, keys = masked + strip;
    if constexpr (kWithin) from = load(hidden + query);
  }
  /** x of row r, `with` where its document hides it. */
  __attribute__((always_inline)) F within(F x, int64_t r, float with) const {
    if constexpr (kWithin) return hide(x, r, from, set1(with));
    return x;
  }
  /** The same from row `masked` on. */
  __attribute__((always_inline)) F below(F x, int64_t r, float with) const {
    return within(blank(x, r - first_query, set1(with)), r, with);
  }
};

/** The maximum of a query that has seen no key yet: finite, so that a hidden score lies infinitely far below it. */
constexpr float kNothingSeen = -0x1p126f;

/** lse = ln 2 * (m + log2 l) of the valid queries of a block, spread over the rows of lse [rows, heads]. */
THALWEG_INLINE void write_lse(const float* m, const float* l, int64_t rows, float* lse, int64_t stride) {
  for (int64_t r = 0; r < rows; r++) lse[r * stride] = m[r] * kLn2 + __builtin_logf(l[r]);
}

/** lse2 = lse log2(e) and delta = rowsum(dy * y) of the valid queries of a block; zero for the padding, whose P then
 * multiplies zeros only. */
template <class T>
inline void row_sums(const T* y, const T* dy, const Shape& s, const float* lse, int64_t rows, float* lse2,
                     float* delta) {
  std::fill(lse2, lse2 + kBlock, 0.0f);
  std::fill(delta, delta + kBlock, 0.0f);
  for (int64_t r = 0; r < rows; r++) {
    F sum = zero();
    for (int64_t d = 0; d < s.dim; d += kWidth) {
      const int n = static_cast<int>(std::min<int64_t>(kWidth, s.dim - d));
      sum = fma(load_part(y + r * s.y_stride() + d, n), load_part(dy + r * s.y_stride() + d, n), sum);
    }
    lse2[r] = lse[r * s.heads] * kLog2e;
#if THALWEG_SIMD >= 2
    delta[r] = _mm512_reduce_add_ps(sum);
#else
    delta[r] = reduce_add(sum);
#endif
  }
}

/** Stores `rows` rows of x [.., width], each times its factor (one for all when `factors` is null), as activations. */
template <class T>
inline void unpack_rows(const float* x, int64_t width, int64_t rows, int64_t dim, const float* factors, float factor,
                        T* out, int64_t stride) {
  for (int64_t r = 0; r < rows; r++) {
    const F f = set1(factors ? factors[r] : factor);
    for (int64_t d = 0; d < dim; d += kWidth)
      store_part(out + r * stride + d, load(x + r * width + d) * f,
                 static_cast<int>(std::min<int64_t>(kWidth, dim - d)));
  }
}

}  // namespace thalweg::cpu::THALWEG_ISA::attn
