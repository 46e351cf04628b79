#pragma once
#include "test/native/reference.h"

/** Rotary embedding in float64. */
namespace check {

struct RopeShape {
  int64_t batch, seq, heads, kv, dim;
  int64_t rows() const { return batch * seq; }
  int64_t width() const { return (heads + 2 * kv) * dim; }
  Values attributes(bool inverse) const {
    return {double(seq), double(heads), double(kv), double(dim), inverse ? 1.0 : 0.0};
  }
};

/** [positions, dim]: cosines, then sines. */
inline Values rope_table(int64_t positions, int64_t dim) {
  Values table;
  for (int64_t p = 0; p < positions; p++) {
    for (int64_t i = 0; i < dim; i++) {
      const double angle = double(p) * std::pow(10000.0, -2.0 * double(i % (dim / 2)) / double(dim));
      table.push_back(i < dim / 2 ? std::cos(angle) : std::sin(angle));
    }
  }
  return table;
}

inline Values rope_rotate(const RopeShape& s, const Values& x, const Values& table, int64_t offset, bool inverse) {
  Values y = x;
  const int64_t half = s.dim / 2;
  for (int64_t r = 0; r < s.rows(); r++)
    for (int64_t h = 0; h < s.heads + s.kv; h++)
      for (int64_t i = 0; i < half; i++) {
        const size_t at = static_cast<size_t>(r * s.width() + h * s.dim + i);
        const size_t entry = static_cast<size_t>((offset + r % s.seq) * s.dim + i);
        const double c = table[entry], sine = inverse ? -table[entry + half] : table[entry + half];
        y[at] = x[at] * c - x[at + half] * sine;
        y[at + half] = x[at + half] * c + x[at] * sine;
      }
  return y;
}

}  // namespace check
