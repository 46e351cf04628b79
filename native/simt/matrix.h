#pragma once
#include <cstdint>

/** The tensor cores: fragments of a warp (mma.sync, ldmatrix, stmatrix) and products of a warpgroup (wgmma). */
namespace thalweg::simt {

/** Reads `count` (1, 2, 4) 8x8 matrices of 16-bit elements; `row` is this lane's row address. */
void load_matrices(uint32_t* registers, const void* row, int count, bool transpose);
void store_matrices(void* row, const uint32_t* registers, int count, bool transpose);

/** d (4 fp32) += a (16x16 bf16, 4 registers) * b (16x8, 2 registers): mma.m16n8k16. */
void mma_m16n8k16(float* d, const uint32_t* a, const uint32_t* b);

/** Shuffles move 32-bit registers; `width` lanes form a segment. */
enum class Shuffle : uint8_t { Xor, Down, Up, Index };
uint32_t shuffle(uint32_t value, int lane, Shuffle kind, int width);
/** Bit i = predicate of lane i. */
uint32_t ballot(bool predicate);

void wgmma_fence();
void wgmma_commit();
/** Waits until at most `groups` of the newest groups are unfinished. */
void wgmma_wait(unsigned groups);
/** d [n / 2 fp32 of each thread] (+)= A [64, 16] B [16, n], both in shared memory; `a_registers` replaces A if not
 * null. */
void wgmma(int n, float* d, uint64_t a, const uint32_t* a_registers, uint64_t b, bool add, bool a_mn_major,
           bool b_mn_major);

}  // namespace thalweg::simt
