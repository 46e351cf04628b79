/**
 * Causal attention, forward. Per sequence and query head, with kv = head / group:
 *   S = scale Q K^T [seq, seq], causal;  P = softmax(S);  y = P V;  lse = log sum exp of the rows of S.
 *
 * Floor: 4 * pairs * dim flops per head, pairs = seq (seq + 1) / 2, and one exponential per pair (which costs more time
 * than the products do on AMX tiles). S never exists: a task walks a block of 64 queries over the blocks of 64 keys up
 * to the diagonal, keeping the running maximum m, sum l and unnormalised output O of its queries (online softmax:
 * Milakov & Gimelshein 2018; Dao et al. 2022). With documents it begins at the block that holds the first key its first
 * query sees, and blocks with keys that some query does not see are masked row by row.
 *
 * A task is (sequence, kv head, chunk of query blocks). It packs the keys and values it can see once and uses them for
 * all query heads of the group. Memory per thread is linear in seq; chunks depend on the shape only, so results do not
 * depend on the number of threads.
 */
#include "native/cpu/kernels/attention_fp32.h"
#if THALWEG_SIMD >= 3
#include "native/cpu/kernels/attention_amx.h"
#endif

namespace thalweg::cpu::THALWEG_ISA {
namespace attn {
namespace {

/** The state of one task in fp32: packed K and V of the sequence, and one block of queries. */
template <class T>
class Fp32Forward {
 public:
  using Act = T;
  static constexpr int64_t kSteps = 20;  // Ahead::step calls of one pair of blocks, roughly

  Fp32Forward(Carver& carver, const Shape& shape) : s_(shape), width_(round_up(shape.dim, kWidth)) {
    k_ = carver.take<float>(s_.blocks * kBlock * width_);
    v_ = carver.take<float>(s_.blocks * kBlock * width_);
    rows_ = carver.take<float>(kBlock * width_);
    qt_ = carver.take<float>(kBlock * s_.dim);
    st_ = carver.take<float>(kBlock * kBlock);
    out_ = carver.take<float>(kBlock * width_);
    m_ = carver.take<float>(kBlock);
    l_ = carver.take<float>(kBlock);
    alpha_ = carver.take<float>(kBlock);
  }

  void pack_keys(int64_t block, const T* k, const T* v, int64_t rows) {
    pack_rows(k, s_.qkv_stride(), rows, s_.dim, width_, k_ + block * kBlock * width_);
    pack_rows(v, s_.qkv_stride(), rows, s_.dim, width_, v_ + block * kBlock * width_);
  }

  void start_queries(const T* q, int64_t rows) {
    pack_rows(q, s_.qkv_stride(), rows, s_.dim, width_, rows_);
    transpose_block(rows_, width_, s_.dim, s_.scale * kLog2e, qt_);
    std::fill(out_, out_ + kBlock * width_, 0.0f);
    std::fill(m_, m_ + kBlock, -__builtin_inff());
    std::fill(l_, l_ + kBlock, 0.0f);
  }

  void attend(int64_t block, bool diagonal, const float* hidden, Ahead& ahead) {
    scores(s_.dim, k_ + block * kBlock * width_, width_, qt_, st_, diagonal, ahead);
    online_softmax(st_, m_, l_, alpha_, diagonal, hidden);
    for (int64_t r = 0; r < kBlock; r++) {
      if (alpha_[r] == 1.0f) continue;
      const F fade = set1(alpha_[r]);
      for (int64_t d = 0; d < width_; d += kWidth) store(out_ + r * width_ + d, load(out_ + r * width_ + d) * fade);
    }
    add_to_queries(width_, st_, v_ + block * kBlock * width_, out_, diagonal, ahead);
  }

  void finish(int64_t rows, T* y, float* lse) {
    for (int64_t r = 0; r < rows; r++) alpha_[r] = 1.0f / l_[r];
    unpack_rows(out_, width_, rows, s_.dim, alpha_, 1.0f, y, s_.y_stride());
    write_lse(m_, l_, rows, lse, s_.heads);
  }

