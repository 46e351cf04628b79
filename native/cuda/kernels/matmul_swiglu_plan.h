#pragma once
#include "native/cuda/kernels/hopper_matmul_tiles.h"

/**
 * Whether SwiGLU or its gradient runs in the product before it, and with which tiles. Pure functions of shape and
 * target.
 *
 * Only a product whose sum is whole can: where the separate product would cut its sum or another kernel would run it,
 * fusing would change the bits, so the fused form keeps the separate one's kernel and number of parts, and takes its
 * own tile only.
 */
namespace thalweg::cuda::matmul {

struct FusedPlan {
  bool fused = false;
  bool wgmma = false;
  Plan mma;
  hopper::Plan hopper;  // where wgmma is set
  double clocks = 0;    // predicted, fused; 0 where it cannot be
  double apart = 0;     // of the product and the kernel after it
};

/** Clocks that memory takes to move so many bytes for each element of C. */
inline double memory_clocks(const Shape& s, double bytes, const Target& target) {
  constexpr double kMemoryBytes = 16;
  return bytes * static_cast<double>(s.m) * static_cast<double>(s.n) / (kMemoryBytes * target.multiprocessors);
}

/** Clocks of the kernel that a fusion spares: bound by memory, after a launch of its own. SwiGLU moves 6 bytes a
 * result, of which there are half as many as elements of C. */
inline double spared_clocks(const Shape& s, Fusion f, const Target& target) {
  constexpr double kLaunch = 5000;
  return kLaunch + memory_clocks(s, f == Fusion::kSwiglu ? 3 : 10, target);
}

/** `vectors`: all rows may be accessed in vectors of 16 bytes. */
inline FusedPlan fused_plan(const Shape& s, const Target& target, Fusion f, bool vectors) {
  FusedPlan p;
  p.mma = plan(s, target);
  p.hopper = hopper::plan(s, target, true);
  p.wgmma = !s.fp32 && hopper::preferred(p.hopper, p.mma, target, vectors);
  p.apart = (p.wgmma ? p.hopper.clocks : p.mma.clocks) + spared_clocks(s, f, target);
  if (!vectors || s.fp32 || (p.wgmma ? p.hopper.splits : p.mma.splits) > 1) return p;
  if (p.wgmma)
    p.hopper = hopper::plan(s, target, true, f);
  else
    p.mma = plan(s, target, f);
  const double memory = memory_clocks(s, f == Fusion::kSwiglu ? 3 : 8, target);  // results, and gate and up read
  p.clocks = std::max(p.wgmma ? p.hopper.clocks : p.mma.clocks, memory);
  p.fused = p.clocks < p.apart;
  return p;
}

}  // namespace thalweg::cuda::matmul
