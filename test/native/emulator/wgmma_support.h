#pragma once
#include "test/native/emulator/support.h"

/** Layouts of wgmma's operands as the manual writes them, in CuTe's notation. */
namespace check {

/** ((s0, s1, ...):(d0, d1, ...)): the index splits into digits of the shape's sizes, first the fastest; each has its
 * stride. */
struct Digits {
  std::vector<std::pair<uint32_t, uint32_t>> sizes_strides;
  uint32_t operator()(uint32_t index) const {
    uint32_t at = 0;
    for (const auto& [size, stride] : sizes_strides) {
      at += index % size * stride;
      index /= size;
    }
    return at;
  }
};

enum class Mode { None = 0, B128 = 1, B64 = 2, B32 = 3 };  // numbers of the descriptor's field
inline uint32_t width_of(Mode mode) {
  return mode == Mode::None ? 1 : mode == Mode::B128 ? 8 : mode == Mode::B64 ? 4 : 2;
}

/** A matrix of `rows` by 16 in shared memory from `start`: table "Canonical layouts" of the manual, T = 8 elements of 2
 * bytes. */
struct Canonical {
  Mode mode;
  bool mn_major;
  uint32_t start, lbo, sbo;  // bytes

  uint32_t offset(int row, int k) const {
    const uint32_t T = 8, w = width_of(mode), lbo_e = lbo / 2, sbo_e = sbo / 2, many = 1u << 20;
    Digits rows, columns;
    if (mn_major && mode == Mode::None) {
      rows = {{{T, 1}, {many, sbo_e}}};
      columns = {{{8, T}, {many, lbo_e}}};
    } else if (mn_major) {
      rows = {{{T, 1}, {w, T}, {many, lbo_e}}};
      columns = {{{8, w * T}, {many, sbo_e}}};
    } else if (mode == Mode::None) {
      rows = {{{8, T}, {many, sbo_e}}};
      columns = {{{T, 1}, {2, lbo_e}}};
    } else {
      rows = {{{8, w * T}, {many, sbo_e}}};
      columns = {{{T, 1}, {2, T}}};
    }
    const uint32_t address = start + 2 * (rows(static_cast<uint32_t>(row)) + columns(static_cast<uint32_t>(k)));
    // Swizzle<B, 4, 3>: B bits from bit 7 are xored onto those from bit 4.
    const uint32_t bits = mode == Mode::B128 ? 3 : mode == Mode::B64 ? 2 : mode == Mode::B32 ? 1 : 0;
    return address ^ (address >> 7 & ((1u << bits) - 1)) << 4;
  }
  uint64_t descriptor() const {
    return static_cast<uint64_t>(start >> 4) | static_cast<uint64_t>(lbo >> 4) << 16 |
           static_cast<uint64_t>(sbo >> 4) << 32 | static_cast<uint64_t>(mode) << 62;
  }
  void write(Shared& shared, const Matrix& m) const {
    for (int i = 0; i < m.rows; i++)
      for (int k = 0; k < 16; k++) shared.set_half(offset(i, k), bf16_of(m(i, k)));
  }
};

/** Where element i of D's fragment of a warp lies (figure "WGMMA .m64nNk16 register fragment layout for accumulator").
 */
inline int d_row(int warp, int lane, int i) { return 16 * warp + lane / 4 + 8 * (i / 2 % 2); }
inline int d_column(int lane, int i) { return 8 * (i / 4) + lane % 4 * 2 + i % 2; }

/** D's registers of a warp, with pointers to them. */
struct Accumulators {
  std::vector<Lanes> lanes;
  std::vector<Lanes*> pointers;
  explicit Accumulators(int n, uint32_t bits = 0xffffffff) : lanes(static_cast<size_t>(n) / 2) {
    for (Lanes& l : lanes) {
      l.fill(bits);
      pointers.push_back(&l);
    }
  }
};

/** D [64, n] of the four warps. */
inline Matrix wgmma(const thalweg::emulator::WgmmaOp& op, const Shared& shared,
                    thalweg::emulator::ProxyState* proxies = nullptr, const Matrix* a = nullptr,
                    const Matrix* old = nullptr) {
  Matrix d(64, op.n);
  for (int warp = 0; warp < 4; warp++) {
    Accumulators sums(op.n);
    Lanes fragment[4];
    const Lanes* registers[4] = {fragment, fragment + 1, fragment + 2, fragment + 3};
    for (int lane = 0; lane < 32; lane++) {
      // A's fragment is mma's: registers of rows g and g + 8, then the same of columns 8 and up.
      for (int r = 0; a && r < 4; r++) {
        const int row = 16 * warp + lane / 4 + 8 * (r % 2), column = 8 * (r / 2) + 2 * (lane % 4);
        fragment[r][static_cast<size_t>(lane)] = pair_of((*a)(row, column), (*a)(row, column + 1));
      }
      for (int i = 0; old && i < op.n / 2; i++)
        sums.lanes[static_cast<size_t>(i)][static_cast<size_t>(lane)] =
            std::bit_cast<uint32_t>((*old)(d_row(warp, lane, i), d_column(lane, i)));
    }
    wgmma_quarter(op, 4 + warp, sums.pointers.data(), registers, {shared.data(), shared.bytes(), proxies});
    for (int lane = 0; lane < 32; lane++)
      for (int i = 0; i < op.n / 2; i++)
        d(d_row(warp, lane, i), d_column(lane, i)) =
            std::bit_cast<float>(sums.lanes[static_cast<size_t>(i)][static_cast<size_t>(lane)]);
  }
  return d;
}

}  // namespace check
