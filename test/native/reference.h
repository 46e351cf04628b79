#pragma once
#include <cmath>
#include <functional>
#include <vector>

#include "native/base/tensor.h"
#include "test/native/check.h"

/** What the tests of single ops share: random values, tolerances, finite differences and small float64 formulas. */
namespace check {

using Values = std::vector<double>;

/** One generator per test, so that tests do not depend on each other's order. */
class Random {
 public:
  explicit Random(uint64_t salt) : engine_(seed() * 1000003 + salt) {}
  double uniform(double low, double high) { return std::uniform_real_distribution<double>(low, high)(engine_); }
  int64_t integer(int64_t low, int64_t high) { return std::uniform_int_distribution<int64_t>(low, high)(engine_); }
  Values normal(int64_t count, double std = 1.0, double mean = 0.0) {
    std::normal_distribution<double> one(mean, std);
    Values v(static_cast<size_t>(count));
    for (double& x : v) x = one(engine_);
    return v;
  }

 private:
  std::mt19937_64 engine_;
};

/** |got - want| <= relative |want| + absolute. */
struct Tolerance {
  double relative, absolute;
};

/**
 * For results rounded once to `dtype` after fp32 arithmetic whose own error is at most `arithmetic` times the scale of
 * the terms: bf16 has 8 significant bits, so rounding to nearest adds at most 2^-8 of the value (2^-134 when
 * subnormal).
 */
inline Tolerance rounded_once(thalweg::DType dtype, double arithmetic, double scale) {
  const double rounding = dtype == thalweg::DType::BF16 ? 1.0 / 256 : 0.0;
  return {rounding + arithmetic, arithmetic * scale + 1e-37};
}

inline void check_close(const char* what, const Values& got, const Values& want, Tolerance t) {
  CHECK(got.size() == want.size(), what, ": ", got.size(), " values, expected ", want.size());
  for (size_t i = 0; i < got.size(); i++) {
    const double error = std::fabs(got[i] - want[i]);
    CHECK(error <= t.relative * std::fabs(want[i]) + t.absolute, what, "[", i, "] is ", got[i], ", expected ", want[i],
          ", error ", error);
  }
}

inline double largest(const Values& v) {
  double most = 0;
  for (double x : v) most = std::max(most, std::fabs(x));
  return most;
}

inline double inner(const Values& a, const Values& b) {
  double total = 0;
  for (size_t i = 0; i < a.size(); i++) total += a[i] * b[i];
  return total;
}

/**
 * Compares a gradient with central differences of `f` at x, coordinate by coordinate. With step h = 1e-5 (relative to
 * inputs near 1) truncation is O(h^2) = 1e-10 and float64 rounding 1e-16 / h = 1e-11 of f, so 1e-6 leaves room for
 * curvature.
 */
inline void check_gradient(const char* what, const std::function<double(const Values&)>& f, Values x,
                           const Values& gradient, double tolerance = 1e-6) {
  constexpr double kStep = 1e-5;
  const double scale = std::max(1.0, largest(gradient));
  for (size_t i = 0; i < x.size(); i++) {
    const double at = x[i];
    x[i] = at + kStep;
    const double above = f(x);
    x[i] = at - kStep;
    const double below = f(x);
    x[i] = at;
    const double difference = (above - below) / (2 * kStep);
    CHECK(std::fabs(difference - gradient[i]) <= tolerance * scale, what, " gradient[", i, "] is ", gradient[i],
          ", central difference ", difference);
  }
}

/** a + b where adding is asked for, else b. */
inline Values added(bool add, const Values& before, Values b) {
  if (add)
    for (size_t i = 0; i < b.size(); i++) b[i] += before[i];
  return b;
}

}  // namespace check
