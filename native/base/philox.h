#pragma once
#include <cstdint>
#include <string_view>

namespace thalweg {

/** Philox4x32-10 (Salmon et al. 2011): four words of randomness from a counter and a key, no state. */
struct Philox {
  uint32_t word[4];
};
Philox philox4x32(const uint32_t counter[4], const uint32_t key[2]);

/** FNV-1a, 64 bits: how a tensor's name enters its random stream. */
uint64_t fnv1a64(std::string_view text);

/** Natural logarithm of a positive finite double, by + - * / only: the same bits on every machine (error below 1 ulp or
 * so). */
double portable_log(double x);

/** Inverse of the normal distribution function, algorithm AS 241 (Wichura 1988, PPND16), p in (0, 1), relative error
 * about 1e-16. */
double inverse_normal(double p);

enum class Init : uint8_t { TruncatedNormal, Normal, Constant };

/**
 * Fills out[0..count) with elements [first, first + count) of the stream (seed, name): element i depends on nothing
 * else, so any split gives the same bits. Uniform u = (x0 + 1/2) 2^-32 of the Philox block with key = seed and counter
 * = (i, fnv1a64(name)); truncated normal (cut at 3 standard deviations) and normal by inverse distribution function,
 * times std; constant = value.
 */
struct InitStream {
  Init kind = Init::Normal;
  double std = 1;
  double value = 0;
  uint64_t seed = 0;
  uint64_t name_hash = 0;

  void fill(float* out, uint64_t first, uint64_t count) const;
};

}  // namespace thalweg