 private:
  Shape s_;
  int64_t width_;
  float *k_, *v_, *rows_, *qt_, *st_, *out_, *m_, *l_, *alpha_;
};

/** Enough tasks for 64 threads where the shape allows, with at least two blocks of queries for each packing of the
 * keys. */
Chunks forward_chunks(const Shape& s) {
  constexpr int64_t kTasks = 128;
  const int64_t wanted = (kTasks + s.pairs() - 1) / s.pairs();
  const int64_t most = std::min(s.blocks, std::max<int64_t>(1, s.blocks * s.group / 2));
  return {s.blocks, std::clamp<int64_t>(wanted, 1, most)};
}

template <class Math>
class Forward {
  using T = typename Math::Act;

 public:
  Forward(const ops::Attention& p, Context& ctx)
      : p_(p), ctx_(ctx), s_(shape_of(p)), chunks_(forward_chunks(s_)), qkv_(p.qkv.as<const T>()) {}

  void run() {
    ctx_.pool.run(s_.pairs() * chunks_.count, [&](int64_t tile, int worker) {
      const int64_t chunk = chunks_.count - 1 - tile / s_.pairs();  // the longest rows first
      const int64_t pair = tile % s_.pairs();
      task(pair / s_.kv_heads, pair % s_.kv_heads, chunks_.first(chunk), chunks_.first(chunk + 1), worker);
    });
  }

 private:
  void task(int64_t b, int64_t kv, int64_t first, int64_t end, int worker) {
    Carver carver{ctx_.workspace + scratch_bytes<Math>(s_) * static_cast<size_t>(worker)};
    Math math(carver, s_);
    Ahead ahead;
    Documents documents(p_.starts, s_, b);
    const T *keys = qkv_ + s_.k(b, kv), *values = qkv_ + s_.v(b, kv);
    const int64_t block = kBlock * s_.qkv_stride(), h0 = kv * s_.group;
    for (int64_t h = h0; h < h0 + s_.group; h++) {
      const T* queries = qkv_ + s_.q(b, h);
      for (int64_t i = first; i < end; i++) {
        if (h == h0)  // keys are packed when first seen
          for (int64_t j = i == first ? documents.first_keys(i) : i; j <= i; j++)
            math.pack_keys(j, keys + j * block, values + j * block, s_.rows(j));
        math.start_queries(queries + i * block, s_.rows(i));
        T* y = p_.y.as<T>() + s_.y(b, h) + i * kBlock * s_.y_stride();
        ahead.clear();
        ahead.add(y, s_.y_stride(), s_.rows(i), s_.dim);
        if (i + 1 < end) {
          ahead.add(queries + (i + 1) * block, s_.qkv_stride(), s_.rows(i + 1), s_.dim);
          if (h == h0) {
            ahead.add(keys + (i + 1) * block, s_.qkv_stride(), s_.rows(i + 1), s_.dim);
            ahead.add(values + (i + 1) * block, s_.qkv_stride(), s_.rows(i + 1), s_.dim);
          }
        }
        const int64_t from = documents.first_keys(i);
        ahead.over(Math::kSteps * (i + 1 - from));
        for (int64_t j = from; j <= i; j++) math.attend(j, j == i, documents.hidden(i, j), ahead);
        math.finish(s_.rows(i), y, p_.lse.as<float>() + (b * s_.seq + i * kBlock) * s_.heads + h);
      }
    }
  }

  const ops::Attention& p_;
  Context& ctx_;
  Shape s_;
  Chunks chunks_;
  const T* qkv_;
};

}  // namespace
}  // namespace attn

void attention(const ops::Attention& p, Context& ctx) {
  if (p.rows == 0) return;
  if (p.qkv.dtype == DType::F32) return attn::Forward<attn::Fp32Forward<float>>(p, ctx).run();
#if THALWEG_SIMD >= 3
  attn::Forward<attn::TileForward>(p, ctx).run();
#else
  attn::Forward<attn::Fp32Forward<bf16>>(p, ctx).run();
#endif
}

size_t attention_workspace(const ops::Attention& p, int threads) {
  const attn::Shape s = attn::shape_of(p);
  size_t bytes = attn::scratch_bytes<attn::Fp32Forward<float>>(s);
#if THALWEG_SIMD >= 3
  if (p.qkv.dtype == DType::BF16) bytes = attn::scratch_bytes<attn::TileForward>(s);
#endif
  return bytes * static_cast<size_t>(threads);
}

}  // namespace thalweg::cpu::THALWEG_ISA
