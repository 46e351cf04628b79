#pragma once
#include <array>
#include <bit>
#include <cstdint>
#include <cstring>

#include "native/emulator/proxies.h"

/** Operands of wgmma in shared memory: the matrix descriptor and the layouts it names (PTX ISA, "Asynchronous
 * warpgroup-level matrix shared memory layout"; the canonical layouts are written out in CUTLASS,
 * cute/atom/mma_traits_sm90_gmma.hpp). */
namespace thalweg::emulator {

/** A matrix of 16 columns (k) and `rows` rows (m or n) of 2-byte elements, in pieces of 16 bytes. With r the row, W =
 * 2, 4 or 8 the swizzle's width in pieces, LBO and SBO the descriptor's two strides, the piece of
 *
 * - K-major (8 elements along k from 8 c), no swizzle: (r % 8) 16 + (r / 8) SBO + c LBO;
 * - K-major, swizzled: (r % 8) 16 W + (r / 8) SBO + 16 c, LBO unused;
 * - MN-major (8 rows from 8 g, one k), no swizzle: g SBO + (k % 8) 16 + (k / 8) LBO;
 * - MN-major, swizzled: (g % W) 16 + (g / W) LBO + (k % 8) 16 W + (k / 8) SBO
 *
 * lies that far behind the start address; then bits 4.. of the address are swizzled by bits 7.. . */
class WgmmaOperand {
 public:
  /** Faults on what the manual does not define. `what` names the operand. */
  WgmmaOperand(uint64_t descriptor, bool mn_major, int rows, const char* what);

  /** Calls f(offset in shared memory, row, k) for each piece of rows [first, first + count), multiples of 8: of
   * elements (row, k .. k + 8) when K-major, (row .. row + 8, k) when MN-major. */
  template <class F>
  void each_piece(int first, int count, F&& f) const {
    if (mn_major_) {
      for (int k = 0; k < 16; k++)
        for (int row = first; row < first + count; row += 8)
          f(mn_piece(static_cast<uint32_t>(row) / 8, static_cast<uint32_t>(k)), row, k);
    } else {
      for (int row = first; row < first + count; row++)
        for (int k = 0; k < 16; k += 8) f(k_piece(static_cast<uint32_t>(row), static_cast<uint32_t>(k) / 8), row, k);
    }
  }

  /** Calls f(row - first, k, values) for each piece, after the checks of `shared`: its 8 elements, their bits xored
   * with `flip`. */
  template <class F>
  void read(const SharedReader& shared, int first, int count, uint16_t flip, F&& f) const {
    each_piece(first, count, [&](uint32_t offset, int row, int k) {
      if (offset + 16 > shared.bytes) [[unlikely]]
        fault_range(offset, row, k, shared.bytes);
      if (shared.proxies) shared.proxies->check_async_piece(offset / 16, what_);
      std::array<uint16_t, 8> piece;
      std::memcpy(piece.data(), shared.data + offset, 16);
      std::array<uint32_t, 8> bits;
      for (size_t i = 0; i < 8; i++) bits[i] = static_cast<uint32_t>(piece[i] ^ flip) << 16;
      f(row - first, k, std::bit_cast<std::array<float, 8>>(bits));
    });
  }

 private:
  uint32_t swizzled(uint32_t offset) const { return offset ^ (offset >> 3 & swizzle_mask_); }
  uint32_t k_piece(uint32_t row, uint32_t c) const {
    const uint32_t within = width_ == 1 ? c * leading_ : c * 16;
    return swizzled(start_ + row % 8 * 16 * width_ + row / 8 * stride_ + within);
  }
  uint32_t mn_piece(uint32_t g, uint32_t k) const {
    if (width_ == 1) return start_ + g * stride_ + k % 8 * 16 + k / 8 * leading_;
    return swizzled(start_ + g % width_ * 16 + g / width_ * leading_ + k % 8 * 16 * width_ + k / 8 * stride_);
  }
  void check_pattern(int rows) const;
  [[noreturn]] void fault_range(uint32_t offset, int row, int k, size_t bytes) const;

  uint32_t start_, leading_, stride_;  // bytes
  uint32_t width_;                     // of the swizzle, in pieces; 1 is none
  uint32_t swizzle_mask_;
  bool mn_major_;
  const char* what_;
};

}  // namespace thalweg::emulator
