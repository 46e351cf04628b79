#pragma once
#include <array>
#include <cstddef>
#include <cstdint>

#include "native/emulator/proxies.h"

/** The warp's and the warpgroup's matrix instructions (PTX ISA, "Warp-level matrix instructions" and "Asynchronous
 * warpgroup-level matrix instructions"), bfloat16 in and float32 out.
 *
 * Sums are float32 sums of exact products in the order of k. The hardware aligns the products of one step to the
 * largest exponent and cuts the rest off, so its last bits differ. */
namespace thalweg::emulator {

/** One 32-bit register of a warp's 32 lanes. */
using Lanes = std::array<uint32_t, 32>;

/** D [16, 8] = A [16, 16] B [16, 8] + C: d 4 registers (float32 bits), a 4, b 2 (pairs of bfloat16), c 4. d may be c.
 */
void mma_m16n8k16_bf16(Lanes* d, const Lanes* a, const Lanes* b, const Lanes* c);

/** ldmatrix.m8n8.x{count}.b16: row i of matrix m are the 16 bytes at rows[8 m + i], aligned to 16; count 1, 2 or 4.
 * Addresses of lanes from 8 count on are not looked at. */
void load_matrices(Lanes* r, int count, bool transposed, const std::array<const std::byte*, 32>& rows);
/** stmatrix.m8n8.x{count}.b16, as load_matrices. */
void store_matrices(const Lanes* r, int count, bool transposed, const std::array<std::byte*, 32>& rows);

/** wgmma.mma_async.m64n{n}k16.f32.bf16.bf16: `a` (unless a_registers) and `b` are matrix descriptors, transposed means
 * MN-major (imm-trans = 1), negated imm-scale = -1, accumulate the operand scale-d. */
struct WgmmaOp {
  int n;
  bool a_registers, a_transposed, b_transposed, negate_a, negate_b, accumulate;
  uint64_t a, b;
};

/** One warp's quarter (rows 16 * (warp % 4)..) of D [64, n]: d[0 .. n / 2) point at its registers, a_registers[0 .. 4)
 * at A's when A comes from registers (else unused). Faults: descriptors the manual does not define, shared memory out
 * of range, not fenced or being written. */
void wgmma_quarter(const WgmmaOp& op, int warp_in_group, Lanes* const* d, const Lanes* const* a_registers,
                   const SharedReader& shared);

/** Marks what a warp's quarter reads of shared memory (its 16 rows of A, all of B) as being read, until release_wgmma
 * of the same op and warp: at wgmma.mma_async, and when wgmma.wait_group covers it. */
void hold_wgmma(const WgmmaOp& op, int warp_in_group, ProxyState& proxies);
void release_wgmma(const WgmmaOp& op, int warp_in_group, ProxyState& proxies);

}  // namespace thalweg::emulator
