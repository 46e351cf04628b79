#pragma once
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "native/base/tensor.h"
#include "test/native/check.h"

/** Attention and its gradient in float64, and how near a kernel must come: for the tests of every backend. */
namespace check::attention {

using thalweg::DType;

struct Problem {
  int64_t batch, seq, heads, kv_heads, dim;
  int64_t rows() const { return batch * seq; }
  int64_t qkv_width() const { return (heads + 2 * kv_heads) * dim; }
  int64_t y_width() const { return heads * dim; }
  float scale() const { return 1.0f / std::sqrt(static_cast<float>(dim)); }
  std::string name() const {
    std::ostringstream out;
    out << "batch " << batch << " seq " << seq << " heads " << heads << "/" << kv_heads << " dim " << dim;
    return out.str();
  }
};

inline uint16_t to_bf16(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, 4);
  return static_cast<uint16_t>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}
inline float from_bf16(uint16_t x) {
  const uint32_t bits = static_cast<uint32_t>(x) << 16;
  float f;
  std::memcpy(&f, &bits, 4);
  return f;
}

using Doubles = std::vector<double>;

/** Normal values that are exact in `act`. */
inline Doubles random_values(int64_t n, DType act, uint64_t stream) {
  std::mt19937_64 engine(check::seed() * 1000003 + stream);
  std::normal_distribution<float> normal;
  Doubles out(static_cast<size_t>(n));
  for (auto& x : out) {
    const float f = normal(engine);
    x = act == DType::BF16 ? from_bf16(to_bf16(f)) : f;
  }
  return out;
}

struct Reference {
  Doubles y, lse, dqkv;
  double cancelling = 0;  // the largest term p (|dy . v| + |dy . y|) |k| or |q| whose sum makes dq and dk
};

/** Positions where the documents of all rows begin; empty: every sequence is one document. */
using Starts = std::vector<int32_t>;

/** As the operand of the op; absent when empty. */
inline thalweg::Tensor operand_of(const Starts& starts) {
  thalweg::Tensor t;
  if (starts.empty()) return t;
  t.data = const_cast<int32_t*>(starts.data());
  t.dtype = DType::I32, t.rank = 1, t.shape[0] = static_cast<int64_t>(starts.size());
  return t;
}

/** The formulas as they stand, in float64; dy may be empty (forward only). */
inline Reference reference(const Problem& c, const Doubles& qkv, const Doubles& dy, double scale,
                           const Starts& starts = {}) {
  Reference out{Doubles(c.rows() * c.y_width()), Doubles(c.rows() * c.heads), Doubles(qkv.size()), 0};
  Doubles p(c.seq), ds(c.seq);
  const int64_t width = c.qkv_width(), group = c.heads / c.kv_heads;
  for (int64_t b = 0; b < c.batch; b++)
    for (int64_t h = 0; h < c.heads; h++)
      for (int64_t i = 0; i < c.seq; i++) {
        const int64_t row = b * c.seq + i, kv = h / group, first = starts.empty() ? 0 : starts[row];
        const int64_t q = row * width + h * c.dim, y = row * c.y_width() + h * c.dim;
        const auto k = [&](int64_t j) { return (b * c.seq + j) * width + (c.heads + kv) * c.dim; };
        const auto v = [&](int64_t j) { return k(j) + c.kv_heads * c.dim; };
        const auto dot = [&](const double* a, const double* e) {
          double sum = 0;
          for (int64_t d = 0; d < c.dim; d++) sum += a[d] * e[d];
          return sum;
        };
        double most = -std::numeric_limits<double>::infinity(), sum = 0;
        for (int64_t j = first; j <= i; j++) most = std::max(most, p[j] = scale * dot(&qkv[q], &qkv[k(j)]));
        for (int64_t j = first; j <= i; j++) sum += p[j] = std::exp(p[j] - most);
        out.lse[row * c.heads + h] = most + std::log(sum);
        for (int64_t j = first; j <= i; j++) {
          p[j] /= sum;
          for (int64_t d = 0; d < c.dim; d++) out.y[y + d] += p[j] * qkv[v(j) + d];
        }
        if (dy.empty()) continue;
        const double delta = dot(&dy[y], &out.y[y]);
        for (int64_t j = first; j <= i; j++) {
          const double g = scale * p[j] * (dot(&dy[y], &qkv[v(j)]) - delta);
          const double terms = scale * p[j] * (std::fabs(dot(&dy[y], &qkv[v(j)])) + std::fabs(delta));
          for (int64_t d = 0; d < c.dim; d++) {
            out.cancelling =
                std::max({out.cancelling, terms * std::fabs(qkv[k(j) + d]), terms * std::fabs(qkv[q + d])});
            out.dqkv[q + d] += g * qkv[k(j) + d];
            out.dqkv[k(j) + d] += g * qkv[q + d];
            out.dqkv[v(j) + d] += p[j] * dy[y + d];
          }
        }
      }
  return out;
}

