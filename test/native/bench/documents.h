#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <random>
#include <vector>

/** Packed documents of lengths like those of web text, for benchmarks and predictions of attention. */
namespace bench {

/**
 * For each token of sequences of `seq` the position where its document begins: documents one after the other, cut at
 * the sequences' ends, their lengths lognormal (median 400 tokens, sigma 1.2, so mean 822). The same always.
 */
inline std::vector<int32_t> document_starts(int64_t tokens, int64_t seq) {
  std::mt19937_64 random(1);
  std::normal_distribution<double> normal;
  std::vector<int32_t> starts(static_cast<size_t>(tokens));
  for (int64_t begin = 0, end = 0; begin < tokens; begin = end) {
    end = std::min(tokens, begin + std::max<int64_t>(1, std::llround(400 * std::exp(1.2 * normal(random)))));
    for (int64_t t = begin; t < end; t++)
      starts[static_cast<size_t>(t)] = static_cast<int32_t>(std::max(begin, t - t % seq) % seq);
  }
  return starts;
}

/** Pairs of query and key that attention needs, of one head. */
inline double visible_pairs(const std::vector<int32_t>& starts, int64_t seq) {
  double pairs = 0;
  for (size_t t = 0; t < starts.size(); t++)
    pairs += static_cast<double>(static_cast<int64_t>(t) % seq - starts[t] + 1);
  return pairs;
}

}  // namespace bench
