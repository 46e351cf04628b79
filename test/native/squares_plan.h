#pragma once
#include "native/base/tensor.h"
#include "native/cuda/kernels/gradient_units.h"
#include "native/cuda/kernels/hopper_matmul_tiles.h"

/** What the launcher of weight gradients decides, for tests and benchmarks that must know whether their case is one. */
namespace check {

/** Into how many parts the sum of a weight gradient [m, n] over `rows` is cut. */
inline int wgrad_splits(int64_t m, int64_t n, int64_t rows, thalweg::DType act, const thalweg::cuda::Target& target) {
  namespace matmul = thalweg::cuda::matmul;
  const matmul::Shape s{m, n, rows, act == thalweg::DType::F32};
  const matmul::Plan everywhere = matmul::plan(s, target);
  const matmul::hopper::Plan wgmma = matmul::hopper::plan(s, target, false);
  const bool hopper = !s.fp32 && matmul::hopper::preferred(wgmma, everywhere, target, true);
  return hopper ? wgmma.splits : everywhere.splits;
}

/** Whether it is added up with its squares, `begin` elements into the gradients (whole vectors). */
inline bool makes_squares(int64_t m, int64_t n, int64_t rows, int64_t begin, thalweg::DType act,
                          const thalweg::cuda::Target& target) {
  const int splits = wgrad_splits(m, n, rows, act, target);
  return splits > 1 && n % 8 == 0 && thalweg::cuda::squares_pay(begin, m * n, splits, target);
}

}  // namespace check
