#pragma once
#include "native/cpu/kernels.h"

// The functions each instruction path defines: one `name` and one `name_workspace` per op, in the file of its family.
namespace thalweg::cpu::THALWEG_ISA {

#define THALWEG_DECLARE(Params, name)            \
  void name(const ops::Params& p, Context& ctx); \
  size_t name##_workspace(const ops::Params& p, int threads);
THALWEG_OPS(THALWEG_DECLARE)
#undef THALWEG_DECLARE

size_t packed_weight_bytes(int64_t n, int64_t k, DType act, Orientation orientation);
void pack_weight_rows(const float* w, int64_t n, int64_t k, int64_t row0, int64_t rows, const Packed& dst);

}  // namespace thalweg::cpu::THALWEG_ISA