/**
 * Documents in the sequences of a problem, by kind: 0 one over all, 1 every position its own, 2 a boundary at each
 * multiple of 64, 3 of 128, 4 short ones, 5 one boundary anywhere, 6 long ones with runs of single positions, 7 starts
 * that creep up, each position seeing some before it (no documents, but all that the op asks for).
 */
constexpr int kStartKinds = 8;
inline Starts random_starts(const Problem& c, int kind, uint64_t stream) {
  std::mt19937_64 engine(check::seed() * 1000003 + stream + static_cast<uint64_t>(kind) * 7919);
  const auto below = [&](int64_t n) { return static_cast<int64_t>(engine() % static_cast<uint64_t>(n)); };
  Starts starts(static_cast<size_t>(c.rows()));
  for (int64_t b = 0; b < c.batch; b++) {
    const int64_t only = below(c.seq);
    int64_t start = 0;
    for (int64_t t = 0; t < c.seq; t++) {
      const bool begins = kind == 1 || (kind == 2 && t % 64 == 0) || (kind == 3 && t % 128 == 0) ||
                          (kind == 4 && below(9) == 0) || (kind == 5 && t == only) ||
                          (kind == 6 && (below(90) == 0 || t % 70 > 66));
      if (begins) start = t;
      if (kind == 7) start = std::max(start, t - below(100));
      starts[static_cast<size_t>(b * c.seq + t)] = static_cast<int32_t>(start);
    }
  }
  return starts;
}

/** Query row r sees key row k: both of one sequence. */
inline bool sees(const Problem& c, const Starts& starts, int64_t r, int64_t k) {
  return k <= r && r / c.seq == k / c.seq && k % c.seq >= starts[static_cast<size_t>(r)];
}

struct Closeness {
  double worst, mean;  // largest error / largest reference; root mean square error / root mean square reference
};

/** `rounding`: what fp32 may lose beyond the tolerance in terms that cancel. */
inline void compare(const std::string& what, const Doubles& found, const Doubles& want, Closeness tolerance,
                    double rounding = 0) {
  double worst = 0, most = 0, error2 = 0, want2 = 0;
  for (size_t i = 0; i < want.size(); i++) {
    const double e = std::fabs(found[i] - want[i]);
    CHECK(!std::isnan(e), what, ": NaN at ", i);
    worst = std::max(worst, e), most = std::max(most, std::fabs(want[i]));
    error2 += e * e, want2 += want[i] * want[i];
  }
  constexpr double kFloor = 0.3;  // sums over few positions may vanish
  const double n = static_cast<double>(want.size()), mean = std::sqrt(error2 / n);
  CHECK(worst <= tolerance.worst * std::max(most, kFloor) + 16 * rounding &&
            mean <= tolerance.mean * std::max(std::sqrt(want2 / n), kFloor) + rounding,
        what, ": worst ", worst, " of ", most, ", root mean square error ", mean, " of ", std::sqrt(want2 / n));
}

/**
 * dq, dk and dv apart: they differ in size. dq and dk may vanish (one position: both are 0) while dy . v and dy . y,
 * which cancel in them, do not: each is a sum of dim products, wrong by a few 2^-24 of itself.
 */
inline void compare_gradient(const std::string& where, const Problem& c, const Doubles& found, const Reference& want,
                             Closeness tolerance) {
  const char* names[] = {" dq", " dk", " dv"};
  for (int part = 0; part < 3; part++) {
    const int64_t from = part == 0 ? 0 : (c.heads + (part - 1) * c.kv_heads) * c.dim;
    const int64_t width = (part == 0 ? c.heads : c.kv_heads) * c.dim;
    Doubles a, b;
    for (int64_t r = 0; r < c.rows(); r++)
      for (int64_t d = 0; d < width; d++) {
        a.push_back(found[r * c.qkv_width() + from + d]);
        b.push_back(want.dqkv[r * c.qkv_width() + from + d]);
      }
    compare(where + names[part], a, b, tolerance, part < 2 ? want.cancelling * 0x1p-24 : 0);
  }
}

// fp32: inputs exact, scores rounded to 2^-24 * |score| (|score| < 8 in log2), sums of up to 2320 terms in short
// chains.
constexpr Closeness kF32{1e-5, 3e-6};
// bf16: results rounded (2^-9 at most, 2^-9 / sqrt 3 in the mean); P and dS also where tiles multiply them; and delta
// is taken from the rounded y.
constexpr Closeness kBf16{2e-2, 4.5e-3};

}  // namespace check::attention
