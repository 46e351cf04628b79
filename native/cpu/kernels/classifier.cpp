// classifier: softmax cross-entropy of each row of logits [rows, columns] over its first `vocab` columns, and its
// gradient over the memory of the logits. The hot elementwise kernel of a step (rows * vocab elements).
// Bytes: logits read once, dlogits written once. FLOPs: one exponential per element.
// Plan for a row, in chunks of kChunk columns that stay in L1:
//   m_c = largest logit of chunk c; e = exp(x - m_c) into an fp32 row in L2 (per worker); s_c = sum e
//   m = max m_c, lse = m + log(sum_c s_c exp(m_c - m))                                  (online softmax, by chunk)
//   dlogits = e * exp(m_c - lse) * lossScale * (1 + 2 zLoss lse), minus lossScale at the target
#include "native/base/error.h"
#include "native/cpu/kernels/declare.h"
#include "native/cpu/kernels/simd.h"
#include "native/cpu/kernels/tiles.h"
#include "native/ops/step_inputs.h"

namespace thalweg::cpu::THALWEG_ISA {

namespace {

constexpr int64_t kChunk = 4096;
/** Stands for the maximum of a chunk of -inf, so that -inf - max is -inf and not NaN. */
constexpr float kLowest = -3.0e38f;

/** One worker's room: exponentials of a row and the maximum of each chunk. */
struct Room {
  float* exps;   // [vocab]
  float* peaks;  // [chunks]
};

size_t room_floats(int64_t vocab) {
  return (lines(static_cast<size_t>(vocab) * 4) + lines(static_cast<size_t>(blocks_of(vocab, kChunk)) * 4)) / 4;
}

template <class T>
THALWEG_INLINE float chunk_max(const T* x, int64_t count) {
  F a = set1(kLowest), b = a, c = a, d = a;
  int64_t i = 0;
  for (; i + 4 * kWidth <= count; i += 4 * kWidth) {
    a = max(a, load(x + i));
    b = max(b, load(x + i + kWidth));
    c = max(c, load(x + i + 2 * kWidth));
    d = max(d, load(x + i + 3 * kWidth));
  }
  for (; i + kWidth <= count; i += kWidth) a = max(a, load(x + i));
  float most = reduce_max(max(max(a, b), max(c, d)));
  for (; i < count; i++) most = widen_one(x[i]) > most ? widen_one(x[i]) : most;
  return most;
}

/** Sum of exp(x - peak); the terms go to exps when kStore. */
template <bool kStore, class T>
THALWEG_INLINE float chunk_sum(const T* x, int64_t count, float peak, float* exps) {
  const F top = set1(peak);
  F a = zero(), b = zero();
  int64_t i = 0;
  for (; i + 2 * kWidth <= count; i += 2 * kWidth) {
    // The next chunk comes in while this one computes (past the row's end that is the next row; prefetches never
    // fault).
    for (int v = 0; v < 2; v++) __builtin_prefetch(x + i + kChunk + v * kWidth);
    const F e0 = exp_nonpositive(load(x + i) - top), e1 = exp_nonpositive(load(x + i + kWidth) - top);
    a = a + e0;
    b = b + e1;
    if constexpr (kStore) {
      store(exps + i, e0);
      store(exps + i + kWidth, e1);
    }
  }
  for_lanes(
      count - i, [&](int64_t j, int n) __attribute__((always_inline)) {
        const F e = select(first_lanes(n), exp_nonpositive(load_part(x + i + j, n) - top), zero());
        a = a + e;
        if constexpr (kStore) store_part(exps + i + j, e, n);
      });
  return reduce_add(a + b);
}

/** log sum exp of a row. */
template <bool kStore, class T>
double row_lse(const T* x, int64_t vocab, const Room& room) {
  double most = kLowest, total = 0;  // total counts exp(x - most)
  for (int64_t begin = 0; begin < vocab; begin += kChunk) {
    const int64_t count = begin + kChunk < vocab ? kChunk : vocab - begin;
    const float peak = chunk_max(x + begin, count);
    const float sum = chunk_sum<kStore>(x + begin, count, peak, room.exps + begin);
    if constexpr (kStore) room.peaks[begin / kChunk] = peak;
    if (peak > most) {
      total = total * __builtin_exp(most - peak) + sum;
      most = peak;
    } else {
      total += sum * __builtin_exp(peak - most);
    }
  }
  return most + __builtin_log(total);
}

/** dlogits of a row from its stored exponentials: factor * softmax. */
template <class T>
void row_gradient(const Room& room, int64_t vocab, double lse, double factor, T* dx) {
  for (int64_t begin = 0; begin < vocab; begin += kChunk) {
    const int64_t count = begin + kChunk < vocab ? kChunk : vocab - begin;
    const F scale = set1(static_cast<float>(__builtin_exp(room.peaks[begin / kChunk] - lse) * factor));
    const float* e = room.exps + begin;
    T* to = dx + begin;
    for_lanes(
        count, [&](int64_t i, int n)
                   __attribute__((always_inline)) { store_part(to + i, load_part(e + i, n) * scale, n); });
  }
}

template <class T>
void zero_lanes(T* to, int64_t count) {
  for_lanes(
      count, [&](int64_t i, int n) __attribute__((always_inline)) { store_part(to + i, zero(), n); });
}

template <class T>
void put_one(T* at, float value) {
  store_n(at, set1(value), 1);
}

/** loss, lse and, when dx is given, the gradient of one row. x and dx may be the same memory. */
template <class T>
void classify_row(const ops::Classifier& p, const T* x, int32_t target, const Room& room, double loss_scale, int64_t r,
                  T* dx) {
  const bool counted = target >= 0;
  const float picked = counted ? widen_one(x[target]) : 0.0f;
  const double lse = dx != nullptr && counted ? row_lse<true>(x, p.vocab, room) : row_lse<false>(x, p.vocab, room);
  p.lse.as<float>()[r] = static_cast<float>(lse);
  p.loss.as<float>()[r] = counted ? static_cast<float>(lse - picked) : 0.0f;
  if (dx == nullptr) return;
  if (!counted) {
    zero_lanes(dx, p.columns);
    return;
  }
  const double factor = loss_scale * (1.0 + 2.0 * p.z_loss * lse);
  row_gradient(room, p.vocab, lse, factor, dx);
  put_one(dx + target, static_cast<float>(__builtin_exp(picked - lse) * factor - loss_scale));
  zero_lanes(dx + p.vocab, p.columns - p.vocab);
}

template <class T>
void classify(const ops::Classifier& p, Context& ctx) {
  const int32_t* targets = p.targets.as<int32_t>();
  float* rooms = reinterpret_cast<float*>(ctx.workspace);
  const size_t room_size = room_floats(p.vocab);
  const double loss_scale = ctx.scalars[ops::kScalarLossScale];
  run_blocks(ctx.pool, p.rows, tile_rows(p.columns), [&](int64_t begin, int64_t end, int worker) {
    float* exps = rooms + static_cast<size_t>(worker) * room_size;
    const Room room = {exps, exps + lines(static_cast<size_t>(p.vocab) * 4) / 4};
    for (int64_t r = begin; r < end; r++)
      classify_row(p, p.logits.as<T>() + r * p.columns, targets[r], room, loss_scale, r,
                   p.dlogits.present() ? p.dlogits.as<T>() + r * p.columns : nullptr);
  });
}

}  // namespace

void classifier(const ops::Classifier& p, Context& ctx) {
  const int32_t* targets = p.targets.as<int32_t>();
  for (int64_t r = 0; r < p.rows; r++)
    if (targets[r] >= p.vocab)
      fail("BAD_INPUT", "classifier: row ", r, " has target ", targets[r], ", but the vocabulary has ", p.vocab,
           " tokens (0 to ", p.vocab - 1, "; negative targets are ignored).");
  p.logits.dtype == DType::BF16 ? classify<bf16>(p, ctx) : classify<float>(p, ctx);
}
size_t classifier_workspace(const ops::Classifier& p, int threads) {
  return room_floats(p.vocab) * 4 * static_cast<size_t>(threads);
}

}  // namespace thalweg::cpu::THALWEG_ISA
