#pragma once
#include "native/base/cpu_features.h"
#include "native/cpu/context.h"
#include "native/ops/table.h"

/**
 * Every file of native/cpu/kernels is compiled once per instruction path (see CMakeLists.txt) into its own namespace
 * thalweg::cpu::THALWEG_ISA (portable, avx2, avx512, amx); this table is how the rest reaches them.
 * THALWEG_SIMD is 0 (portable), 1 (AVX2+FMA), 2 (AVX-512), 3 (AVX-512 + AMX + avx512_bf16).
 */
namespace thalweg::cpu {

struct Kernels {
#define THALWEG_KERNEL(Params, name)                \
  void (*name)(const ops::Params& p, Context& ctx); \
  size_t (*name##_workspace)(const ops::Params& p, int threads);
  THALWEG_OPS(THALWEG_KERNEL)
#undef THALWEG_KERNEL

  /** Bytes of the packed copy of a weight [n, k]; 0 means this path does not want one. */
  size_t (*packed_weight_bytes)(int64_t n, int64_t k, DType act, Orientation orientation);
  /** Packs rows [row0, row0 + rows) of the fp32 master w [n, k] into dst; row0 is a multiple of kPackRows, and so is
   * rows except at the end. */
  void (*pack_weight_rows)(const float* w, int64_t n, int64_t k, int64_t row0, int64_t rows, const Packed& dst);
};

/** Row granularity of pack_weight_rows: blocks of this many rows touch disjoint bytes of the packed copy, so threads
 * may pack them side by side. */
constexpr int64_t kPackRows = 32;

namespace portable {
const Kernels& kernels();
}
namespace avx2 {
const Kernels& kernels();
}
namespace avx512 {
const Kernels& kernels();
}
namespace amx {
const Kernels& kernels();
}

/** The kernels of one path. */
const Kernels& kernels_for(Isa isa);

}  // namespace thalweg::cpu
