#include <bit>
#include <cmath>
#include <limits>

#include "test/native/emulator/play.h"

using namespace thalweg;
using namespace thalweg::emulator;

namespace {

uint32_t bits(float x) { return std::bit_cast<uint32_t>(x); }
constexpr float kInfinity = std::numeric_limits<float>::infinity();
const float kNan = std::bit_cast<float>(0xFF800001u);

}  // namespace

TEST("shifts beyond the width give zeros or signs") {
  CHECK(value_of("shl.b32 %r0, %r1, %r2;", 5, 3) == 40);
  CHECK(value_of("shl.b32 %r0, %r1, %r2;", 5, 32) == 0);
  CHECK(value_of("shl.b32 %r0, %r1, %r2;", 5, 0xFFFFFFFF) == 0);
  CHECK(value_of("shr.u32 %r0, %r1, %r2;", 0x80000000, 33) == 0);
  CHECK(value_of("shr.s32 %r0, %r1, %r2;", 0x80000000, 33) == 0xFFFFFFFF);
  CHECK(value_of("shr.s32 %r0, %r1, %r2;", 0x80000000, 4) == 0xF8000000);
  CHECK(value_of("shl.b64 %rd2, %rd1, 36;\nshr.u64 %rd2, %rd2, 32;\ncvt.u32.u64 %r0, %rd2;", 0x12345678) == 0x23456780);
  CHECK(value_of("shr.s64 %rd2, %rd1, 64;\ncvt.u32.u64 %r0, %rd2;", 0, 0x80000000) == 0xFFFFFFFF);
  CHECK(value_of("cvt.u16.u32 %h1, %r1;\nshl.b16 %h2, %h1, 8;\ncvt.u32.u16 %r0, %h2;", 0x1234) == 0x3400);
}

TEST("products have lower, upper and wide parts") {
  CHECK(value_of("mul.lo.s32 %r0, %r1, %r2;", 0x10001, 0x10001) == 0x20001);
  CHECK(value_of("mul.hi.u32 %r0, %r1, %r2;", 0xFFFFFFFF, 0xFFFFFFFF) == 0xFFFFFFFE);
  CHECK(value_of("mul.hi.s32 %r0, %r1, %r2;", 0xFFFFFFFF, 2) == 0xFFFFFFFF);
  CHECK(value_of("mul.wide.s32 %rd2, %r1, %r2;\nshr.u64 %rd2, %rd2, 32;\ncvt.u32.u64 %r0, %rd2;", 0xFFFFFFFF, 2) ==
        0xFFFFFFFF);
  CHECK(value_of("mul.wide.u32 %rd2, %r1, %r2;\nshr.u64 %rd2, %rd2, 32;\ncvt.u32.u64 %r0, %rd2;", 0xFFFFFFFF, 2) == 1);
  CHECK(value_of("mad.lo.s32 %r0, %r1, %r2, %r3;", 7, 6, 0xFFFFFFFF) == 41);
  CHECK(value_of("mul.hi.s64 %rd2, %rd1, 16;\ncvt.u32.u64 %r0, %rd2;", 0, 0xF0000000) == 0xFFFFFFFF);
}

TEST("division goes towards zero, the least number over -1 is itself, and zero is a fault") {
  CHECK(value_of("div.s32 %r0, %r1, %r2;", static_cast<uint32_t>(-7), 2) == static_cast<uint32_t>(-3));
  CHECK(value_of("rem.s32 %r0, %r1, %r2;", static_cast<uint32_t>(-7), 2) == static_cast<uint32_t>(-1));
  CHECK(value_of("div.s32 %r0, %r1, %r2;", 0x80000000, 0xFFFFFFFF) == 0x80000000);
  CHECK(value_of("rem.s32 %r0, %r1, %r2;", 0x80000000, 0xFFFFFFFF) == 0);
  CHECK(value_of("div.u32 %r0, %r1, %r2;", 0x80000000, 3) == 0x2AAAAAAA);
  Try t;
  CHECK_FAULT(t.fault("mov.u32 %r1, 3;\nmov.u32 %r2, 0;\nrem.u32 %r0, %r1, %r2;"), "by zero");
}

