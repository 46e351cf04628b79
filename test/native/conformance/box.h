#pragma once
#include "native/cuda/tensor_map.h"
#include "test/native/conformance/case.h"

/** Tensors of two axes and boxes of them; for the files that nvcc compiles. */
namespace conformance {

inline cuda::TensorMap map_of(const void* base, uint64_t inner, uint64_t outer, uint32_t columns, uint32_t rows,
                              cuda::BoxSwizzle swizzle, uint32_t element_bytes = 2) {
  cuda::TensorBox box;
  box.base = base;
  box.size[0] = inner;
  box.size[1] = outer;
  box.stride[1] = inner * element_bytes;
  box.box[0] = columns;
  box.box[1] = rows;
  box.element_bytes = element_bytes;
  box.swizzle = swizzle;
  return cuda::make_tensor_map(box);
}

}  // namespace conformance
