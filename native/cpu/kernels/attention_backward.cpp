/**
 * Causal attention, gradient. Per sequence and query head, with P recomputed from the saved lse:
 *   P = exp(scale Q K^T - lse);  delta = rowsum(dY * Y);  dP = dY V^T;  dS = P * (dP - delta)
 *   dV = P^T dY;  dK = scale dS^T Q;  dQ = scale dS K          (dK and dV summed over the query heads of the group)
 *
 * Floor: five products, 10 * pairs * dim flops per head, and one exponential per pair. All five are done in one pass
 * over pairs of blocks (two passes, one for dK and dV and one for dQ, would need no partial sums but seven products and
 * every exponential twice).
 *
 * A task is (sequence, kv head, chunk of key blocks): it owns dK and dV of its keys. It takes kKeyBlocks key blocks at
 * a time, so that K, V, dK, dV stay in the second-level cache, and walks the query blocks from their diagonal down; dQ
 * of a query block is summed over keys in increasing order. With one chunk (enough sequences and heads to fill a
 * machine) dQ is then complete; with more, each chunk leaves its part and a second phase adds them in order of chunks.
 * Chunks come from the shape only, so every sum has one order whatever the number of threads. With documents, pairs of
 * blocks that do not see each other are passed over, so a part of dQ begins with the first key block its queries see.
 */
#include "native/cpu/kernels/attention_fp32.h"
#if THALWEG_SIMD >= 3
#include "native/cpu/kernels/attention_amx.h"
#endif

namespace thalweg::cpu::THALWEG_ISA {
namespace attn {
namespace {

/** The state of one task in fp32: some key blocks with their gradients, and one block of queries. */
template <class T>
class Fp32Backward {
 public:
  using Act = T;
  static constexpr int64_t kSteps = 50;  // Ahead::step calls of one pair of blocks, roughly

  Fp32Backward(Carver& carver, const Shape& shape) : s_(shape), width_(round_up(shape.dim, kWidth)) {
    const int64_t keys = std::min(s_.blocks, kKeyBlocks) * kBlock;
    k_ = carver.take<float>(keys * width_);
    v_ = carver.take<float>(keys * width_);
    dk_ = carver.take<float>(keys * width_);
    dv_ = carver.take<float>(keys * width_);
    q_ = carver.take<float>(kBlock * width_);
    dy_ = carver.take<float>(kBlock * width_);
    qt_ = carver.take<float>(kBlock * s_.dim);
    dyt_ = carver.take<float>(kBlock * s_.dim);
    st_ = carver.take<float>(kBlock * kBlock);
    dpt_ = carver.take<float>(kBlock * kBlock);
    lse2_ = carver.take<float>(kBlock);
    delta_ = carver.take<float>(kBlock);
  }

  /** Floats of dQ of one query block, in this class's own order. */
  static int64_t block_size(const Shape& s) { return kBlock * round_up(s.dim, kWidth); }

  void load_keys(int64_t slot, const T* k, const T* v, int64_t rows) {
    const int64_t at = slot * kBlock * width_;
    pack_rows(k, s_.qkv_stride(), rows, s_.dim, width_, k_ + at);
    pack_rows(v, s_.qkv_stride(), rows, s_.dim, width_, v_ + at);
    std::fill(dk_ + at, dk_ + at + kBlock * width_, 0.0f);
    std::fill(dv_ + at, dv_ + at + kBlock * width_, 0.0f);
  }

  void load_queries(const T* q, const T* y, const T* dy, const float* lse, int64_t rows) {
    pack_rows(q, s_.qkv_stride(), rows, s_.dim, width_, q_);
    pack_rows(dy, s_.y_stride(), rows, s_.dim, width_, dy_);
    transpose_block(q_, width_, s_.dim, s_.scale * kLog2e, qt_);
    transpose_block(dy_, width_, s_.dim, 1.0f, dyt_);
    row_sums(y, dy, s_, lse, rows, lse2_, delta_);
  }

