#pragma once
#include "native/cuda/kernels/gradient_units.h"
#include "native/cuda/kernels/hopper_matmul_tiles.h"
#include "test/native/cuda/command.h"

/** What the launchers of weight gradients decide, for tests that must know whether their case is one. */
namespace check {

/** Whether a cut sum is added up with its squares, on this device. */
inline bool makes_squares(int64_t m, int64_t n, int64_t rows, int64_t begin, DType act) {
  const cuda::matmul::Shape s{m, n, rows, act == DType::F32};
  const cuda::Target target = device_target();
  const cuda::matmul::Plan everywhere = cuda::matmul::plan(s, target);
  const cuda::matmul::hopper::Plan wgmma = cuda::matmul::hopper::plan(s, target, false);
  const bool hopper = act == DType::BF16 && cuda::matmul::hopper::preferred(wgmma, everywhere, target, true);
  const int splits = hopper ? wgmma.splits : everywhere.splits;
  return splits > 1 && cuda::squares_pay(begin, m * n, splits, target);
}

}  // namespace check
