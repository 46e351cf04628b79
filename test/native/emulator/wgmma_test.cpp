#include "test/native/emulator/wgmma_support.h"

using namespace check;
using namespace thalweg::emulator;

namespace {

constexpr Mode kModes[] = {Mode::None, Mode::B32, Mode::B64, Mode::B128};

/** A layout of `rows` by 16 from `start`, with core matrices (or patterns) in one of two orders, gaps between them at
 * times. */
Canonical layout_of(Mode mode, bool mn_major, uint32_t start, int rows, bool other_order, uint32_t gap) {
  const uint32_t pattern = 128 * width_of(mode), groups = static_cast<uint32_t>(rows) / 8;
  const uint32_t step = pattern * (1 + gap);
  // Along k there are two core matrices, one pattern when K-major and swizzled; along the rows the rest.
  if (!mn_major && mode != Mode::None) return {mode, false, start, 0x10, step};
  const uint32_t along = mode == Mode::None ? groups : (groups + width_of(mode) - 1) / width_of(mode);
  const uint32_t row_step = other_order ? 2 * step : step, k_step = other_order ? step : along * step;
  if (mn_major && mode != Mode::None) return {mode, true, start, row_step, k_step};
  return {mode, mn_major, start, k_step, row_step};
}

WgmmaOp op_of(int n, const Canonical& a, const Canonical& b) {
  return {n, false, a.mn_major, b.mn_major, false, false, false, a.descriptor(), b.descriptor()};
}

}  // namespace

TEST("canonical layouts put elements where the manual's figures have them") {
  const auto at = [](Mode mode, bool mn, int row, int k) { return Canonical{mode, mn, 0, 4096, 2048}.offset(row, k); };
  // K-major: 128-byte rows, piece c of row r at piece c ^ r; row 3, k 16 of the atom is no part of one k16: k 8 is
  // piece 1.
  CHECK(at(Mode::B128, false, 3, 8) == 3 * 128 + (1 ^ 3) * 16);
  CHECK(at(Mode::B128, false, 8, 0) == 2048);
  CHECK(at(Mode::B64, false, 5, 8) == 5 * 64 + (1 ^ 2) * 16);  // 320 lies in the third row of 128 bytes
  CHECK(at(Mode::B32, false, 4, 1) == 4 * 32 + 16 + 2);        // 128 lies in the second
  CHECK(at(Mode::None, false, 9, 10) == 2048 + 16 + 4096 + 4);
  // MN-major: k counts rows, 8 rows of the matrix are a piece.
  CHECK(at(Mode::B128, true, 17, 3) == 3 * 128 + (2 ^ 3) * 16 + 2);
  CHECK(at(Mode::B128, true, 64, 8) == 4096 + 2048);
  CHECK(at(Mode::B64, true, 32, 0) == 4096);
  CHECK(at(Mode::B32, true, 16, 9) == 4096 + 2048 + 32);
  CHECK(at(Mode::None, true, 8, 9) == 2048 + 4096 + 16);
}

TEST("wgmma multiplies operands in every canonical layout and every n") {
  auto random = random_of(1);
  for (int n = 8; n <= 256; n += 8)
    for (const Mode mode : kModes)
      for (const bool mn_major : {false, true}) {
        const Mode a_mode = kModes[random() % 4];
        const bool a_mn = random() % 2;
        Shared shared(128 * 1024);
        const Canonical b = layout_of(mode, mn_major, 0, n, random() % 2, random() % 2);
        const Canonical a = layout_of(a_mode, a_mn, 96 * 1024, 64, random() % 2, random() % 2);
        const Matrix left(64, 16, random), right(n, 16, random);
        a.write(shared, left);
        b.write(shared, right);
        CHECK(wgmma(op_of(n, a, b), shared).values == product(left, right).values, "n ", n, " mode ",
              static_cast<int>(mode), " MN-major ", mn_major, ", A ", static_cast<int>(a_mode), " ", a_mn);
      }
}

TEST("wgmma adds to D, negates, and takes A from registers") {
  auto random = random_of(2);
  Shared shared(64 * 1024);
  const Canonical a{Mode::B128, false, 0, 16, 1024}, b{Mode::B128, true, 16384, 2048, 1024};
  const Matrix left(64, 16, random), right(48, 16, random), old(64, 48, random);
  a.write(shared, left);
  b.write(shared, right);
  const Matrix want = product(left, right);
  for (const bool registers : {false, true})
    for (const bool accumulate : {false, true})
      for (int signs = 0; signs < 4; signs++) {
        WgmmaOp op{48,         registers,      false,         true, (signs & 1) != 0, (signs & 2) != 0,
                   accumulate, a.descriptor(), b.descriptor()};
        if (registers) op.a = ~0ull;  // not looked at
        const Matrix d = wgmma(op, shared, nullptr, registers ? &left : nullptr, &old);
        const float sign = (signs == 1 || signs == 2) ? -1.0f : 1.0f;
        for (size_t i = 0; i < d.values.size(); i++)
          CHECK(d.values[i] == (accumulate ? old.values[i] : 0) + sign * want.values[i], "signs ", signs);
      }
}