  void pair(int64_t slot, float* dq, bool diagonal, const float* hidden, Ahead& ahead) {
    const int64_t at = slot * kBlock * width_;
    scores(s_.dim, k_ + at, width_, qt_, st_, diagonal, ahead);
    scores(s_.dim, v_ + at, width_, dyt_, dpt_, diagonal, ahead);
    softmax_gradient(st_, dpt_, lse2_, delta_, diagonal, hidden);
    add_to_keys(width_, st_, dy_, dv_ + at, diagonal, ahead);
    add_to_keys(width_, dpt_, q_, dk_ + at, diagonal, ahead);
    add_to_queries(width_, dpt_, k_ + at, dq, diagonal, ahead);
  }

  void store_queries(const float* dq, int64_t rows, T* out) {
    unpack_rows(dq, width_, rows, s_.dim, nullptr, s_.scale, out, s_.qkv_stride());
  }

  void store_keys(int64_t slot, int64_t rows, T* dk, T* dv) {
    const int64_t at = slot * kBlock * width_;
    unpack_rows(dk_ + at, width_, rows, s_.dim, nullptr, s_.scale, dk, s_.qkv_stride());
    unpack_rows(dv_ + at, width_, rows, s_.dim, nullptr, 1.0f, dv, s_.qkv_stride());
  }

 private:
  Shape s_;
  int64_t width_;
  float *k_, *v_, *dk_, *dv_, *q_, *dy_, *qt_, *dyt_, *st_, *dpt_, *lse2_, *delta_;
};

/** One chunk where sequences and kv heads already make tasks enough; else up to four, of at least four blocks. */
Chunks backward_chunks(const Shape& s) {
  constexpr int64_t kTasks = 48, kMost = 4, kShortest = 4;
  const int64_t wanted = (kTasks + s.pairs() - 1) / s.pairs();
  return {s.blocks, std::clamp<int64_t>(std::min(wanted, s.blocks / kShortest), 1, kMost)};
}

/** Where the parts of dQ lie: one chunk: a buffer of the worker [group, blocks]; more: shared, chunk by chunk, [batch,
 * heads, blocks from the chunk's first on]. */
template <class Math>
struct Plan {
  Shape s;
  Chunks chunks;
  size_t math_bytes, worker_bytes, block_bytes;

  explicit Plan(const Shape& shape) : s(shape), chunks(backward_chunks(shape)), math_bytes(scratch_bytes<Math>(shape)) {
    block_bytes = static_cast<size_t>(Math::block_size(s)) * sizeof(float);
    const int64_t own = chunks.count == 1 ? s.group * s.blocks : 1;  // with more chunks: the sum of the second phase
    worker_bytes = math_bytes + block_bytes * static_cast<size_t>(own);
  }
  /** Blocks of dQ parts that the chunks before this one keep. */
  int64_t shared_before(int64_t chunk) const {
    int64_t blocks = 0;
    for (int64_t c = 0; c < chunk; c++) blocks += s.batch * s.heads * (s.blocks - chunks.first(c));
    return blocks;
  }
  size_t bytes(int threads) const {
    const int64_t shared = chunks.count == 1 ? 0 : shared_before(chunks.count);
    return worker_bytes * static_cast<size_t>(threads) + block_bytes * static_cast<size_t>(shared);
  }
};

template <class Math>
class Backward {
  using T = typename Math::Act;

 public:
  Backward(const ops::AttentionBackward& p, Context& ctx) : p_(p), ctx_(ctx), plan_(shape_of(p)), s_(plan_.s) {
    shared_ = reinterpret_cast<float*>(ctx.workspace + plan_.worker_bytes * static_cast<size_t>(ctx.pool.threads()));
    block_ = Math::block_size(s_);
  }

