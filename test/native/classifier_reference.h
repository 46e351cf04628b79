#pragma once
#include "test/native/reference.h"

/** Softmax cross-entropy and its gradient in float64. */
namespace check {

struct LogitsShape {
  int64_t rows, columns, vocab;
};

struct Classified {
  Values loss, lse, dlogits;
};

/** loss_scale * d(sum of loss + z lse^2), rows with a negative target left out. */
inline Classified classify(const LogitsShape& s, const Values& logits, const Values& targets, double z,
                           double loss_scale) {
  Classified out;
  for (int64_t r = 0; r < s.rows; r++) {
    const double* x = logits.data() + r * s.columns;
    double most = x[0], total = 0;
    for (int64_t j = 0; j < s.vocab; j++) most = std::max(most, x[j]);
    for (int64_t j = 0; j < s.vocab; j++) total += std::exp(x[j] - most);
    const double lse = most + std::log(total);
    const int64_t target = static_cast<int64_t>(targets[static_cast<size_t>(r)]);
    out.lse.push_back(lse);
    out.loss.push_back(target < 0 ? 0 : lse - x[target]);
    for (int64_t j = 0; j < s.columns; j++) {
      const double p = j < s.vocab ? std::exp(x[j] - lse) : 0;
      const double grad = p * (1 + 2 * z * lse) - (j == target ? 1 : 0);
      out.dlogits.push_back(target < 0 || j >= s.vocab ? 0 : loss_scale * grad);
    }
  }
  return out;
}

/** Every fourth row is ignored. */
inline Values random_targets(Random& random, const LogitsShape& s) {
  Values targets;
  for (int64_t r = 0; r < s.rows; r++) targets.push_back(double(r % 4 == 2 ? -100 : random.integer(0, s.vocab - 1)));
  return targets;
}

}  // namespace check
