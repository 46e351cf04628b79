#pragma once
#include <vector>

#include "native/base/cpu_features.h"

/**
 * The instruction paths this machine can run. Compiled with THALWEG_EMULATE_TILES (as test:sanitize is) the AMX path
 * too, its tiles as plain C++, wherever there is AVX-512 with bf16.
 */
inline std::vector<thalweg::Isa> available_paths() {
  using thalweg::Isa;
  Isa best = thalweg::best_isa();
#if defined(THALWEG_EMULATE_TILES) && defined(__x86_64__)
  if (best == Isa::Avx512 && __builtin_cpu_supports("avx512bf16")) best = Isa::Amx;
#endif
  std::vector<Isa> paths;
  for (Isa isa : {Isa::Portable, Isa::Avx2, Isa::Avx512, Isa::Amx})
    if (isa <= best) paths.push_back(isa);
  return paths;
}