  void run() {
    ctx_.pool.run(s_.pairs() * plan_.chunks.count, [&](int64_t tile, int worker) {
      const int64_t pair = tile % s_.pairs();  // chunk 0, which most queries see, first
      keys_task(tile / s_.pairs(), pair / s_.kv_heads, pair % s_.kv_heads, worker);
    });
    if (plan_.chunks.count == 1) return;
    ctx_.pool.run(s_.batch * s_.heads * s_.blocks,
                  [&](int64_t tile, int worker) { queries_task(tile / s_.blocks, tile % s_.blocks, worker); });
  }

 private:
  std::byte* scratch(int worker) { return ctx_.workspace + plan_.worker_bytes * static_cast<size_t>(worker); }
  float* own_dq(int worker) { return reinterpret_cast<float*>(scratch(worker) + plan_.math_bytes); }
  float* shared_dq(int64_t chunk, int64_t batch_head, int64_t block) {
    const int64_t first = plan_.chunks.first(chunk);
    return shared_ + (plan_.shared_before(chunk) + batch_head * (s_.blocks - first) + block - first) * block_;
  }

  void keys_task(int64_t chunk, int64_t b, int64_t kv, int worker) {
    Carver carver{scratch(worker)};
    Math math(carver, s_);
    const int64_t end = plan_.chunks.first(chunk + 1);
    for (int64_t j0 = plan_.chunks.first(chunk); j0 < end; j0 += kKeyBlocks) {
      const int64_t j1 = std::min(end, j0 + kKeyBlocks);
      for (int64_t g = 0; g < s_.group; g++) head_over_keys(math, {chunk, b, kv, g, j0, j1}, worker);
      T* dqkv = p_.dqkv.as<T>() + j0 * kBlock * s_.qkv_stride();
      for (int64_t j = j0; j < j1; j++, dqkv += kBlock * s_.qkv_stride())
        math.store_keys(j - j0, s_.rows(j), dqkv + s_.k(b, kv), dqkv + s_.v(b, kv));
    }
  }

  struct Part {
    int64_t chunk, b, kv, g, j0, j1;  // key blocks j0 .. j1 - 1 of the chunk, seen by query head g of the group
  };

  /** All query blocks of one head that see these keys. */
  void head_over_keys(Math& math, const Part& part, int worker) {
    const int64_t h = part.kv * s_.group + part.g, batch_head = part.b * s_.heads + h;
    const bool whole = plan_.chunks.count == 1;
    const int64_t block = kBlock * s_.qkv_stride(), y_block = kBlock * s_.y_stride();
    const T *q = p_.qkv.as<const T>() + s_.q(part.b, h), *y = p_.y.as<const T>() + s_.y(part.b, h),
            *dy = p_.dy.as<const T>() + s_.y(part.b, h), *k = p_.qkv.as<const T>() + s_.k(part.b, part.kv),
            *v = p_.qkv.as<const T>() + s_.v(part.b, part.kv);
    const float* lse = p_.lse.as<const float>() + part.b * s_.seq * s_.heads + h;
    T* out = p_.dqkv.as<T>() + s_.q(part.b, h);
    Ahead ahead;
    Documents documents(p_.starts, s_, part.b);
    const int64_t end = documents.queries_end(part.j1, s_.blocks);
    for (int64_t i = part.j0; i < end; i++) {
      const bool diagonal = i < part.j1, last_use = whole && diagonal;
      const int64_t seen = std::max(documents.first_keys(i), plan_.chunks.first(part.chunk));  // in this chunk
      if (diagonal && part.g == 0) math.load_keys(i - part.j0, k + i * block, v + i * block, s_.rows(i));
      math.load_queries(q + i * block, y + i * y_block, dy + i * y_block, lse + i * kBlock * s_.heads, s_.rows(i));
      float* dq = whole ? own_dq(worker) + (part.g * s_.blocks + i) * block_ : shared_dq(part.chunk, batch_head, i);
      if (seen >= part.j0) std::fill(dq, dq + block_, 0.0f);

      ahead.clear();
      if (last_use) ahead.add(out + i * block, s_.qkv_stride(), s_.rows(i), s_.dim);
      if (const int64_t next = i + 1; next < end) {
        ahead.add(q + next * block, s_.qkv_stride(), s_.rows(next), s_.dim);
        ahead.add(dy + next * y_block, s_.y_stride(), s_.rows(next), s_.dim);
        ahead.add(y + next * y_block, s_.y_stride(), s_.rows(next), s_.dim);
        if (next < part.j1 && part.g == 0) {
          ahead.add(k + next * block, s_.qkv_stride(), s_.rows(next), s_.dim);
          ahead.add(v + next * block, s_.qkv_stride(), s_.rows(next), s_.dim);
        }
      }
      if (i + 1 == end && part.g + 1 == s_.group) {
        const int64_t keys = std::min(part.j1 * kBlock, s_.seq) - part.j0 * kBlock;
        const T* dqkv = p_.dqkv.as<const T>() + part.j0 * block;
        ahead.add(dqkv + s_.k(part.b, part.kv), s_.qkv_stride(), keys, s_.dim);
        ahead.add(dqkv + s_.v(part.b, part.kv), s_.qkv_stride(), keys, s_.dim);
      }
      const int64_t first = std::max(part.j0, seen), j1 = std::min(part.j1, i + 1);
      ahead.over(Math::kSteps * (j1 - first));
      for (int64_t j = first; j < j1; j++) math.pair(j - part.j0, dq, j == i, documents.hidden(i, j), ahead);
      if (last_use) math.store_queries(dq, s_.rows(i), out + i * block);
    }
  }

