#pragma once
#include <array>
#include <bit>
#include <cstdint>
#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include "native/emulator/fault.h"
#include "native/emulator/matrix_units.h"
#include "test/native/check.h"

/** What the tests of the emulator's units share. */
namespace check {

using thalweg::emulator::Fault;
using thalweg::emulator::Lanes;

inline std::mt19937_64 random_of(uint64_t stream) { return std::mt19937_64(seed() * 1000003 + stream); }

/** The text of the fault that `body` ends with, "" when it ends well. */
inline std::string fault_of(const std::function<void()>& body) {
  try {
    body();
  } catch (const Fault& fault) {
    return fault.what();
  }
  return "";
}
/** Fails unless `body` faults and says `part`. */
#define CHECK_FAULT(part, ...)                                                                          \
  do {                                                                                                  \
    const std::string text_ = check::fault_of([&] { __VA_ARGS__; });                                    \
    if (text_.find(part) == std::string::npos)                                                          \
      check::failed(__FILE__, __LINE__, "expected a fault with \"", part, "\", found \"", text_, "\""); \
  } while (0)

/** A whole number of size up to 128 is exact in bfloat16, and sums of a few products of them in float32. */
inline uint16_t bf16_of(float x) { return static_cast<uint16_t>(std::bit_cast<uint32_t>(x) >> 16); }
inline float float_of(uint16_t bits) { return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16); }
inline uint32_t pair_of(float low, float high) {
  return static_cast<uint32_t>(bf16_of(low)) | static_cast<uint32_t>(bf16_of(high)) << 16;
}

/** A matrix of whole numbers in [-7, 7]. */
struct Matrix {
  int rows, columns;
  std::vector<float> values;
  Matrix(int r, int c) : rows(r), columns(c), values(static_cast<size_t>(r) * static_cast<size_t>(c)) {}
  template <class R>
  Matrix(int r, int c, R& random) : Matrix(r, c) {
    for (float& v : values) v = static_cast<float>(static_cast<int>(random() % 15) - 7);
  }
  float& operator()(int r, int c) { return values[static_cast<size_t>(r * columns + c)]; }
  float operator()(int r, int c) const { return values[static_cast<size_t>(r * columns + c)]; }
};

/** left [m, k] right [n, k] transposed. */
inline Matrix product(const Matrix& left, const Matrix& right) {
  Matrix out(left.rows, right.rows);
  for (int i = 0; i < left.rows; i++)
    for (int j = 0; j < right.rows; j++)
      for (int k = 0; k < left.columns; k++) out(i, j) += left(i, k) * right(j, k);
  return out;
}

/** Shared memory as a block has it: aligned to 1024, all ones at first. */
class Shared {
 public:
  explicit Shared(size_t bytes) : bytes_(bytes), store_(bytes + 1024, std::byte{0xff}) {
    const auto address = reinterpret_cast<uintptr_t>(store_.data());
    data_ = store_.data() + (1024 - address % 1024) % 1024;
  }
  std::byte* data() { return data_; }
  const std::byte* data() const { return data_; }
  size_t bytes() const { return bytes_; }
  uint16_t half(uint32_t offset) const {
    uint16_t v;
    std::memcpy(&v, data_ + offset, 2);
    return v;
  }
  void set_half(uint32_t offset, uint16_t v) { std::memcpy(data_ + offset, &v, 2); }

 private:
  size_t bytes_;
  std::vector<std::byte> store_;
  std::byte* data_;
};

}  // namespace check
