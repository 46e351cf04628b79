#pragma once
#include <cstddef>
#include <cstdint>

namespace thalweg::text {

// Written by tools/generate-unicode.mjs into unicode_*_table.cpp.

struct Decomposition {
  uint32_t code_and_composes;  // code point * 2, plus 1 when first + last compose back to it
  uint32_t first;
  uint32_t last;  // 0: a single character
};
struct MarkRange {
  uint32_t first;
  uint32_t last;
  uint32_t order;  // 1.. in the order of canonical combining classes
};

extern const char* const kUnicodeVersion;
extern const uint32_t kClassStarts[];
extern const size_t kClassStartsCount;
extern const uint32_t kCaseStarts[];
extern const size_t kCaseStartsCount;
extern const Decomposition kDecompositions[];
extern const size_t kDecompositionsCount;
extern const MarkRange kMarks[];
extern const size_t kMarksCount;

}  // namespace thalweg::text
