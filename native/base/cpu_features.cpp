#include "native/base/cpu_features.h"

#include <cstdint>
#include <cstdlib>
#include <string>

#include "native/base/error.h"

#if defined(__x86_64__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace thalweg {

namespace {
#if defined(__x86_64__)
uint64_t xcr0() {
  uint32_t lo, hi;
  __asm__ volatile("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
  return (static_cast<uint64_t>(hi) << 32) | lo;
}

Isa detect() {
  uint32_t a, b, c, d;
  if (!__get_cpuid(1, &a, &b, &c, &d)) return Isa::Portable;
  const bool osxsave = c & (1u << 27), fma = c & (1u << 12), f16c = c & (1u << 29);
  if (!osxsave || !fma || !f16c) return Isa::Portable;
  const uint64_t state = xcr0();
  uint32_t b7, c7, d7;
  if (!__get_cpuid_count(7, 0, &a, &b7, &c7, &d7)) return Isa::Portable;
  const bool avx2 = (b7 & (1u << 5)) && (b7 & (1u << 8)) && (state & 0x6) == 0x6;
  if (!avx2) return Isa::Portable;
  const uint32_t v4 = (1u << 16) | (1u << 17) | (1u << 28) | (1u << 30) | (1u << 31);  // F, DQ, CD, BW, VL
  if ((b7 & v4) != v4 || (state & 0xe6) != 0xe6) return Isa::Avx2;
  uint32_t a71 = 0, b71, c71, d71;
  __get_cpuid_count(7, 1, &a71, &b71, &c71, &d71);
  const bool avx512_bf16 = a71 & (1u << 5);
  const bool amx = (d7 & (1u << 24)) && (d7 & (1u << 22));  // AMX-TILE, AMX-BF16
  constexpr long kRequestPermission = 0x1023, kTileData = 18;
  if (amx && avx512_bf16 && (state & 0x60000) == 0x60000 && syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0)
    return Isa::Amx;
  return Isa::Avx512;
}
#else
Isa detect() { return Isa::Portable; }
#endif
}  // namespace

const char* isa_name(Isa isa) {
  switch (isa) {
    case Isa::Portable:
      return "portable";
    case Isa::Avx2:
      return "avx2";
    case Isa::Avx512:
      return "avx512";
    case Isa::Amx:
      return "amx";
  }
  return "?";
}

Isa best_isa() {
  static const Isa best = detect();
  return best;
}

Isa selected_isa() {
  const char* forced = std::getenv("THALWEG_CPU");
  if (forced == nullptr || *forced == '\0') return best_isa();
  for (Isa isa : {Isa::Portable, Isa::Avx2, Isa::Avx512, Isa::Amx}) {
    if (std::string(forced) != isa_name(isa)) continue;
    if (isa > best_isa())
      fail("BAD_OPTION", "THALWEG_CPU=", forced,
           " asks for a path this machine does not offer (best here: ", isa_name(best_isa()), ").");
    return isa;
  }
  fail("BAD_OPTION", "THALWEG_CPU=", forced, " is not one of portable, avx2, avx512, amx.");
}

}  // namespace thalweg
