#pragma once
#include <cstddef>
#include <cstdint>

/**
 * Kernels are compiled twice: by nvcc for a GPU, and by the host's compiler for the SIMT machine of native/simt. What
 * differs lies in native/cuda/ptx, where each function has both bodies; kernels contain no asm and no other #ifdef.
 */
#if defined(__CUDACC__)
#define DEVICE __device__ __forceinline__
#define HOST_DEVICE __host__ __device__ __forceinline__
#define UNROLL _Pragma("unroll")
#define NO_UNROLL _Pragma("unroll 1")
#else
#include "native/simt/barriers.h"
#include "native/simt/copies.h"
#include "native/simt/machine.h"
#include "native/simt/matrix.h"
#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __grid_constant__
#define DEVICE inline
#define HOST_DEVICE inline
#define UNROLL
#define NO_UNROLL
#define threadIdx (::thalweg::simt::current->index)
#define blockIdx (::thalweg::simt::current->cta->index)
#define blockDim (::thalweg::simt::machine->shape().block)
#define gridDim (::thalweg::simt::machine->shape().grid)
#endif
