#include "test/native/emulator/support.h"

using namespace check;
using namespace thalweg::emulator;

namespace {

// The manual's figures for mma.m16n8k16: groupID = laneid / 4, threadID_in_group = laneid % 4.
int a_row(int lane, int i) { return lane / 4 + ((i < 2 || (i >= 4 && i < 6)) ? 0 : 8); }
int a_column(int lane, int i) { return lane % 4 * 2 + (i & 1) + (i < 4 ? 0 : 8); }
int b_row(int lane, int i) { return lane % 4 * 2 + (i & 1) + (i < 2 ? 0 : 8); }
int b_column(int lane) { return lane / 4; }
int c_row(int lane, int i) { return lane / 4 + (i < 2 ? 0 : 8); }
int c_column(int lane, int i) { return lane % 4 * 2 + (i & 1); }

std::array<Lanes, 4> a_fragment(const Matrix& a) {
  std::array<Lanes, 4> out;
  for (int lane = 0; lane < 32; lane++)
    for (int r = 0; r < 4; r++)
      out[r][lane] =
          pair_of(a(a_row(lane, 2 * r), a_column(lane, 2 * r)), a(a_row(lane, 2 * r + 1), a_column(lane, 2 * r + 1)));
  return out;
}

}  // namespace

TEST("mma multiplies fragments laid out as the manual's figures") {
  auto random = random_of(1);
  const Matrix a(16, 16, random), b(8, 16, random), c(16, 8, random);  // b transposed: [n, k]
  const Matrix want = product(a, b);
  const auto fa = a_fragment(a);
  std::array<Lanes, 2> fb;
  std::array<Lanes, 4> fc, fd;
  for (int lane = 0; lane < 32; lane++) {
    for (int r = 0; r < 2; r++)
      fb[r][lane] = pair_of(b(b_column(lane), b_row(lane, 2 * r)), b(b_column(lane), b_row(lane, 2 * r + 1)));
    for (int i = 0; i < 4; i++) fc[i][lane] = std::bit_cast<uint32_t>(c(c_row(lane, i), c_column(lane, i)));
  }
  mma_m16n8k16_bf16(fd.data(), fa.data(), fb.data(), fc.data());
  for (int lane = 0; lane < 32; lane++)
    for (int i = 0; i < 4; i++) {
      const int row = c_row(lane, i), column = c_column(lane, i);
      CHECK(std::bit_cast<float>(fd[i][lane]) == want(row, column) + c(row, column), "lane ", lane, " register ", i);
    }
  mma_m16n8k16_bf16(fc.data(), fa.data(), fb.data(), fc.data());  // in place, as the kernels do
  CHECK(fc == fd);
}

TEST("ldmatrix gives each lane two neighbours of a row, .trans of a column") {
  Shared shared(512);
  std::array<const std::byte*, 32> rows;
  // Element (i, j) of matrix m is 0x1000 m + 0x10 i + j; rows lie in another order than their numbers.
  for (int m = 0; m < 4; m++)
    for (int i = 0; i < 8; i++) {
      const uint32_t at = static_cast<uint32_t>((8 * m + i) * 7 % 32) * 16;
      rows[8 * m + i] = shared.data() + at;
      for (int j = 0; j < 8; j++) shared.set_half(at + 2 * j, static_cast<uint16_t>(0x1000 * m + 0x10 * i + j));
    }
  std::array<Lanes, 4> r{};
  load_matrices(r.data(), 4, false, rows);
  CHECK(r[0][0] == 0x00010000);
  CHECK(r[0][1] == 0x00030002);
  CHECK(r[0][5] == 0x00130012);   // row 1, columns 2 and 3
  CHECK(r[2][31] == 0x20772076);  // row 7, columns 6 and 7 of matrix 2
  load_matrices(r.data(), 4, true, rows);
  CHECK(r[0][0] == 0x00100000);
  CHECK(r[0][5] == 0x00310021);   // column 1, rows 2 and 3
  CHECK(r[3][30] == 0x30573047);  // lane 30: column 7, rows 4 and 5
}

TEST("ldmatrix.x1 and .x2 leave other registers and other lanes' addresses alone") {
  Shared shared(256);
  std::array<const std::byte*, 32> rows{};
  for (int i = 0; i < 16; i++) rows[i] = shared.data() + 16 * i;
  for (uint32_t i = 0; i < 128; i++) shared.set_half(2 * i, static_cast<uint16_t>(i));
  std::array<Lanes, 4> r{};
  load_matrices(r.data(), 2, false, rows);
  CHECK(r[1][31] == (127u << 16 | 126u) && r[2] == Lanes{});
}

TEST("ldmatrix and stmatrix fault on rows not aligned to 16 bytes") {
  Shared shared(512);
  std::array<const std::byte*, 32> from{};
  std::array<std::byte*, 32> to{};
  for (int i = 0; i < 8; i++) from[i] = to[i] = shared.data() + 16 * i;
  from[3] = to[3] = shared.data() + 8;
  Lanes r{};
  CHECK_FAULT("lane 3 is not aligned", load_matrices(&r, 1, false, from));
  CHECK_FAULT("lane 3 is not aligned", store_matrices(&r, 1, false, to));
}

TEST("stmatrix stores what ldmatrix loads, .trans transposed") {
  auto random = random_of(2);
  std::array<Lanes, 4> r, back;
  for (auto& lanes : r)
    for (auto& v : lanes) v = static_cast<uint32_t>(random());
  for (const bool transposed : {false, true}) {
    Shared shared(512);
    std::array<const std::byte*, 32> from;
    std::array<std::byte*, 32> to;
    for (int i = 0; i < 32; i++) from[i] = to[i] = shared.data() + (i * 5 % 32) * 16;
    store_matrices(r.data(), 4, transposed, to);
    load_matrices(back.data(), 4, transposed, from);
    CHECK(back == r);
    // Lane 4 i + c holds (i, 2 c) of matrix 1 in its lower half, or (2 c, i).
    const int i = 3, c = 2;
    const uint32_t at =
        static_cast<uint32_t>(transposed ? (8 + 2 * c) * 5 % 32 * 16 + 2 * i : (8 + i) * 5 % 32 * 16 + 4 * c);
    CHECK(shared.half(at) == (r[1][4 * i + c] & 0xffff), "transposed ", transposed);
  }
}

TEST("mma and wgmma keep signs, infinities and NaN of float32") {
  Lanes a[4]{}, b[2]{}, c[4]{}, d[4];
  a[0][0] = pair_of(INFINITY, 0);
  b[0][0] = pair_of(1, 0);
  b[0][4] = pair_of(0, 0);
  mma_m16n8k16_bf16(d, a, b, c);
  CHECK(std::isinf(std::bit_cast<float>(d[0][0])));
  CHECK(std::isnan(std::bit_cast<float>(d[1][0])));  // infinity times column 1's zero
  CHECK(std::bit_cast<float>(d[0][4]) == 0);         // row 1
}

TEST_MAIN()
