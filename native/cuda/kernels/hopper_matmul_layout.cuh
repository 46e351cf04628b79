#pragma once
#include "native/cuda/kernels/hopper_matmul_tiles.h"
#include "native/cuda/kernels/matmul_operand.cuh"
#include "native/cuda/ptx/wgmma.h"

/**
 * How operands lie in shared memory. Everything moves in panels of 64 x 64 bf16, 64 rows of 128 bytes whose 16-byte
 * chunks the hardware's 128-byte swizzle exchanges: chunk c of row r lies at c ^ (r % 8). A slot of the ring:
 *
 *   | A panel 0 | A panel 1 | B panel 0 | B panel 1 | ...      8 KB each, 1024-byte aligned
 *
 * K-major panels hold 64 rows of the operand, each 64 elements of the sum long; MN-major ones 64 rows along the sum,
 * each 64 elements of the operand's side. Panels of one side follow each other every kPanelBytes in both.
 */
namespace thalweg::cuda::matmul::hopper {

/** A block's shared memory. */
template <Tile T>
struct Shared {
  std::byte slots[T.stages][T.stage_bytes()];
  std::byte slabs[kGroups][kSlabs][kPanelBytes];
  uint64_t full[T.stages], empty[T.stages];
  uint64_t turns[kGroups];  // ping-pong
};

constexpr bool a_mn_major(Form form) { return !a_sum_major(form); }
constexpr bool b_mn_major(Form form) { return !b_sum_major(form); }

/** Descriptors count in 16 bytes; a block has less than 2^18, so that adding to the low field never carries. */
constexpr uint64_t descriptor_offset(int bytes) { return static_cast<uint64_t>(bytes >> 4); }

/** Of the panels that begin at `panel`. MN-major: `leading` goes to the next panel; stride: eight rows on, in both. */
template <bool MnMajor>
DEVICE uint64_t panel_descriptor(const std::byte* panel, int leading = kPanelBytes) {
  return matrix_descriptor(shared_address(panel), MnMajor ? static_cast<uint32_t>(leading) : 16, 8 * 128);
}

/** From one 16 of the sum to the next: 32 bytes on in every row, or 16 rows on. */
template <bool MnMajor>
constexpr uint64_t kSixteenOn = descriptor_offset(MnMajor ? 16 * 128 : 32);

/** Where this lane's row of the four 8 x 8 matrices lies that make rows `warp` * 16 .. of a panel, columns `step` * 16
 * ..: what stmatrix writes and ldmatrix reads in the order of wgmma's sums. */
DEVICE int matrix_row(int warp, int step, int lane) {
  const int row = warp * 16 + lane % 16, chunk = step * 2 + lane / 16;
  return row * 128 + (chunk ^ (row % 8)) * 16;
}

/** Half a panel, of results: 64 rows of 32 columns, 64 bytes, under the 64-byte swizzle (chunk c of row r at c ^ (r / 2
 * % 4)); of paired operands: 32 rows of 64. */
constexpr int kHalfBytes = kPanelBytes / 2;
DEVICE int half_matrix_row(int warp, int step, int lane) {
  const int row = warp * 16 + lane % 16, chunk = step * 2 + lane / 16;
  return row * 64 + (chunk ^ (row / 2 % 4)) * 16;
}

}  // namespace thalweg::cuda::matmul::hopper
