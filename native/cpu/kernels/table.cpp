// Compiled once per instruction path: fills the table with this path's kernels.
#include "native/cpu/kernels/declare.h"

namespace thalweg::cpu::THALWEG_ISA {

const Kernels& kernels() {
  static const Kernels table = {
#define THALWEG_ENTRY(Params, name) &name, &name##_workspace,
      THALWEG_OPS(THALWEG_ENTRY)
#undef THALWEG_ENTRY
          & packed_weight_bytes,
      &pack_weight_rows,
  };
  return table;
}

}  // namespace thalweg::cpu::THALWEG_ISA
