#include "native/base/error.h"
#include "native/cpu/kernels.h"

namespace thalweg::cpu {

const Kernels& kernels_for(Isa isa) {
#if defined(__x86_64__)
  switch (isa) {
    case Isa::Amx:
      return amx::kernels();
    case Isa::Avx512:
      return avx512::kernels();
    case Isa::Avx2:
      return avx2::kernels();
    case Isa::Portable:
      break;
  }
#endif
  (void)isa;
  return portable::kernels();
}

}  // namespace thalweg::cpu