TEST("fields, bytes and bits") {
  CHECK(value_of("bfi.b32 %r0, %r1, %r2, 8, 4;", 0xAB, 0xFFFFFFFF) == 0xFFFFFBFF);
  CHECK(value_of("bfi.b32 %r0, %r1, %r2, 0, 32;", 0xAB, 0xFFFFFFFF) == 0xAB);
  CHECK(value_of("bfi.b32 %r0, %r1, %r2, 40, 4;", 0xAB, 0x1234) == 0x1234);
  CHECK(value_of("bfi.b64 %rd2, %rd1, 0, 32, 32;\nshr.u64 %rd2, %rd2, 32;\ncvt.u32.u64 %r0, %rd2;", 0x1234, 9) ==
        0x1234);
  CHECK(value_of("bfe.u32 %r0, %r1, 4, 8;", 0x12345678) == 0x67);
  CHECK(value_of("bfe.s32 %r0, %r1, 28, 8;", 0x92345678) == 0xFFFFFFF9);
  CHECK(value_of("prmt.b32 %r0, %r1, %r2, 0x5410;", 0x33221100, 0x77665544) == 0x55441100);
  CHECK(value_of("prmt.b32 %r0, %r1, %r2, 0x9008;", 0x8080, 0) == 0xFF8080FF);
  CHECK(value_of("popc.b32 %r0, %r1;", 0xF0F0) == 8);
  CHECK(value_of("clz.b32 %r0, %r1;", 0) == 32);
  CHECK(value_of("bfind.u32 %r0, %r1;", 0) == 0xFFFFFFFF);
  CHECK(value_of("bfind.s32 %r0, %r1;", 0xFFFFFFF0) == 3);
  CHECK(value_of("brev.b32 %r0, %r1;", 3) == 0xC0000000);
  CHECK(value_of("lop3.b32 %r0, %r1, %r2, %r3, 0x96;", 0xF0, 0xCC, 0xAA) == (0xF0 ^ 0xCC ^ 0xAA));
  CHECK(value_of("shf.l.wrap.b32 %r0, %r1, %r2, 36;", 0xF0000000, 1) == 0x1F);
}

TEST("float sums and products round once and every NaN is 7FFFFFFF") {
  CHECK(value_of("add.f32 %f0, %f1, %f2;\nmov.b32 %r0, %f0;", bits(kNan), bits(1)) == 0x7FFFFFFF);
  CHECK(value_of("sub.f32 %f0, %f1, %f2;\nmov.b32 %r0, %f0;", bits(kInfinity), bits(kInfinity)) == 0x7FFFFFFF);
  // (1 + 2^-12)^2 - (1 + 2^-11) is 2^-24 when the product is not rounded.
  const uint32_t x = bits(1 + std::ldexp(1.0f, -12)), y = bits(-1 - std::ldexp(1.0f, -11));
  CHECK(value_of("fma.rn.f32 %f0, %f1, %f1, %f2;\nmov.b32 %r0, %f0;", x, y) == bits(std::ldexp(1.0f, -24)));
  CHECK(value_of("mul.rn.f32 %f0, %f1, %f1;\nadd.f32 %f0, %f0, %f2;\nmov.b32 %r0, %f0;", x, y) == 0);
  CHECK(value_of("mul.f32 %f0, %f1, %f2;\nmov.b32 %r0, %f0;", bits(0x1p-100f), bits(0x1p-40f)) == bits(0x1p-140f));
  CHECK(value_of("mul.ftz.f32 %f0, %f1, %f2;\nmov.b32 %r0, %f0;", bits(0x1p-100f), bits(-0x1p-40f)) == 0x80000000);
  CHECK(value_of("add.sat.f32 %f0, %f1, %f2;\nmov.b32 %r0, %f0;", bits(0.75f), bits(0.75f)) == bits(1));
  CHECK(value_of("div.rn.f32 %f0, %f1, %f2;\nmov.b32 %r0, %f0;", bits(1), bits(3)) == bits(1.0f / 3));
  CHECK(value_of("neg.f32 %f0, %f1;\nmov.b32 %r0, %f0;", 0) == 0x80000000);
}

