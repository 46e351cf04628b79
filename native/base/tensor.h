#pragma once
#include <cstddef>
#include <cstdint>

namespace thalweg {

enum class DType : uint8_t { F32 = 0, BF16 = 1, I32 = 2 };

constexpr size_t dtype_size(DType t) { return t == DType::BF16 ? 2 : 4; }
constexpr const char* dtype_name(DType t) { return t == DType::F32 ? "f32" : t == DType::BF16 ? "bf16" : "i32"; }

/** bf16 is stored as its 16 bits; arithmetic is always fp32. */
using bf16 = uint16_t;

constexpr int kMaxRank = 4;

/** A dense row-major tensor in some arena. rank < 0 means "absent" (an optional operand that was not given). */
struct Tensor {
  void* data = nullptr;
  DType dtype = DType::F32;
  int rank = -1;
  int64_t shape[kMaxRank] = {0, 0, 0, 0};

  bool present() const { return rank >= 0; }
  int64_t numel() const {
    int64_t n = 1;
    for (int i = 0; i < rank; i++) n *= shape[i];
    return n;
  }
  size_t bytes() const { return static_cast<size_t>(numel()) * dtype_size(dtype); }
  template <class T>
  T* as() const {
    return static_cast<T*>(data);
  }
};

}  // namespace thalweg
