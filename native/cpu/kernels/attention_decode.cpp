/**
 * Attention of one new token per sequence against the cached keys and values. Per sequence and kv head, with t =
 * cacheLength: k and v are appended at index t, then for each query head of the group
 *   p = softmax(scale q K[0..t]^T);  y = p V[0..t].
 *
 * Floor: K and V of the cache are read once, 2 * (t + 1) * dim elements per kv head; the query heads of a group share
 * the reading. A task is (sequence, kv head).
 */
#include "native/cpu/kernels/attention_common.h"
#include "native/ops/step_inputs.h"

namespace thalweg::cpu::THALWEG_ISA {
namespace attn {
namespace {

template <class T>
struct DecodeTask {
  const ops::AttentionDecode& p;
  int64_t row, kv, length;  // length: cached positions with the new one
  float* scores;            // [group, capacity]

  int64_t group() const { return p.heads / p.kv_heads; }
  const T* query(int64_t g) const { return head(kv * group() + g); }
  const T* head(int64_t index) const {
    return p.qkv.as<const T>() + (row * (p.heads + 2 * p.kv_heads) + index) * p.head_dim;
  }
  T* cached(const Tensor& cache, int64_t t) const {
    return cache.as<T>() + ((row * p.capacity + t) * p.kv_heads + kv) * p.head_dim;
  }

  void run() const {
    std::copy_n(head(p.heads + kv), p.head_dim, cached(p.k_cache, length - 1));
    std::copy_n(head(p.heads + p.kv_heads + kv), p.head_dim, cached(p.v_cache, length - 1));
    for (int64_t t = 0; t < length; t++)
      for (int64_t g = 0; g < group(); g++) scores[g * p.capacity + t] = dot(query(g), cached(p.k_cache, t));
    for (int64_t g = 0; g < group(); g++) {
      const float sum = softmax(scores + g * p.capacity);
      weigh(scores + g * p.capacity, 1.0f / sum, p.y.as<T>() + (row * p.heads + kv * group() + g) * p.head_dim);
    }
  }

 private:
  float dot(const T* a, const T* b) const {
    F sum = zero();
    for (int64_t d = 0; d < p.head_dim; d += kWidth) {
      const int n = static_cast<int>(std::min<int64_t>(kWidth, p.head_dim - d));
      sum = fma(load_part(a + d, n), load_part(b + d, n), sum);
    }
    return reduce_add(sum);
  }

  /** scores -> 2^(c score - max) with c = scale log2(e), in place; returns their sum. */
  float softmax(float* x) const {
    const F c = set1(p.scale * kLog2e);
    const F lowest = set1(-__builtin_inff());
    F most = lowest;
    for (int64_t t = 0; t < length; t += kWidth) {
      const int n = static_cast<int>(std::min<int64_t>(kWidth, length - t));
      const F scaled = load_part(x + t, n) * c;
      store_part(x + t, scaled, n);
      most = max(most, select(first_lanes(n), scaled, lowest));
    }
    const F top = set1(reduce_max(most));
    F sum = zero();
    for (int64_t t = 0; t < length; t += kWidth) {
      const int n = static_cast<int>(std::min<int64_t>(kWidth, length - t));
      const F e = select(first_lanes(n), exp2<6>(load_part(x + t, n) - top), zero());
      store_part(x + t, e, n);
      sum += e;
    }
    return reduce_add(sum);
  }

  /** y = factor * sum over t of weights[t] V[t], a vector of columns at a time. */
  void weigh(const float* weights, float factor, T* y) const {
    for (int64_t d = 0; d < p.head_dim; d += kWidth) {
      const int n = static_cast<int>(std::min<int64_t>(kWidth, p.head_dim - d));
      F sum[4] = {zero(), zero(), zero(), zero()};
      int64_t t = 0;
      for (; t + 4 <= length; t += 4)
        for (int i = 0; i < 4; i++)
          sum[i] = fma(set1(weights[t + i]), load_part(cached(p.v_cache, t + i) + d, n), sum[i]);
      for (; t < length; t++) sum[0] = fma(set1(weights[t]), load_part(cached(p.v_cache, t) + d, n), sum[0]);
      store_part(y + d, ((sum[0] + sum[1]) + (sum[2] + sum[3])) * set1(factor), n);
    }
  }
};

size_t decode_scratch(const ops::AttentionDecode& p) {
  Carver counter{nullptr};
  counter.take<float>(p.heads / p.kv_heads * p.capacity);
  return counter.used;
}

template <class T>
void decode(const ops::AttentionDecode& p, Context& ctx) {
  const int64_t length = static_cast<int64_t>(ctx.integers[ops::kIntegerCacheLength]) + 1;
  if (length < 1 || length > p.capacity)
    fail("BAD_PROGRAM", "attentionDecode was played with cacheLength ", length - 1, ", but its caches hold ",
         p.capacity, " positions: play it with 0 <= cacheLength < capacity, or make the caches larger.");
  ctx.pool.run(p.rows * p.kv_heads, [&](int64_t tile, int worker) {
    float* scores = reinterpret_cast<float*>(ctx.workspace + decode_scratch(p) * static_cast<size_t>(worker));
    DecodeTask<T>{p, tile / p.kv_heads, tile % p.kv_heads, length, scores}.run();
  });
}

}  // namespace
}  // namespace attn

void attention_decode(const ops::AttentionDecode& p, Context& ctx) {
  if (p.rows == 0) return;
  if (p.qkv.dtype == DType::F32) return attn::decode<float>(p, ctx);
  attn::decode<bf16>(p, ctx);
}

size_t attention_decode_workspace(const ops::AttentionDecode& p, int threads) {
  return attn::decode_scratch(p) * static_cast<size_t>(threads);
}

}  // namespace thalweg::cpu::THALWEG_ISA
