#pragma once
#include <cstdint>

namespace thalweg::cuda {

enum class BoxSwizzle : uint8_t { None, B32, B64, B128 };

/**
 * The boxes TMA moves of a tensor. Axis 0 is the innermost and dense; stride[i] are the bytes from one index of axis i
 * to the next (stride[0] is unused).
 */
struct TensorBox {
  const void* base = nullptr;
  uint32_t rank = 2;
  uint64_t size[5] = {1, 1, 1, 1, 1};
  uint64_t stride[5] = {0, 0, 0, 0, 0};
  uint32_t box[5] = {1, 1, 1, 1, 1};
  uint32_t element_bytes = 2;  // 2 = bf16, 4 = fp32
  BoxSwizzle swizzle = BoxSwizzle::B128;
};

/** The rules of cuTensorMapEncodeTiled (CUDA driver API 13.0), which says only "invalid value". Error BAD_TENSOR_MAP
 * names the field, what was found and what is expected. */
void check_tensor_box(const TensorBox& spec);

}  // namespace thalweg::cuda
