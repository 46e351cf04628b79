#pragma once
#include "native/cuda/kernels.h"
#include "native/cuda/kernels/matmul_operand.cuh"
#include "native/cuda/kernels/matmul_pack.cuh"

/** From an op's tensors to operands that the kernels can read: as they are, or copied into the workspace first. */
namespace thalweg::cuda::matmul {

/** An operand as the op gives it: dense rows, of fp32 or of what the product computes with. */
struct Source {
  const Tensor& tensor;
  int64_t rows() const { return tensor.shape[0]; }
  int64_t columns() const { return tensor.shape[1]; }
};

/** Lays out the workspace in pieces aligned for any vector; a piece is named by where it starts. */
class Pieces {
 public:
  size_t take(int64_t bytes) {
    const size_t start = taken_;
    taken_ += static_cast<size_t>(round_up(bytes, 256));
    return start;
  }
  size_t taken() const { return taken_; }

 private:
  size_t taken_ = 0;
};

template <class E>
constexpr int64_t packed_columns(const Source& s) {
  return round_up(s.columns(), kVector<E>);
}

/** Whether the kernels can read rows of E at `data` as they are. */
template <class E>
bool readable(const Source& s, const void* data) {
  return s.columns() % kVector<E> == 0 && is_aligned(data, 16);
}

/** Bytes of workspace for `matrix`: enough whether a copy of the weight is kept or not. */
template <class E>
int64_t matrix_bytes(const Source& s) {
  const bool as_it_is = dtype_size(s.tensor.dtype) == sizeof(E) && readable<E>(s, s.tensor.data);
  return as_it_is ? 0 : s.rows() * packed_columns<E>(s) * static_cast<int64_t>(sizeof(E));
}

template <class E>
Matrix<E> matrix(const Source& s, Pieces& pieces, Context& ctx) {
  const int64_t ld = packed_columns<E>(s);
  auto* room = reinterpret_cast<E*>(ctx.workspace + pieces.take(matrix_bytes<E>(s)));
  const bool rounded = sizeof(E) == 2 && s.tensor.dtype == DType::F32;
  const void* kept = rounded && ctx.copies != nullptr ? ctx.copies->find(s.tensor.data) : nullptr;
  if (rounded && kept == nullptr) {
    launch_pack<float, E>(s.tensor.data, room, s.rows(), s.columns(), ld, ctx.stream);
    return {room, ld};
  }
  const void* data = rounded ? kept : s.tensor.data;
  if (readable<E>(s, data)) return {static_cast<const E*>(data), ld};
  launch_pack<E, E>(data, room, s.rows(), s.columns(), ld, ctx.stream);
  return {room, ld};
}

}  // namespace thalweg::cuda::matmul
