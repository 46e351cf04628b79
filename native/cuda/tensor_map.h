#pragma once
#include "native/cuda/ptx/tma.h"
#include "native/cuda/tensor_box.h"

namespace thalweg::cuda {

/** The hardware's form of a checked box. Errors: BAD_TENSOR_MAP, CUDA_ERROR. */
TensorMap make_tensor_map(const TensorBox& spec);

}  // namespace thalweg::cuda
