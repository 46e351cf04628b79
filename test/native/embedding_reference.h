#pragma once
#include "test/native/reference.h"

/** The embedding gradient in float64. */
namespace check {

struct EmbeddingShape {
  int64_t rows, vocab, dim;
};

inline Values random_tokens(Random& random, const EmbeddingShape& s) {
  Values tokens;
  for (int64_t r = 0; r < s.rows; r++) tokens.push_back(static_cast<double>(random.integer(0, s.vocab - 1)));
  return tokens;
}

/** Sum of dy[r] by token. */
inline Values scatter_rows(const EmbeddingShape& s, const Values& tokens, const Values& dy) {
  Values dweight(static_cast<size_t>(s.vocab * s.dim), 0.0);
  for (int64_t r = 0; r < s.rows; r++)
    for (int64_t i = 0; i < s.dim; i++)
      dweight[static_cast<size_t>(tokens[static_cast<size_t>(r)]) * s.dim + i] +=
          dy[static_cast<size_t>(r * s.dim + i)];
  return dweight;
}

}  // namespace check
