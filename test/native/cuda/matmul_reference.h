#pragma once
#include "test/native/cuda/command.h"
#include "test/native/reference.h"

/** C [m, n] = A B in float64, and how far the kernels' fp32 sums may be from it. */
namespace check {

/** C(i, j) = sum over p of a(i, p) b(p, j), and the same of the absolute values. */
struct Reference {
  Values value, size;
  template <class A, class B>
  Reference(int64_t m, int64_t n, int64_t k, A a, B b)
      : value(static_cast<size_t>(m * n)), size(static_cast<size_t>(m * n)) {
    for (int64_t i = 0; i < m; i++)
      for (int64_t p = 0; p < k; p++)
        for (int64_t j = 0; j < n; j++) {
          const double product = a(i, p) * b(p, j);
          value[static_cast<size_t>(i * n + j)] += product;
          size[static_cast<size_t>(i * n + j)] += std::fabs(product);
        }
  }
};

/**
 * Each of the k fp32 additions (products are exact or fused) rounds by at most 2^-24 of a partial sum, which is at most
 * S = sum |A B|; independent roundings add up like a random walk, so 2 sqrt(k + 1) 2^-24 S is generous, and still a
 * hundred times less than one product dropped or taken twice. (Tensor cores truncate where they align 16 products with
 * the sum: at most 2^-23 of it a step, less than that walk.) A bf16 result adds at most 2^-8 of its value.
 */
inline void check_product(const Values& c, DType type, const Reference& want, int64_t k, const Values& addend) {
  const double walk = 2 * std::sqrt(static_cast<double>(k) + 1) / (1 << 24);
  const double rounding = type == DType::BF16 ? 1.0 / 256 : 0;
  for (size_t at = 0; at < c.size(); at++) {
    const double plus = addend.empty() ? 0 : addend[at], value = want.value[at] + plus;
    const double allowed = walk * (want.size[at] + std::fabs(plus)) + rounding * std::fabs(value) * (1 + 1e-6);
    CHECK(std::fabs(c[at] - value) <= allowed, "element ", at, " is ", c[at], ", expected ", value, ", allowed ",
          allowed);
  }
}

inline void check_product(const Buffer& got, const Reference& want, int64_t k, const Values& addend) {
  check_product(got.get(), got.tensor().dtype, want, k, addend);
  got.check_guards();
}

}  // namespace check
