#include "native/emulator/wgmma_operand.h"

#include <algorithm>

namespace thalweg::emulator {

namespace {

/** Bits of the descriptor that no field uses. */
constexpr uint64_t kReserved = 3ull << 14 | 3ull << 30 | 7ull << 46 | 0x3ffull << 52;

/** A field in units of 16 bytes. */
uint32_t field(uint64_t descriptor, int bit) { return static_cast<uint32_t>(descriptor >> bit & 0x3fff) << 4; }

}  // namespace

WgmmaOperand::WgmmaOperand(uint64_t descriptor, bool mn_major, int rows, const char* what)
    : start_(field(descriptor, 0)),
      leading_(field(descriptor, 16)),
      stride_(field(descriptor, 32)),
      mn_major_(mn_major),
      what_(what) {
  constexpr uint32_t kWidths[4] = {1, 8, 4, 2};  // swizzle modes 0 none, 1 128 bytes, 2 64, 3 32
  width_ = kWidths[descriptor >> 62];
  swizzle_mask_ = (width_ - 1) << 4;
  if (descriptor & kReserved)
    fault(what, ": reserved bits of the matrix descriptor 0x", std::hex, descriptor,
          " are set (an address past 18 bits?)");
  if (descriptor >> 49 & 7)
    fault(what, ": a matrix descriptor with base offset ", descriptor >> 49 & 7, " is not emulated, expected 0");
  if (width_ > 1) check_pattern(rows);
}

/** The swizzle's pattern repeats each 128 W bytes and begins at such an address when the base offset is 0. */
void WgmmaOperand::check_pattern(int rows) const {
  const uint32_t row_bytes = 16 * width_, pattern = 8 * row_bytes, groups = static_cast<uint32_t>(rows) / 8;
  if (start_ / row_bytes % 8 != 0)
    fault(what_, " starts at ", start_, ", in row ", start_ / row_bytes % 8, " of a swizzle pattern of ", pattern,
          " bytes: base offset 0 wants the pattern to start at a multiple of ", pattern);
  const uint32_t needs = mn_major_ ? std::min(groups, width_) * 16 : 32;
  if (start_ % row_bytes + needs > row_bytes)
    fault(what_, " starts at byte ", start_ % row_bytes, " of a swizzled row of ", row_bytes, ", of which it needs ",
          needs);
  const bool stride_used = mn_major_ || groups > 1, leading_used = mn_major_ && groups > width_;
  if (stride_used && stride_ % pattern != 0)
    fault(what_, ": the stride byte offset ", stride_, " is no multiple of the swizzle pattern's ", pattern, " bytes");
  if (leading_used && leading_ % pattern != 0)
    fault(what_, ": the leading byte offset ", leading_, " is no multiple of the swizzle pattern's ", pattern,
          " bytes");
}

void WgmmaOperand::fault_range(uint32_t offset, int row, int k, size_t bytes) const {
  fault(what_, " lies out of shared memory: element (", row, ", ", k, ") at offset ", offset, " of ", bytes);
}

}  // namespace thalweg::emulator
