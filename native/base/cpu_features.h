#pragma once

namespace thalweg {

/** Instruction paths of the CPU backend, each a superset of the one before. */
enum class Isa { Portable = 0, Avx2 = 1, Avx512 = 2, Amx = 3 };

const char* isa_name(Isa isa);

/** The best path this processor and kernel offer: CPUID bits, XCR0 and (for AMX) the kernel's permission. Never the
 * model number. */
Isa best_isa();

/** best_isa(), or the path forced by THALWEG_CPU=portable|avx2|avx512|amx (Error BAD_OPTION if unknown or not offered
 * here). */
Isa selected_isa();

}  // namespace thalweg
