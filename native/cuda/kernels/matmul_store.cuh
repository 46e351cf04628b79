#pragma once
#include "native/cuda/kernels/matmul_operand.cuh"

/** What becomes of the sums: rounded, with something added, to C, or to a slice when the sum is cut. */
namespace thalweg::cuda::matmul {

/**
 * C [m, columns] in rows of ld elements of fp32 or bf16. What `addend` holds (perhaps C itself) is added in fp32 before
 * the one rounding, unless `*skip` (read on the device) is set.
 */
struct Output {
  void* c;
  const void* addend;   // or null
  const int32_t* skip;  // or null: never
  int64_t columns, ld;
  int64_t slice;  // elements from the C of one part of the sum to that of the next
  bool half;      // bf16
  bool vectors;   // rows of C and addend may be accessed in vectors of 16 bytes
};

DEVICE bool adds(const Output& out) { return out.addend != nullptr && (out.skip == nullptr || *out.skip == 0); }

/** N sums of row `row` from column `column` on go to C. */
template <class T, int N>
DEVICE void store_sums(const Output& out, bool add, int64_t split, int64_t row, int64_t column,
                       const Vector<float, N>& sums) {
  const int64_t at = row * out.ld + column;
  T* c = static_cast<T*>(out.c) + split * out.slice + at;
  const T* addend = static_cast<const T*>(out.addend) + at;
  Vector<T, N> result;
  if (out.vectors) {
    if (column >= out.columns) return;
    Vector<T, N> old{};
    if (add) old = load<N>(addend);
    UNROLL
    for (int i = 0; i < N; i++) result[i] = from_float<T>(sums[i] + (add ? to_float(old[i]) : 0.0f));
    store<N>(c, result);
    return;
  }
  UNROLL
  for (int i = 0; i < N; i++)
    if (column + i < out.columns) c[i] = from_float<T>(sums[i] + (add ? to_float(addend[i]) : 0.0f));
}

constexpr int kReduceThreads = 256;

/** C = the sum of `splits` slices [m, from_ld], in their order, then what `out` adds. One thread makes N elements. */
template <class T, int N>
__global__ void __launch_bounds__(kReduceThreads)
    add_slices(const float* from, int64_t from_ld, int splits, int64_t m, Output out) {
  const int64_t across = (out.columns + N - 1) / N, slice = m * from_ld;
  const int64_t index = static_cast<int64_t>(blockIdx.x) * kReduceThreads + threadIdx.x;
  if (index >= m * across) return;
  const int64_t row = index / across, column = index % across * N;
  const float* part = from + row * from_ld + column;
  Vector<float, N> sums{};
  for (int s = 0; s < splits; s++, part += slice) {
    UNROLL
    for (int i = 0; i < N; i += 4) {
      const Vector<float, 4> four = load<4>(part + i);
      UNROLL
      for (int j = 0; j < 4; j++) sums[i + j] += four[j];
    }
  }
  store_sums<T, N>(out, adds(out), 0, row, column, sums);
}

}  // namespace thalweg::cuda::matmul
