#pragma once
#include "test/native/reference.h"

/** RMSNorm and its gradient in float64, and heads packed in rows. */
namespace check {

/** y and rstd of rows of `dim`. */
inline Values rmsnorm_forward(const Values& x, const Values& weight, double eps, Values* rstd = nullptr) {
  const size_t dim = weight.size();
  Values y(x.size());
  for (size_t r = 0; r < x.size() / dim; r++) {
    double squares = 0;
    for (size_t i = 0; i < dim; i++) squares += x[r * dim + i] * x[r * dim + i];
    const double scale = 1 / std::sqrt(squares / static_cast<double>(dim) + eps);
    if (rstd != nullptr) rstd->push_back(scale);
    for (size_t i = 0; i < dim; i++) y[r * dim + i] = x[r * dim + i] * scale * weight[i];
  }
  return y;
}

struct NormGradients {
  Values dx, dweight;
  double terms = 0;  // largest of the two terms whose difference is dx
};
inline NormGradients rmsnorm_backward(const Values& x, const Values& weight, const Values& rstd, const Values& dy) {
  const size_t dim = weight.size();
  NormGradients g{Values(x.size()), Values(dim, 0.0), 0.0};
  for (size_t r = 0; r < rstd.size(); r++) {
    double product = 0;
    for (size_t i = 0; i < dim; i++) product += dy[r * dim + i] * weight[i] * x[r * dim + i];
    for (size_t i = 0; i < dim; i++) {
      const size_t at = r * dim + i;
      g.dx[at] = rstd[r] * (dy[at] * weight[i] - x[at] * rstd[r] * rstd[r] * product / static_cast<double>(dim));
      g.dweight[i] += dy[at] * x[at] * rstd[r];
      g.terms = std::max(g.terms, std::fabs(rstd[r] * dy[at] * weight[i]));
    }
  }
  return g;
}

/** Rows [q heads | k heads | v heads] cut into vectors of headDim; the query and key vectors come out, by head. */
struct Heads {
  int64_t rows, heads, kv, dim;
  int64_t width() const { return (heads + 2 * kv) * dim; }
  Values take(const Values& packed, int64_t first, int64_t count) const {
    Values out;
    for (int64_t r = 0; r < rows; r++)
      for (int64_t i = 0; i < count * dim; i++)
        out.push_back(packed[static_cast<size_t>(r * width() + first * dim + i)]);
    return out;
  }
  Values join(const Values& q, const Values& k, const Values& v) const {
    Values out;
    for (int64_t r = 0; r < rows; r++) {
      const auto append = [&](const Values& from, int64_t count) {
        out.insert(out.end(), from.begin() + r * count * dim, from.begin() + (r + 1) * count * dim);
      };
      append(q, heads);
      append(k, kv);
      append(v, kv);
    }
    return out;
  }
};

}  // namespace check
