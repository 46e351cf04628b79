#include "native/emulator/matrix_units.h"

#include <bit>
#include <cstring>

#include "native/emulator/wgmma_operand.h"

namespace thalweg::emulator {

namespace {

float low(uint32_t pair) { return std::bit_cast<float>(pair << 16); }
float high(uint32_t pair) { return std::bit_cast<float>(pair & 0xffff0000u); }

/** 16 lanes, half a register of a warp. */
typedef float Half __attribute__((vector_size(64)));

/** Factors as the lanes of D's fragment need them. Lane 4 r + c of registers 4 g + 2 v + e holds column 8 g + 2 c + e
 * of row 8 v + r: it multiplies row 8 v + r of A and that column of B. */
struct alignas(64) LeftFactor {
  Half lanes[16][2][2];  // [k][v][lanes 0.., 16..]
  void set(int row, int k, float value) {
    float* at = reinterpret_cast<float*>(lanes[k][row / 8]) + 4 * (row % 8);
    for (int c = 0; c < 4; c++) at[c] = value;
  }
};
struct alignas(64) RightFactor {
  float columns[32][2][16][4];  // [g][e][k][c]
  /** 8 elements of a column, along k. */
  void set_along_k(int column, int k, const std::array<float, 8>& values) {
    float* at = columns[column / 8][column % 2][k] + column % 8 / 2;
    for (size_t i = 0; i < 8; i++) at[4 * i] = values[i];
  }
  /** An element each of 8 columns. */
  void set_across(int column, int k, const std::array<float, 8>& values) {
    float *even = columns[column / 8][0][k], *odd = columns[column / 8][1][k];
    for (size_t c = 0; c < 4; c++) {
      even[c] = values[2 * c];
      odd[c] = values[2 * c + 1];
    }
  }
};

/** A [16, 16] from its fragment: lane 4 r + c holds in register 2 h + v the columns 8 h + 2 c, + 1 of row 8 v + r. */
void unpack_a(LeftFactor& a, const Lanes* const* registers) {
  for (int h = 0; h < 2; h++)
    for (int v = 0; v < 2; v++) {
      const Lanes& lanes = *registers[2 * h + v];
      for (int lane = 0; lane < 32; lane++) {
        const uint32_t pair = lanes[static_cast<size_t>(lane)];
        a.set(8 * v + lane / 4, 8 * h + 2 * (lane % 4), low(pair));
        a.set(8 * v + lane / 4, 8 * h + 2 * (lane % 4) + 1, high(pair));
      }
    }
}

/** The registers of 8 columns: d = a b + c (0 when c is null), in the order of k. */
void multiply(Lanes* const* d, const LeftFactor& a, const float (*b)[16][4], const Lanes* const* c) {
  for (int e = 0; e < 2; e++) {
    Half sums[2][2] = {};
    if (c)
      for (int v = 0; v < 2; v++) std::memcpy(sums[v], c[2 * v + e]->data(), sizeof sums[v]);
    for (int k = 0; k < 16; k += 4) {
      Half four;
      std::memcpy(&four, b[e][k], sizeof four);
      const auto step = [&](int at, const Half& right) {
        for (int v = 0; v < 2; v++)
          for (int half = 0; half < 2; half++) sums[v][half] += a.lanes[at][v][half] * right;
      };
      step(k, __builtin_shufflevector(four, four, 0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3));
      step(k + 1, __builtin_shufflevector(four, four, 4, 5, 6, 7, 4, 5, 6, 7, 4, 5, 6, 7, 4, 5, 6, 7));
      step(k + 2, __builtin_shufflevector(four, four, 8, 9, 10, 11, 8, 9, 10, 11, 8, 9, 10, 11, 8, 9, 10, 11));
      step(k + 3, __builtin_shufflevector(four, four, 12, 13, 14, 15, 12, 13, 14, 15, 12, 13, 14, 15, 12, 13, 14, 15));
    }
    for (int v = 0; v < 2; v++) std::memcpy(d[2 * v + e]->data(), sums[v], sizeof sums[v]);
  }
}

void check_op(const WgmmaOp& op) {
  if (op.n < 8 || op.n > 256 || op.n % 8 != 0) fault("wgmma with n = ", op.n, ", expected a multiple of 8 to 256");
  if (op.a_registers && op.a_transposed) fault("wgmma takes A transposed only from shared memory");
}

}  // namespace

void mma_m16n8k16_bf16(Lanes* d, const Lanes* a, const Lanes* b, const Lanes* c) {
  LeftFactor left;
  alignas(64) float right[2][16][4];
  const Lanes* const lefts[4] = {a, a + 1, a + 2, a + 3};
  const Lanes* const olds[4] = {c, c + 1, c + 2, c + 3};
  Lanes* const news[4] = {d, d + 1, d + 2, d + 3};
  unpack_a(left, lefts);
  // Lane 4 j + t holds in register h the rows 8 h + 2 t, + 1 of column j of B.
  for (int h = 0; h < 2; h++)
    for (int lane = 0; lane < 32; lane++) {
      const uint32_t pair = b[h][static_cast<size_t>(lane)];
      const int column = lane / 4, k = 8 * h + 2 * (lane % 4);
      right[column % 2][k][column / 2] = low(pair);
      right[column % 2][k + 1][column / 2] = high(pair);
    }
  multiply(news, left, right, olds);
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
  LeftFactor left;
  // 16 KiB that need no zeroing.
  static thread_local RightFactor right;
  const uint16_t flip = op.negate_a != op.negate_b ? 0x8000 : 0;
  if (op.a_registers)
    unpack_a(left, a_registers);
  else
    WgmmaOperand(op.a, op.a_transposed, 64, "wgmma's A")
        .read(shared, 16 * (warp_in_group % 4), 16, 0, [&](int row, int k, const std::array<float, 8>& values) {
          for (int i = 0; i < 8; i++)
            left.set(row + (op.a_transposed ? i : 0), k + (op.a_transposed ? 0 : i), values[static_cast<size_t>(i)]);
        });
  const WgmmaOperand b(op.b, op.b_transposed, op.n, "wgmma's B");
  RightFactor& to = right;
  if (op.b_transposed)
    b.read(shared, 0, op.n, flip,
           [&](int n, int k, const std::array<float, 8>& values) { to.set_across(n, k, values); });
  else
    b.read(shared, 0, op.n, flip,
           [&](int n, int k, const std::array<float, 8>& values) { to.set_along_k(n, k, values); });
  for (int g = 0; g < op.n / 8; g++) multiply(d + 4 * g, left, right.columns[g], op.accumulate ? d + 4 * g : nullptr);
}

void hold_wgmma(const WgmmaOp& op, int warp_in_group, ProxyState& proxies) {
  check_op(op);
  if (!op.a_registers)
    WgmmaOperand(op.a, op.a_transposed, 64, "wgmma's A")
        .each_piece(16 * (warp_in_group % 4), 16,
                    [&](uint32_t offset, int, int) { proxies.begin_async_read(offset, 16, "wgmma's A"); });
  WgmmaOperand(op.b, op.b_transposed, op.n, "wgmma's B").each_piece(0, op.n, [&](uint32_t offset, int, int) {
    proxies.begin_async_read(offset, 16, "wgmma's B");
  });
}

void release_wgmma(const WgmmaOp& op, int warp_in_group, ProxyState& proxies) {
  const auto end = [&](uint32_t offset, int, int) { proxies.end_async_read(offset, 16); };
  if (!op.a_registers)
    WgmmaOperand(op.a, op.a_transposed, 64, "wgmma's A").each_piece(16 * (warp_in_group % 4), 16, end);
  WgmmaOperand(op.b, op.b_transposed, op.n, "wgmma's B").each_piece(0, op.n, end);
}

}  // namespace thalweg::emulator