TEST("steps along k move a swizzled K-major descriptor within its rows") {
  // A tile of 64 by 64 in 128-byte rows: four products of 16, starts 32 bytes apart, as every kernel of this kind does.
  auto random = random_of(3);
  Shared shared(32 * 1024);
  const Matrix left(64, 64, random), right(16, 64, random);
  const auto write = [&](const Matrix& m, uint32_t start) {
    for (int i = 0; i < m.rows; i++)
      for (int k = 0; k < 64; k++)
        shared.set_half(start + 128 * static_cast<uint32_t>(i) +
                            ((static_cast<uint32_t>(k) / 8 ^ static_cast<uint32_t>(i) % 8) * 16) +
                            2 * (static_cast<uint32_t>(k) % 8),
                        bf16_of(m(i, k)));
  };
  write(left, 0);
  write(right, 8192);
  Matrix d(64, 16);
  for (uint32_t step = 0; step < 4; step++) {
    const Canonical a{Mode::B128, false, 32 * step, 16, 1024}, b{Mode::B128, false, 8192 + 32 * step, 16, 1024};
    WgmmaOp op = op_of(16, a, b);
    op.accumulate = true;
    d = wgmma(op, shared, nullptr, nullptr, &d);
  }
  CHECK(d.values == product(left, right).values);
}

TEST("wgmma faults on descriptors and places the manual does not define") {
  Shared shared(16 * 1024);
  std::fill(shared.data(), shared.data() + shared.bytes(), std::byte{0});
  const Canonical good{Mode::B128, false, 0, 16, 1024};
  const auto with_b = [&](uint64_t descriptor, int n = 16, bool transposed = false) {
    WgmmaOp op = op_of(n, good, good);
    op.b = descriptor;
    op.b_transposed = transposed;
    return op;
  };
  CHECK(fault_of([&] { wgmma(with_b(good.descriptor()), shared); }).empty());
  CHECK_FAULT("reserved bits", wgmma(with_b(good.descriptor() | 1ull << 14), shared));
  CHECK_FAULT("reserved bits", wgmma(with_b(good.descriptor() | 1ull << 60), shared));
  CHECK_FAULT("base offset 3", wgmma(with_b(good.descriptor() | 3ull << 49), shared));
  CHECK_FAULT("out of shared memory",
              wgmma(with_b(Canonical{Mode::B128, false, 15 * 1024, 16, 1024}.descriptor()), shared));
  CHECK_FAULT("in row 1", wgmma(with_b(Canonical{Mode::B128, false, 128, 16, 1024}.descriptor()), shared));
  CHECK_FAULT("starts at byte 112", wgmma(with_b(Canonical{Mode::B128, false, 112, 16, 1024}.descriptor()), shared));
  CHECK_FAULT("no multiple of the swizzle pattern",
              wgmma(with_b(Canonical{Mode::B128, false, 0, 16, 512}.descriptor()), shared));
  CHECK_FAULT("no multiple of the swizzle pattern",
              wgmma(with_b(Canonical{Mode::B64, true, 0, 256, 512}.descriptor(), 64, true), shared));
  CHECK_FAULT("n = 12", wgmma(with_b(good.descriptor(), 12), shared));
  CHECK_FAULT("n = 264", wgmma(with_b(good.descriptor(), 264), shared));
}

TEST("wgmma faults on operands that ordinary stores wrote without a fence, and holds those it reads") {
  Shared shared(16 * 1024);
  std::fill(shared.data(), shared.data() + shared.bytes(), std::byte{0});
  const Canonical a{Mode::B128, false, 0, 16, 1024}, b{Mode::B128, false, 8192, 16, 1024};
  const WgmmaOp op = op_of(16, a, b);
  ProxyState proxies(shared.bytes(), 128);
  wgmma(op, shared, &proxies);
  proxies.ordinary_write(77, 8192 + 1024 + 16, 4);
  CHECK_FAULT("thread 77 wrote", wgmma(op, shared, &proxies));
  CHECK_FAULT("thread 77 wrote", hold_wgmma(op, 0, proxies));
  proxies.fence(76);  // somebody else's
  CHECK_FAULT("thread 77 wrote", wgmma(op, shared, &proxies));
  proxies.fence(77);
  wgmma(op, shared, &proxies);

  ProxyState fresh(shared.bytes(), 128);
  hold_wgmma(op, 1, fresh);
  fresh.ordinary_write(1, 8192 + 2048, 16);            // behind B
  fresh.ordinary_write(1, 64, 16);                     // k 32 of row 0: not this product's
  fresh.ordinary_write(1, 7 * 128 + (0 ^ 7) * 16, 4);  // another warp's rows of A
  CHECK_FAULT("wgmma still reads", fresh.ordinary_write(1, 23 * 128 + (0 ^ 7) * 16, 4));
  CHECK_FAULT("handed back too early", fresh.begin_async_write(8192, 1024));
  release_wgmma(op, 1, fresh);
  fresh.ordinary_write(1, 23 * 128 + (0 ^ 7) * 16, 4);
}

TEST_MAIN()