TEST("min and max prefer numbers, and -0 is less than 0") {
  CHECK(value_of("min.f32 %f0, %f1, %f2;\nmov.b32 %r0, %f0;", bits(kNan), bits(2)) == bits(2));
  CHECK(value_of("max.f32 %f0, %f1, %f2;\nmov.b32 %r0, %f0;", bits(2), bits(kNan)) == bits(2));
  CHECK(value_of("max.f32 %f0, %f1, %f2;\nmov.b32 %r0, %f0;", bits(kNan), bits(kNan)) == 0x7FFFFFFF);
  CHECK(value_of("max.NaN.f32 %f0, %f1, %f2;\nmov.b32 %r0, %f0;", bits(2), bits(kNan)) == 0x7FFFFFFF);
  CHECK(value_of("min.f32 %f0, %f1, %f2;\nmov.b32 %r0, %f0;", 0, 0x80000000) == 0x80000000);
  CHECK(value_of("max.f32 %f0, %f1, %f2;\nmov.b32 %r0, %f0;", 0x80000000, 0) == 0);
  CHECK(value_of("min.s32 %r0, %r1, %r2;", 0xFFFFFFFF, 1) == 0xFFFFFFFF);
  CHECK(value_of("min.u32 %r0, %r1, %r2;", 0xFFFFFFFF, 1) == 1);
}

TEST("2^x is right to the last bit or next to it, with limits and subnormal results") {
  for (float x = -140; x < 128; x += 0.37f) {
    const float want = static_cast<float>(std::exp2(static_cast<double>(x)));
    const uint32_t found = value_of("ex2.approx.f32 %f0, %f1;\nmov.b32 %r0, %f0;", bits(x));
    CHECK(std::abs(static_cast<int64_t>(found) - static_cast<int64_t>(bits(want))) <= 1, x);
  }
  CHECK(value_of("ex2.approx.ftz.f32 %f0, %f1;\nmov.b32 %r0, %f0;", bits(-kInfinity)) == 0);
  CHECK(value_of("ex2.approx.ftz.f32 %f0, %f1;\nmov.b32 %r0, %f0;", bits(kInfinity)) == bits(kInfinity));
  CHECK(value_of("ex2.approx.ftz.f32 %f0, %f1;\nmov.b32 %r0, %f0;", bits(-130)) == 0);
  CHECK(value_of("ex2.approx.ftz.f32 %f0, %f1;\nmov.b32 %r0, %f0;", bits(kNan)) == 0x7FFFFFFF);
  CHECK(value_of("ex2.approx.ftz.f32 %f0, %f1;\nmov.b32 %r0, %f0;", bits(5)) == bits(32));
  CHECK(value_of("rcp.approx.ftz.f32 %f0, %f1;\nmov.b32 %r0, %f0;", 0x80000001) == bits(-kInfinity));
}

TEST("comparisons of floats are ordered or not, and join with a predicate") {
  const auto holds = [](const std::string& op, float a, float b) {
    return value_of("setp." + op + ".f32 %p1, %f1, %f2;\nselp.u32 %r0, 1, 0, %p1;", bits(a), bits(b)) == 1;
  };
  CHECK(holds("lt", 1, 2) && !holds("lt", kNan, 2) && holds("ltu", kNan, 2));
  CHECK(!holds("ne", kNan, 2) && holds("neu", kNan, 2) && holds("ne", 1, 2));
  CHECK(!holds("eq", kNan, kNan) && holds("equ", kNan, 1) && holds("eq", 0.0f, -0.0f));
  CHECK(holds("ge", 2, 2) && holds("geu", kNan, 2) && !holds("gtu", 1, 2) && holds("nan", kNan, 1) &&
        holds("num", 1, 1));
  CHECK(value_of(
            "setp.lt.s32 %p1|%p2, %r1, %r2;\nselp.u32 %r4, 1, 0, %p1;\nselp.u32 %r5, 2, 0, %p2;\nor.b32 %r0, %r4, %r5;",
            0xFFFFFFFF, 1) == 1);
  CHECK(value_of("setp.lo.u32 %p1, %r1, %r2;\nselp.u32 %r0, 1, 0, %p1;", 0xFFFFFFFF, 1) == 0);
  CHECK(value_of("setp.ne.s32 %p3, %r3, 0;\nsetp.lt.and.s32 %p1, %r1, %r2, !%p3;\nselp.u32 %r0, 1, 0, %p1;", 1, 2, 1) ==
        0);
}

