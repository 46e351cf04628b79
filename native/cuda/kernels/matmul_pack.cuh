#pragma once
#include "native/cuda/kernels/floats.cuh"
#include "native/cuda/launch.h"

/**
 * An operand whose rows are not a multiple of 16 bytes, or a weight to be rounded that is not, copied to rows that are,
 * zero at their ends. Bound by memory, and by eight narrow loads a vector: a few percent of the product it serves,
 * which then runs at full speed.
 */
namespace thalweg::cuda::matmul {

constexpr int kPackThreads = 256;

/** to [rows, to_ld] = from [rows, columns], one thread to a vector of 16 bytes. */
template <class From, class To>
__global__ void __launch_bounds__(kPackThreads)
    pack_rows(const From* from, To* to, int64_t rows, int64_t columns, int64_t to_ld) {
  constexpr int kN = kVector<To>;
  const int64_t index = static_cast<int64_t>(blockIdx.x) * kPackThreads + threadIdx.x;
  const int64_t row = index / (to_ld / kN), column = index % (to_ld / kN) * kN;
  if (row >= rows) return;
  const From* begin = from + row * columns + column;
  Floats<kN> packed = zeros<kN>();
  UNROLL
  for (int i = 0; i < kN; i++)
    if (column + i < columns) packed[i] = to_float(begin[i]);
  store<kN>(to + row * to_ld + column, pack<To>(packed));
}

template <class From, class To>
void launch_pack(const void* from, void* to, int64_t rows, int64_t columns, int64_t to_ld, Stream& stream) {
  const int64_t vectors = rows * to_ld / kVector<To>;
  const GridShape grid{{static_cast<unsigned>(ceil_div(vectors, kPackThreads)), 1, 1}, kPackThreads};
  launch(stream, pack_rows<From, To>, grid, static_cast<const From*>(from), static_cast<To*>(to), rows, columns, to_ld);
}

}  // namespace thalweg::cuda::matmul
