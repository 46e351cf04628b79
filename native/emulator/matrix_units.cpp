#include "native/emulator/matrix_units.h"

#include <bit>
#include <cstring>

#include "native/emulator/wgmma_operand.h"

namespace thalweg::emulator {

namespace {

float low(uint32_t pair) { return std::bit_cast<float>(pair << 16); }
float high(uint32_t pair) { return std::bit_cast<float>(pair & 0xffff0000u); }

/** A [16, 16] from its fragment: lane 4 r + c holds in register 2 h + v the columns 8 h + 2 c, + 1 of row 8 v + r. */
void unpack_a(float (*a)[16], const Lanes* const* registers) {
  for (int h = 0; h < 2; h++)
    for (int v = 0; v < 2; v++) {
      const Lanes& lanes = *registers[2 * h + v];
      for (int lane = 0; lane < 32; lane++) {
        float* at = &a[8 * v + lane / 4][8 * h + 2 * (lane % 4)];
        at[0] = low(lanes[static_cast<size_t>(lane)]);
        at[1] = high(lanes[static_cast<size_t>(lane)]);
      }
    }
}

/** d[16][n] += a[16][16] b[16][n], four steps of k at a time, in the order of k. Rows of b and d lie `pitch` floats
 * apart. */
template <int kPitch>
void multiply(float (*d)[kPitch], const float (*a)[16], const float (*b)[kPitch], int n) {
  for (int i = 0; i < 16; i++)
    for (int k = 0; k < 16; k += 4) {
      const float a0 = a[i][k], a1 = a[i][k + 1], a2 = a[i][k + 2], a3 = a[i][k + 3];
      const float *b0 = b[k], *b1 = b[k + 1], *b2 = b[k + 2], *b3 = b[k + 3];
      float* to = d[i];
      for (int j = 0; j < n; j++) to[j] = (((to[j] + a0 * b0[j]) + a1 * b1[j]) + a2 * b2[j]) + a3 * b3[j];
    }
}

/** The fragment of D (and C) of 8 columns: lane 4 r + c holds in register 2 v + e column 2 c + e of row 8 v + r. */
template <int kPitch>
void pack_d(Lanes* const* registers, const float (*d)[kPitch], int first_column) {
  for (int v = 0; v < 2; v++)
    for (int e = 0; e < 2; e++) {
      Lanes& lanes = *registers[2 * v + e];
      for (int lane = 0; lane < 32; lane++)
        lanes[static_cast<size_t>(lane)] =
            std::bit_cast<uint32_t>(d[8 * v + lane / 4][first_column + 2 * (lane % 4) + e]);
    }
}

template <int kPitch, class LanesPointer>
void unpack_d(float (*d)[kPitch], LanesPointer const* registers, int first_column) {
  for (int v = 0; v < 2; v++)
    for (int e = 0; e < 2; e++) {
      const Lanes& lanes = *registers[2 * v + e];
      for (int lane = 0; lane < 32; lane++)
        d[8 * v + lane / 4][first_column + 2 * (lane % 4) + e] = std::bit_cast<float>(lanes[static_cast<size_t>(lane)]);
    }
}

void negate(float* values, int count) {
  for (int i = 0; i < count; i++) values[i] = -values[i];
}

void check_op(const WgmmaOp& op) {
  if (op.n < 8 || op.n > 256 || op.n % 8 != 0) fault("wgmma with n = ", op.n, ", expected a multiple of 8 to 256");
  if (op.a_registers && op.a_transposed) fault("wgmma takes A transposed only from shared memory");
}

}  // namespace

void mma_m16n8k16_bf16(Lanes* d, const Lanes* a, const Lanes* b, const Lanes* c) {
  float left[16][16], right[16][8], sums[16][8];
  const Lanes* const lefts[4] = {a, a + 1, a + 2, a + 3};
  const Lanes* const olds[4] = {c, c + 1, c + 2, c + 3};
  Lanes* const news[4] = {d, d + 1, d + 2, d + 3};
  unpack_a(left, lefts);
  // Lane 4 j + c holds in register h the rows 8 h + 2 c, + 1 of column j of B.
  for (int h = 0; h < 2; h++)
    for (int lane = 0; lane < 32; lane++) {
      right[8 * h + 2 * (lane % 4)][lane / 4] = low(b[h][static_cast<size_t>(lane)]);
      right[8 * h + 2 * (lane % 4) + 1][lane / 4] = high(b[h][static_cast<size_t>(lane)]);
    }
  unpack_d(sums, olds, 0);
  multiply(sums, left, right, 8);
  pack_d(news, sums, 0);
}

void load_matrices(Lanes* r, int count, bool transposed, const std::array<const std::byte*, 32>& rows) {
  Lanes out[4];
  for (int m = 0; m < count; m++) {
    uint16_t matrix[8][8];
    for (int i = 0; i < 8; i++) {
      const std::byte* row = rows[static_cast<size_t>(8 * m + i)];
      if (reinterpret_cast<uintptr_t>(row) % 16 != 0)
        fault("ldmatrix: the address of lane ", 8 * m + i, " is not aligned to 16");
      std::memcpy(matrix[i], row, 16);
    }
    for (int lane = 0; lane < 32; lane++) {
      const int i = lane / 4, j = 2 * (lane % 4);
      const uint32_t first = transposed ? matrix[j][i] : matrix[i][j];
      const uint32_t second = transposed ? matrix[j + 1][i] : matrix[i][j + 1];
      out[m][static_cast<size_t>(lane)] = first | second << 16;
    }
  }
  for (int m = 0; m < count; m++) r[m] = out[m];
}

void store_matrices(const Lanes* r, int count, bool transposed, const std::array<std::byte*, 32>& rows) {
  for (int m = 0; m < count; m++) {
    uint16_t matrix[8][8];
    for (int lane = 0; lane < 32; lane++) {
      const int i = lane / 4, j = 2 * (lane % 4);
      const uint32_t pair = r[m][static_cast<size_t>(lane)];
      (transposed ? matrix[j][i] : matrix[i][j]) = static_cast<uint16_t>(pair);
      (transposed ? matrix[j + 1][i] : matrix[i][j + 1]) = static_cast<uint16_t>(pair >> 16);
    }
    for (int i = 0; i < 8; i++) {
      std::byte* row = rows[static_cast<size_t>(8 * m + i)];
      if (reinterpret_cast<uintptr_t>(row) % 16 != 0)
        fault("stmatrix: the address of lane ", 8 * m + i, " is not aligned to 16");
      std::memcpy(row, matrix[i], 16);
    }
  }
}

void wgmma_quarter(const WgmmaOp& op, int warp_in_group, Lanes* const* d, const Lanes* const* a_registers,
                   const SharedReader& shared) {
  check_op(op);
  constexpr int kPitch = 256;
  // Static: 36 KiB that need no zeroing; one launch is played by one thread.
  alignas(64) static thread_local float right[16][kPitch], sums[16][kPitch];
  alignas(64) float left[16][16];

  if (op.a_registers) {
    unpack_a(left, a_registers);
  } else {
    alignas(64) float columns[16][16];  // [k][row]
    const WgmmaOperand a(op.a, op.a_transposed, 64, "wgmma's A");
    a.read(shared, 16 * (warp_in_group % 4), 16, columns[0], 16);
    for (int i = 0; i < 16; i++)
      for (int k = 0; k < 16; k++) left[i][k] = columns[k][i];
  }
  if (op.negate_a != op.negate_b) negate(left[0], 256);
  WgmmaOperand(op.b, op.b_transposed, op.n, "wgmma's B").read(shared, 0, op.n, right[0], kPitch);

  if (op.accumulate) {
    for (int column = 0; column < op.n; column += 8) unpack_d(sums, d + column / 2, column);
  } else {
    for (auto& row : sums) std::memset(row, 0, static_cast<size_t>(op.n) * sizeof(float));
  }
  multiply(sums, left, right, op.n);
  for (int column = 0; column < op.n; column += 8) pack_d(d + column / 2, sums, column);
}

void hold_wgmma(const WgmmaOp& op, ProxyState& proxies) {
  check_op(op);
  if (!op.a_registers)
    WgmmaOperand(op.a, op.a_transposed, 64, "wgmma's A").each_piece(0, 64, [&](uint32_t offset, int, int) {
      proxies.begin_async_read(offset, 16, "wgmma's A");
    });
  WgmmaOperand(op.b, op.b_transposed, op.n, "wgmma's B").each_piece(0, op.n, [&](uint32_t offset, int, int) {
    proxies.begin_async_read(offset, 16, "wgmma's B");
  });
}

void release_wgmma(const WgmmaOp& op, ProxyState& proxies) {
  const auto end = [&](uint32_t offset, int, int) { proxies.end_async_read(offset, 16); };
  if (!op.a_registers) WgmmaOperand(op.a, op.a_transposed, 64, "wgmma's A").each_piece(0, 64, end);
  WgmmaOperand(op.b, op.b_transposed, op.n, "wgmma's B").each_piece(0, op.n, end);
}

}  // namespace thalweg::emulator
