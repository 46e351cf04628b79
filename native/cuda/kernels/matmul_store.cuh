#pragma once
#include "native/cuda/kernels/floats.cuh"
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
  int64_t m, columns, ld;
  int64_t slice;  // elements from the C of one part of the sum to that of the next
  bool half;      // bf16
  bool vectors;   // rows of C and addend may be accessed in vectors of 16 bytes
};

/** A product as the kernels want it, of E = float or bf16. */
template <class E>
struct Product {
  Form form;
  Shape shape;
  Matrix<E> a, b;
  Output out;
};

/** What a product fused with SwiGLU or its gradient makes, and beside it reads: bf16, dense, rows of whole vectors of
 * 16 bytes. */
struct SwigluTensors {
  bf16* gate_up;  // [m, 2 ffn]: kSwiglu writes it unless it is null, kSwigluGradient reads it
  bf16* result;   // kSwiglu: y [m, ffn]; kSwigluGradient: [m, 2 ffn], perhaps gate_up itself
  int64_t m, ffn;
};

DEVICE bool adds(const Output& out) { return out.addend != nullptr && (out.skip == nullptr || *out.skip == 0); }
DEVICE bool exists(const Output& out, int64_t row, int64_t column) { return row < out.m && column < out.columns; }

template <class T, int N>
DEVICE Vector<T, N> load_addend(const Output& out, int64_t row, int64_t column) {
  return load<N>(static_cast<const T*>(out.addend) + row * out.ld + column);
}

/** `addend`: zero where nothing is to be added. Returns what was stored. */
template <class T, int N>
DEVICE Vector<T, N> store_sums(const Output& out, int64_t split, int64_t row, int64_t column, const Floats<N>& sums,
                               const Vector<T, N>& addend) {
  T* to = static_cast<T*>(out.c) + split * out.slice + row * out.ld + column;
  Floats<N> total;
  UNROLL
  for (int i = 0; i < N; i++) total[i] = sums[i] + to_float(addend[i]);
  const Vector<T, N> rounded = pack<T>(total);
  store_global<N>(to, rounded);
  return rounded;
}

}  // namespace thalweg::cuda::matmul
