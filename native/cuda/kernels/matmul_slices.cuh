#pragma once
#include "native/cuda/kernels/flat_sums.cuh"
#include "native/cuda/kernels/matmul_store.cuh"

/**
 * A sum that was cut: C = its slices added up in their order, then what is added to C. Bound by reading the slices,
 * from L2 if they fit. Where C is part of the gradients whose norm will be asked, their squares are summed on the way.
 */
namespace thalweg::cuda::matmul {

constexpr int kReduceThreads = 256;

/** The N elements from each at[k] on of each of `splits` slices, which lie `slice` elements apart. */
template <int N, int K>
DEVICE void sum_slices(const float* from, int64_t slice, int splits, const int64_t (&at)[K], Floats<N> (&sums)[K]) {
  UNROLL
  for (int k = 0; k < K; k++) sums[k] = zeros<N>();
  for (int s = 0; s < splits; s++, from += slice) {
    Floats<N> more[K];
    UNROLL
    for (int k = 0; k < K; k++) more[k] = load_floats<N>(from + at[k]);
    UNROLL
    for (int k = 0; k < K; k++) {
      UNROLL
      for (int i = 0; i < N; i++) sums[k][i] += more[k][i];
    }
  }
}

/** Slices [m, from_ld] to C. One thread makes N elements. */
template <class T, int N>
__global__ void __launch_bounds__(kReduceThreads)
    add_slices(const float* from, int64_t from_ld, int splits, Output out) {
  const int64_t across = out.columns / N, index = static_cast<int64_t>(blockIdx.x) * kReduceThreads + threadIdx.x;
  const int64_t row = index / across, column = index % across * N;
  if (row >= out.m) return;
  Vector<T, N> addend{};
  if (adds(out)) addend = load_addend<T, N>(out, row, column);
  const int64_t at[1] = {row * from_ld + column};
  Floats<N> sums[1];
  sum_slices<N>(from, out.m * from_ld, splits, at, sums);
  store_sums<T, N>(out, 0, row, column, sums[0], addend);
}

/**
 * The same for an fp32 C and slices without padding, in units of a flat tensor in which C begins `before` elements
 * after a unit does: a block makes a unit, in what of it is C's. squares[b] = the sum of squares of block b's, if it is
 * C's whole; else it stays as it is.
 */
__global__ void __launch_bounds__(kUnitThreads)
    add_slices_squares(const float* from, int splits, Output out, int64_t before, double* squares) {
  struct Shared {
    double sums[kUnitThreads];
  };
  const int64_t size = out.m * out.columns, begin = static_cast<int64_t>(blockIdx.x) * kUnit - before;
  const bool add = adds(out);
  bool inside[kRunVectors];
  int64_t at[kRunVectors];
  Vector<float, 4> addend[kRunVectors]{};
  UNROLL
  for (int k = 0; k < kRunVectors; k++) {
    const int64_t place = begin + run_place(k);
    inside[k] = place >= 0 && place < size;
    at[k] = inside[k] ? place : 0;  // any element of the slices
    if (add && inside[k]) addend[k] = load_addend<float, 4>(out, 0, at[k]);
  }
  Floats<4> sums[kRunVectors];
  sum_slices<4>(from, size, splits, at, sums);
  Run stored;
  UNROLL
  for (int k = 0; k < kRunVectors; k++)
    if (inside[k]) stored[k] = store_sums<float, 4>(out, 0, 0, at[k], sums[k], addend[k]);
  if (begin < 0 || begin + kUnit > size) return;
  auto& shared = shared_memory<Shared>();
  shared.sums[threadIdx.x] = run_sum<Terms::Products>(stored, stored);
  sync_threads();
  if (warp_index() != 0) return;
  const double total = add_threads(shared.sums);
  if (lane_index() == 0) squares[blockIdx.x] = total;
}

}  // namespace thalweg::cuda::matmul
