#pragma once
#include <cstring>
#include <memory>
#include <vector>

#include "native/base/error.h"
#include "native/base/tensor.h"
#include "test/native/check.h"

/** Operands of a kernel under test, on the host: guarded, poisoned, compared bit by bit. */
namespace check {

using namespace thalweg;

inline float float_of(bf16 bits) {
  const uint32_t wide = static_cast<uint32_t>(bits) << 16;
  float x;
  std::memcpy(&x, &wide, 4);
  return x;
}

/** To nearest, ties to even; written independently of the kernels (by comparing the two neighbours). */
inline bf16 bf16_of(double value) {
  const float x = static_cast<float>(value);
  uint32_t bits;
  std::memcpy(&bits, &x, 4);
  if (std::isnan(x)) return static_cast<bf16>((bits >> 16) | 0x40);
  const uint32_t rest = bits & 0xffff, even = (bits >> 16) & 1;
  const uint32_t up = rest > 0x8000 || (rest == 0x8000 && even != 0) ? 1 : 0;
  return static_cast<bf16>((bits >> 16) + up);
}

/** Memory of one tensor between two guard zones; poisoned (NaN, or -1 for i32) until set. */
class Buffer {
 public:
  Buffer(DType dtype, std::vector<int64_t> shape) {
    tensor_.dtype = dtype;
    tensor_.rank = static_cast<int>(shape.size());
    for (size_t i = 0; i < shape.size(); i++) tensor_.shape[i] = shape[i];
    bytes_.reset(static_cast<unsigned char*>(std::aligned_alloc(64, (tensor_.bytes() + 63) / 64 * 64 + 2 * kGuard)),
                 std::free);
    std::memset(bytes_.get(), kMark, kGuard);
    std::memset(bytes_.get() + kGuard, 0xff, tensor_.bytes());
    std::memset(bytes_.get() + kGuard + tensor_.bytes(), kMark, kGuard);
    tensor_.data = bytes_.get() + kGuard;
  }
  Buffer(DType dtype, std::vector<int64_t> shape, const std::vector<double>& values) : Buffer(dtype, std::move(shape)) {
    set(values);
  }

  const Tensor& tensor() const { return tensor_; }
  operator const Tensor&() const { return tensor_; }

  void set(const std::vector<double>& values) {
    CHECK(static_cast<int64_t>(values.size()) == tensor_.numel(), values.size(), " values for ", tensor_.numel());
    for (size_t i = 0; i < values.size(); i++) {
      if (tensor_.dtype == DType::F32) tensor_.as<float>()[i] = static_cast<float>(values[i]);
      if (tensor_.dtype == DType::BF16) tensor_.as<bf16>()[i] = bf16_of(values[i]);
      if (tensor_.dtype == DType::I32) tensor_.as<int32_t>()[i] = static_cast<int32_t>(values[i]);
    }
  }

  /** What is stored, so rounded to the data type: references start from these values. */
  std::vector<double> get() const {
    std::vector<double> values(static_cast<size_t>(tensor_.numel()));
    for (size_t i = 0; i < values.size(); i++) {
      if (tensor_.dtype == DType::F32) values[i] = tensor_.as<float>()[i];
      if (tensor_.dtype == DType::BF16) values[i] = float_of(tensor_.as<bf16>()[i]);
      if (tensor_.dtype == DType::I32) values[i] = tensor_.as<int32_t>()[i];
    }
    return values;
  }

  /** The bytes, to compare runs bit by bit. */
  std::vector<unsigned char> raw() const {
    const auto* p = static_cast<const unsigned char*>(tensor_.data);
    return {p, p + tensor_.bytes()};
  }

  void check_guards() const {
    const unsigned char* end = bytes_.get() + kGuard + tensor_.bytes();
    for (size_t i = 0; i < kGuard; i++)
      CHECK(bytes_.get()[i] == kMark && end[i] == kMark, "something was written outside the operand");
  }

 private:
  static constexpr size_t kGuard = 256;
  static constexpr unsigned char kMark = 0xa5;
  std::shared_ptr<unsigned char> bytes_;
  Tensor tensor_;
};

inline const Tensor kAbsent{};

inline std::vector<unsigned char> joined(std::initializer_list<const Buffer*> buffers) {
  std::vector<unsigned char> all;
  for (const Buffer* b : buffers) {
    b->check_guards();
    const auto raw = b->raw();
    all.insert(all.end(), raw.begin(), raw.end());
  }
  return all;
}

/** code of the thalweg::Error that body must throw, with `text` in its message. */
template <class Body>
void must_fail(const char* code, const char* text, Body body) {
  try {
    body();
  } catch (const Error& e) {
    CHECK(e.code() == code, "code ", e.code(), ", expected ", code);
    CHECK(std::string(e.what()).find(text) != std::string::npos, "message: ", e.what());
    return;
  }
  failed(__FILE__, __LINE__, "no error, expected ", code);
}

}  // namespace check
