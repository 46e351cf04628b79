#pragma once
/**
 * The words of a matrix product C[m, n] = A[m, k] B[k, n] (+ addend) shared by the engines (gemm_f32.h, gemm_amx.h) and
 * the driver (gemm_driver.h). A is cut into strips of rows, B into strips of columns; a packed strip ("panel") holds
 * its k steps one after the other, which is the order the inner kernel reads.
 */
#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "native/base/tensor.h"

namespace thalweg::cpu::THALWEG_ISA::gemm {

constexpr int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
constexpr int64_t round_up(int64_t a, int64_t b) { return ceil_div(a, b) * b; }

/** What an operand's elements are, and what they count as in the product. */
enum class Kind : uint8_t { F32, Bf16, F32AsBf16 /* fp32 in memory, rounded to bf16 when packed */ };

/** A [extent, k] or B [k, extent]: `extent` runs along m or n. */
struct Operand {
  const void* data;
  Kind kind;
  bool k_contiguous;  // element (i, p) at data[i * ld + p]; otherwise at data[p * ld + i]
  int64_t extent, k;
  int64_t ld;
};

/** C and what is added to it before its one rounding (null, or a matrix like C, which may be C itself). */
struct Output {
  void* data;
  const void* addend;
  DType dtype;
  int64_t ld;
};

struct Product {
  Operand left, right;
  const void* packed_right;  // panels of the whole of B, or null
  Output out;
};

/** Where one block of C goes after one block of k. */
struct Destination {
  float* partial;  // fp32 sums between blocks of k; null when there is one block, or when the sums live in C itself
  int64_t ld_partial;
  bool first, last;  // block of k
  char* out;         // element (0, 0) of the block in C, and in the addend
  const char* addend;
  DType dtype;
  int64_t ld;
  int rows, cols;      // inside C; the block itself may be wider
  const char* ahead;   // memory that is read soon: the kernel fetches its lines, so many bytes on for each step of k
  int64_t ahead_step;  // bytes
};

/** A strip of A as the kernel reads it: packed, or in place. Strides in bytes. */
struct LeftView {
  const char* data;
  int64_t row_stride, step_stride;
};

}  // namespace thalweg::cpu::THALWEG_ISA::gemm