TEST("conversions of floats to integers round as told, clamp, and turn NaN into 0") {
  CHECK(value_of("cvt.rni.s32.f32 %r0, %f1;", bits(2.5f)) == 2);
  CHECK(value_of("cvt.rzi.s32.f32 %r0, %f1;", bits(-2.9f)) == static_cast<uint32_t>(-2));
  CHECK(value_of("cvt.rmi.s32.f32 %r0, %f1;", bits(-2.1f)) == static_cast<uint32_t>(-3));
  CHECK(value_of("cvt.rpi.s32.f32 %r0, %f1;", bits(2.1f)) == 3);
  CHECK(value_of("cvt.rzi.s32.f32 %r0, %f1;", bits(3e9f)) == 0x7FFFFFFF);
  CHECK(value_of("cvt.rzi.u32.f32 %r0, %f1;", bits(-1)) == 0);
  CHECK(value_of("cvt.rzi.u32.f32 %r0, %f1;", bits(5e9f)) == 0xFFFFFFFF);
  CHECK(value_of("cvt.rzi.s32.f32 %r0, %f1;", bits(kNan)) == 0);
  CHECK(value_of("cvt.rn.f32.s32 %f0, %r1;\nmov.b32 %r0, %f0;", 16777217) == bits(16777216));
  CHECK(value_of("cvt.rn.f32.u32 %f0, %r1;\nmov.b32 %r0, %f0;", 0xFFFFFFFF) == bits(4294967296.0f));
  CHECK(value_of("cvt.f64.f32 %fd1, %f1;\nadd.f64 %fd1, %fd1, 0d3E30000000000000;\ncvt.rn.f32.f64 %f0, %fd1;\nmov.b32 "
                 "%r0, %f0;",
                 bits(1)) == bits(1));
}

TEST("conversions among integers cut, extend and saturate") {
  CHECK(value_of("cvt.s32.s8 %r0, %r1;", 0x1280) == 0xFFFFFF80);
  CHECK(value_of("cvt.u32.u8 %r0, %r1;", 0x1280) == 0x80);
  CHECK(value_of("cvt.s64.s32 %rd2, %r1;\nshr.u64 %rd2, %rd2, 32;\ncvt.u32.u64 %r0, %rd2;", 0x80000000) == 0xFFFFFFFF);
  CHECK(value_of("cvt.u16.u32 %h1, %r1;\ncvt.s32.s16 %r0, %h1;", 0x18000) == 0xFFFF8000);
  CHECK(value_of("cvt.sat.u8.s32 %r0, %r1;", 300) == 255);
  CHECK(value_of("cvt.sat.u8.s32 %r0, %r1;", 0xFFFFFFFF) == 0);
  CHECK(value_of("cvt.sat.s16.s32 %r0, %r1;", 40000) == 32767);
}

TEST("bf16 rounds to nearest even; NaN is 7FFF") {
  const auto pair = [](uint32_t high, uint32_t low) { return value_of("cvt.rn.bf16x2.f32 %r0, %f1, %f2;", high, low); };
  CHECK(pair(0x3F808000, 0x3F818000) == 0x3F803F82);  // ties to even, both ways
  CHECK(pair(0x3F808001, 0x3F807FFF) == 0x3F813F80);
  CHECK(pair(bits(kNan), 0x7F7FFFFF) == 0x7FFF7F80);
  CHECK(pair(bits(-kInfinity), 0x80000001) == 0xFF808000);
  CHECK(value_of("cvt.rn.bf16.f32 %h1, %f1;\ncvt.f32.bf16 %f0, %h1;\nmov.b32 %r0, %f0;", 0x3F80FFFF) == 0x3F810000);
  CHECK(value_of("cvt.rn.f16.f32 %h1, %f1;\ncvt.u32.u16 %r0, %h1;", bits(65520)) == 0x7C00);
}

TEST_MAIN()