  /** Adds the parts of dQ of one query block, chunk by chunk, from the first whose keys it sees. */
  void queries_task(int64_t batch_head, int64_t block, int worker) {
    Carver carver{scratch(worker)};
    Math math(carver, s_);
    float* sum = own_dq(worker);
    const Documents documents(p_.starts, s_, batch_head / s_.heads);
    int64_t first = 0;
    while (plan_.chunks.first(first + 1) <= documents.first_keys(block)) first++;
    std::copy_n(shared_dq(first, batch_head, block), block_, sum);
    for (int64_t c = first + 1; c < plan_.chunks.count && plan_.chunks.first(c) <= block; c++) {
      const float* part = shared_dq(c, batch_head, block);
      for (int64_t e = 0; e < block_; e += kWidth) store(sum + e, load(sum + e) + load(part + e));
    }
    T* out = p_.dqkv.as<T>() + s_.q(batch_head / s_.heads, batch_head % s_.heads);
    math.store_queries(sum, s_.rows(block), out + block * kBlock * s_.qkv_stride());
  }

  const ops::AttentionBackward& p_;
  Context& ctx_;
  Plan<Math> plan_;
  const Shape& s_;
  float* shared_;
  int64_t block_;
};

template <class Use>
auto with_math(DType act, Use use) {
  if (act == DType::F32) return use(static_cast<Fp32Backward<float>*>(nullptr));
#if THALWEG_SIMD >= 3
  return use(static_cast<TileBackward*>(nullptr));
#else
  return use(static_cast<Fp32Backward<bf16>*>(nullptr));
#endif
}

}  // namespace
}  // namespace attn

void attention_backward(const ops::AttentionBackward& p, Context& ctx) {
  if (p.rows == 0) return;
  attn::with_math(p.qkv.dtype, [&]<class Math>(Math*) { attn::Backward<Math>(p, ctx).run(); });
}

size_t attention_backward_workspace(const ops::AttentionBackward& p, int threads) {
  return attn::with_math(p.qkv.dtype,
                         [&]<class Math>(Math*) { return attn::Plan<Math>(attn::shape_of(p)).bytes(threads); });
}

}  // namespace thalweg::cpu::THALWEG_ISA
