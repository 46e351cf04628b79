#include "native/base/philox.h"

#include <algorithm>
#include <cstring>

#include "test/native/check.h"

using namespace thalweg;

namespace {
void check_philox(std::initializer_list<uint32_t> counter, std::initializer_list<uint32_t> key,
                  std::initializer_list<uint32_t> expected) {
  const Philox out = philox4x32(counter.begin(), key.begin());
  for (int i = 0; i < 4; i++) CHECK(out.word[i] == expected.begin()[i], "word ", i, " is ", out.word[i]);
}
InitStream stream(Init kind, double std) {
  return {kind, std, 0, (uint64_t{5} << 32) + 42, fnv1a64("model.embed_tokens.weight")};
}
/** Kolmogorov-Smirnov distance of n draws from a distribution function. */
template <class Cdf>
double distance(std::vector<float> draws, Cdf&& cdf) {
  std::sort(draws.begin(), draws.end());
  double worst = 0;
  const double n = static_cast<double>(draws.size());
  for (size_t i = 0; i < draws.size(); i++) {
    const double p = cdf(draws[i]);
    worst = std::max({worst, std::abs(p - static_cast<double>(i) / n), std::abs(p - static_cast<double>(i + 1) / n)});
  }
  return worst;
}
double normal_cdf(double z) { return 0.5 * std::erfc(-z / std::sqrt(2.0)); }
}  // namespace

TEST("Philox4x32-10 gives the published outputs (Random123, kat_vectors)") {
  check_philox({0, 0, 0, 0}, {0, 0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8});
  check_philox({~0u, ~0u, ~0u, ~0u}, {~0u, ~0u}, {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd});
  check_philox({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0},
               {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1});
}

TEST("FNV-1a gives the published hash") {
  CHECK(fnv1a64("") == 0xcbf29ce484222325);
  CHECK(fnv1a64("a") == 0xaf63dc4c8601ec8c);
}

// Both are rounded sums of a few terms; an ulp is between 2^-53 and 2^-52 of the value, so this allows 2 to 4 of them.
TEST("the logarithm is within a few ulp of the library's over the whole range") {
  std::mt19937_64 random(check::seed());
  for (int i = 0; i < 100000; i++) {
    const double x =
        std::ldexp(1 + std::uniform_real_distribution<double>()(random), static_cast<int>(random() % 1400) - 1000);
    const double want = std::log(x), ulp = std::abs(want) * 0x1p-52;
    CHECK(std::abs(portable_log(x) - want) <= 2 * ulp, "log(", x, ") = ", portable_log(x), ", want ", want);
  }
  CHECK(portable_log(1) == 0);
}

TEST("the inverse normal distribution agrees with SciPy to 3e-16 relative") {
  // PPND16 claims 1e-16; two roundings of the last operations come on top.
  const double table[][2] = {{1e-300, -37.0470962993612},   {1e-20, -9.262340089798409},  {1e-10, -6.361340902404056},
                             {0.02425, -1.972961051311885}, {0.075, -1.4395314709384563}, {0.3, -0.5244005127080409},
                             {0.925, 1.4395314709384563},   {0.0013498980316300946, -3.0}};
  for (const auto& [p, z] : table)
    CHECK(std::abs(inverse_normal(p) - z) <= 6e-16 * std::abs(z), "p = ", p, ": ", inverse_normal(p));
  CHECK(inverse_normal(0.5) == 0);
}

TEST("initial values are the same bits as ever (golden values made with 40-digit arithmetic)") {
  const struct {
    uint64_t index;
    float truncated, normal;
  } golden[] = {{0, -0x1.8cb1fep-7f, -0x1.8de940p-7f},  {1, 0x1.d2eedep-8f, 0x1.d44090p-8f},
                {2, -0x1.d5ae36p-9f, -0x1.d6f73ap-9f},  {3, -0x1.ce7ebep-6f, -0x1.d10b14p-6f},
                {1000, 0x1.6e13e4p-8f, 0x1.6f1852p-8f}, {(uint64_t{1} << 32) + 7, 0x1.19d8ccp-6f, 0x1.1ad490p-6f}};
  for (const auto& g : golden) {
    float truncated, normal;
    stream(Init::TruncatedNormal, 0.02).fill(&truncated, g.index, 1);
    stream(Init::Normal, 0.02).fill(&normal, g.index, 1);
    CHECK(truncated == g.truncated, "element ", g.index, " is ", truncated, ", was ", g.truncated);
    CHECK(normal == g.normal, "element ", g.index, " is ", normal, ", was ", g.normal);
  }
}

TEST("any split of a stream gives the same bits") {
  std::vector<float> whole(1000), parts(1000);
  const InitStream s = stream(Init::TruncatedNormal, 1);
  s.fill(whole.data(), 0, 1000);
  for (uint64_t at = 0; at < 1000; at += 37) s.fill(parts.data() + at, at, std::min<uint64_t>(37, 1000 - at));
  CHECK(std::memcmp(whole.data(), parts.data(), 4000) == 0);
}

TEST("draws follow their distributions") {
  // Fixed streams: the distance of 200,000 draws stays below 1.63 / sqrt(n), the 1% level of the Kolmogorov-Smirnov
  // test.
  constexpr uint64_t n = 200000;
  const double level = 1.63 / std::sqrt(static_cast<double>(n));
  std::vector<float> draws(n);
  stream(Init::Normal, 2).fill(draws.data(), 0, n);
  const double normal = distance(draws, [](double x) { return normal_cdf(x / 2); });
  CHECK(normal < level, "distance ", normal, ", level ", level);
  stream(Init::TruncatedNormal, 2).fill(draws.data(), 0, n);
  const double low = normal_cdf(-3), width = normal_cdf(3) - low;
  const double truncated = distance(draws, [&](double x) { return (normal_cdf(x / 2) - low) / width; });
  CHECK(truncated < level, "distance ", truncated, ", level ", level);
  for (const float x : draws) CHECK(std::abs(x) <= 6.0f, "draw ", x, " lies beyond 3 standard deviations");
}

TEST_MAIN()
