#pragma once
/**
 * The tile unit (AMX-TILE, AMX-BF16) in four words: load, store, zero, multiply.
 *
 * One configuration serves every kernel of this backend: palette 1, eight tiles of 16 rows x 64 bytes. A tile is then
 * 16 x 16 fp32 (an accumulator), 16 x 32 bf16 (left operand: 16 rows of 32 consecutive k), or 16 pairs x 16 columns
 * (right operand in "VNNI" order: row p holds, for each column j, the elements (2p, j) and (2p + 1, j) side by side).
 *
 * Own inline assembly instead of <immintrin.h>: GCC's _tile_loadd takes only literal tile numbers and does not tell the
 * compiler that it reads memory.
 *
 * Compiled with -DTHALWEG_EMULATE_TILES the same words run as plain C++, so that the tests can check every tile kernel
 * on a machine without the unit (slowly; sums in the order of the instruction's pseudocode, not bit for bit its
 * rounding).
 */
#if THALWEG_SIMD >= 3
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace thalweg::cpu::THALWEG_ISA {

constexpr int kTileRows = 16;       // rows of every tile
constexpr int kTileBytes = 64;      // bytes of every row
constexpr int kTileK = 32;          // bf16 elements of k per multiply
constexpr int kTileElements = 512;  // bf16 elements of an operand tile

#ifndef THALWEG_EMULATE_TILES

/**
 * Makes the standard configuration current on this thread. Call it on entering a region that uses tiles (once per task
 * of the pool): a few dozen cycles, and safe when other code of the process released the tiles in between. Contents
 * of all tiles are zero afterwards.
 */
inline void ensure_tile_config() {
  struct alignas(64) Config {
    uint8_t palette = 1, start_row = 0, reserved[14] = {};
    uint16_t bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
    uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
  };
  static_assert(sizeof(Config) == 64);
  static constexpr Config config;
  asm volatile("ldtilecfg %0" ::"m"(config));
}

/** tile T = 16 rows of 64 bytes, `stride` bytes apart. */
template <int T>
inline void tile_load(const void* base, size_t stride) {
  asm volatile("tileloadd (%0,%1,1), %%tmm%c2" ::"r"(base), "r"(stride), "i"(T) : "memory");
}

/** Stores tile T as 16 rows of 64 bytes, `stride` bytes apart. */
template <int T>
inline void tile_store(void* base, size_t stride) {
  asm volatile("tilestored %%tmm%c2, (%0,%1,1)" ::"r"(base), "r"(stride), "i"(T) : "memory");
}

template <int T>
inline void tile_zero() {
  asm volatile("tilezero %%tmm%c0" ::"i"(T));
}

/** C[16, 16] += A[16, 32] B[32, 16], A row-major, B in pairs; exact products, fp32 sums. */
template <int C, int A, int B>
inline void tile_multiply() {
  asm volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(C), "i"(A), "i"(B));
}

#else  // THALWEG_EMULATE_TILES

struct EmulatedTile {
  alignas(64) uint8_t bytes[kTileRows * kTileBytes];
};
inline EmulatedTile& emulated_tile(int t) {
  static thread_local EmulatedTile tiles[8];
  return tiles[t];
}

inline void ensure_tile_config() {
  for (int t = 0; t < 8; t++) std::memset(emulated_tile(t).bytes, 0, sizeof(EmulatedTile));
}

template <int T>
inline void tile_load(const void* base, size_t stride) {
  for (int r = 0; r < kTileRows; r++)
    std::memcpy(emulated_tile(T).bytes + r * kTileBytes, static_cast<const uint8_t*>(base) + r * stride, kTileBytes);
}

template <int T>
inline void tile_store(void* base, size_t stride) {
  for (int r = 0; r < kTileRows; r++)
    std::memcpy(static_cast<uint8_t*>(base) + r * stride, emulated_tile(T).bytes + r * kTileBytes, kTileBytes);
}

template <int T>
inline void tile_zero() {
  std::memset(emulated_tile(T).bytes, 0, sizeof(EmulatedTile));
}

template <int C, int A, int B>
inline void tile_multiply() {
  float sum[16][16], left[16][32], right[16][32];
  const auto widen = [](const uint8_t* from, float(&to)[16][32]) {
    uint16_t half[16][32];
    std::memcpy(half, from, sizeof half);
    for (int r = 0; r < 16; r++)
      for (int i = 0; i < 32; i++) {
        const uint32_t bits = static_cast<uint32_t>(half[r][i]) << 16;
        std::memcpy(&to[r][i], &bits, 4);
      }
  };
  std::memcpy(sum, emulated_tile(C).bytes, sizeof sum);
  widen(emulated_tile(A).bytes, left);
  widen(emulated_tile(B).bytes, right);
  for (int m = 0; m < 16; m++)
    for (int p = 0; p < 16; p++)
      for (int j = 0; j < 16; j++)
        sum[m][j] += left[m][2 * p] * right[p][2 * j] + left[m][2 * p + 1] * right[p][2 * j + 1];
  std::memcpy(emulated_tile(C).bytes, sum, sizeof sum);
}

#endif

}  // namespace thalweg::cpu::THALWEG_ISA
#endif
