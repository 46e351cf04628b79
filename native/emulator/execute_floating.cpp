#include <algorithm>
#include <cmath>

#include "native/emulator/execute.h"

/**
 * float32 and float64 (PTX ISA, "Floating-point instructions"), rounded to nearest even. Approximations (ex2, rcp,
 * ...) are the exact value rounded or next to it: the hardware's differ in the last bits.
 */
namespace thalweg::emulator {
namespace {

/** 2^x to about 2e-12, then rounded to float: 2^n, n the nearest integer, times 2^f by Taylor's series, |f| <= 1/2. */
constexpr auto power_of_two = [](float x) -> float {
  const double wide = x, limited = wide < 200 ? wide : 200, clamped = limited > -200 ? limited : -200;
  const double shifted = clamped + 0x1.8p52, n = shifted - 0x1.8p52;
  const double t = (clamped - n) * 0.693147180559945309417;
  double sum = std::fma(1 / 3628800.0, t, 1 / 362880.0);
  sum = std::fma(sum, t, 1 / 40320.0);
  sum = std::fma(sum, t, 1 / 5040.0);
  sum = std::fma(sum, t, 1 / 720.0);
  sum = std::fma(sum, t, 1 / 120.0);
  sum = std::fma(sum, t, 1 / 24.0);
  sum = std::fma(sum, t, 1 / 6.0);
  sum = std::fma(sum, t, 0.5);
  sum = std::fma(sum, t, 1.0);
  sum = std::fma(sum, t, 1.0);
  const uint64_t scale = (std::bit_cast<uint64_t>(shifted) - std::bit_cast<uint64_t>(0x1.8p52) + 1023) << 52;
  const auto result = static_cast<float>(sum * std::bit_cast<double>(scale));
  return x != x ? x : result;
};

constexpr auto add = [](auto a, auto b) { return a + b; };
constexpr auto subtract = [](auto a, auto b) { return a - b; };
constexpr auto multiply = [](auto a, auto b) { return a * b; };
constexpr auto divide = [](auto a, auto b) { return a / b; };
constexpr auto fused = [](auto a, auto b, auto c) { return std::fma(a, b, c); };
constexpr auto reciprocal = [](auto a) { return decltype(a){1} / a; };
constexpr auto root = [](auto a) { return std::sqrt(a); };
constexpr auto reciprocal_root = [](auto a) { return static_cast<decltype(a)>(1 / std::sqrt(static_cast<double>(a))); };
constexpr auto sine = [](auto a) { return std::sin(a); };
constexpr auto cosine = [](auto a) { return std::cos(a); };
constexpr auto logarithm = [](auto a) { return std::log2(a); };
constexpr auto hyperbolic = [](auto a) { return std::tanh(a); };

/** -0 is less than 0; of a number and a NaN the number. */
constexpr auto lesser = [](auto a, auto b) {
  using T = decltype(a);
  using U = Box<std::conditional_t<sizeof(T) == 8, int64_t, int32_t>>;
  const T least = a == b ? std::bit_cast<T>(static_cast<U>(std::bit_cast<U>(a) | std::bit_cast<U>(b))) : a < b ? a : b;
  return a != a ? b : b != b ? a : least;
};
constexpr auto greater = [](auto a, auto b) { return -lesser(-a, -b); };
constexpr auto lesser_or_nan = [](auto a, auto b) { return a != a ? a : b != b ? b : lesser(a, b); };
constexpr auto greater_or_nan = [](auto a, auto b) { return a != a ? a : b != b ? b : greater(a, b); };

constexpr uint8_t kFlush = 1, kSaturate = 2;

/** Float operations of one, two or three operands; F is of values. */
template <auto F>
constexpr auto single1 = [](uint32_t a) -> uint32_t { return bits_of(F(as_float(a))); };
template <auto F>
constexpr auto single2 = [](uint32_t a, uint32_t b) -> uint32_t { return bits_of(F(as_float(a), as_float(b))); };
template <auto F>
constexpr auto single3 =
    [](uint32_t a, uint32_t b, uint32_t c) -> uint32_t { return bits_of(F(as_float(a), as_float(b), as_float(c))); };
template <auto F>
constexpr auto flushed1 = [](uint32_t a) -> uint32_t { return bits_of(flush(F(flush(as_float(a))))); };
template <auto F>
constexpr auto double1 = [](uint64_t a) -> uint64_t { return bits_of(F(as_double(a))); };
template <auto F>
constexpr auto double2 = [](uint64_t a, uint64_t b) -> uint64_t { return bits_of(F(as_double(a), as_double(b))); };
template <auto F>
constexpr auto double3 =
    [](uint64_t a, uint64_t b, uint64_t c) -> uint64_t { return bits_of(F(as_double(a), as_double(b), as_double(c))); };

/** With .ftz or .sat, N operands. */
template <auto F, int N>
void modified(Warp& w, const Instruction& i, uint32_t mask) {
  const bool flushes = (i.selector & kFlush) != 0, saturates = (i.selector & kSaturate) != 0;
  const auto get = [&](Ref r, uint32_t l) {
    const float x = as_float(in<uint32_t>(w, r)[l]);
    return flushes ? flush(x) : x;
  };
  assign(mask, out<uint32_t>(w, i.d), [&](uint32_t l) {
    float x;
    if constexpr (N == 1) x = F(get(i.a, l));
    if constexpr (N == 2) x = F(get(i.a, l), get(i.b, l));
    if constexpr (N == 3) x = F(get(i.a, l), get(i.b, l), get(i.c, l));
    if (flushes) x = flush(x);
    if (saturates) x = x > 0 ? std::min(x, 1.0f) : 0.0f;
    return bits_of(x);
  });
}

/** Chooses among plain and modified float32 and float64. */
template <int N, auto F>
Handler choose(Type t, uint8_t modifiers) {
  if (t.is('f', 64)) {
    if (modifiers) return nullptr;
    if constexpr (N == 1) return by_lane<double1<F>>;
    if constexpr (N == 2) return by_lane<double2<F>>;
    if constexpr (N == 3) return by_lane<double3<F>>;
  }
  if (!t.is('f', 32)) return nullptr;
  if (modifiers) return &modified<F, N>;
  if constexpr (N == 1) return by_lane<single1<F>>;
  if constexpr (N == 2) return by_lane<single2<F>>;
  if constexpr (N == 3) return by_lane<single3<F>>;
}

template <class T>
void decode_sign_bit(Decoder& d, Instruction& i, bool negate, Type t) {
  constexpr T kSign = T{1} << (8 * sizeof(T) - 1);
  same_widths(d, i, t.bits, 1);
  i.execute = negate ? by_lane<[](T a) -> T { return a ^ kSign; }> : by_lane<[](T a) -> T { return a & ~kSign; }>;
}

}  // namespace

void decode_floating(Decoder& d, Instruction& i, std::string_view operation, Type t) {
  if (t.kind != 'f') d.error("of float32, float64 and integers only");
  const uint8_t modifiers = static_cast<uint8_t>((d.take("ftz") ? kFlush : 0) | (d.take("sat") ? kSaturate : 0));
  i.selector = modifiers;
  if (operation == "neg" || operation == "abs") {
    if (modifiers) d.error(".ftz is not covered");
    return t.bits == 64 ? decode_sign_bit<uint64_t>(d, i, operation == "neg", t)
                        : decode_sign_bit<uint32_t>(d, i, operation == "neg", t);
  }
  if (operation == "min" || operation == "max") {
    const bool nan = d.take("NaN"), least = operation == "min";
    same_widths(d, i, t.bits, 2);
    i.execute = least ? nan ? choose<2, lesser_or_nan>(t, modifiers) : choose<2, lesser>(t, modifiers)
                : nan ? choose<2, greater_or_nan>(t, modifiers)
                      : choose<2, greater>(t, modifiers);
    return;
  }
  if (operation == "div") {
    if (d.take_one({"rn", "approx", "full"}) < 0) d.error("a rounding is expected");
  } else {
    d.take("rn");
  }
  same_widths(d, i, t.bits, operation == "fma" ? 3 : 2);
  if (operation == "add") i.execute = choose<2, add>(t, modifiers);
  if (operation == "sub") i.execute = choose<2, subtract>(t, modifiers);
  if (operation == "mul") i.execute = choose<2, multiply>(t, modifiers);
  if (operation == "div") i.execute = choose<2, divide>(t, modifiers);
  if (operation == "fma") i.execute = choose<3, fused>(t, modifiers);
}

namespace {

void decode_fused(Decoder& d, Instruction& i) { decode_floating(d, i, "fma", d.type()); }

/** rcp, sqrt, rsqrt, ex2, lg2, sin, cos, tanh. */
void decode_function(Decoder& d, Instruction& i) {
  const Type t = d.type();
  const std::string_view name = d.opcode().substr(0, d.opcode().find('.'));
  if (d.take_one({"rn", "approx"}) < 0) d.error(".rn or .approx expected");
  const bool flushes = d.take("ftz");
  i.selector = flushes ? kFlush : 0;
  same_widths(d, i, t.bits, 1);
  const bool is_single = t.is('f', 32);
  if (name == "rcp") i.execute = flushes && is_single ? by_lane<flushed1<reciprocal>> : choose<1, reciprocal>(t, 0);
  if (name == "sqrt") i.execute = flushes && is_single ? by_lane<flushed1<root>> : choose<1, root>(t, 0);
  if (name == "rsqrt") i.execute = choose<1, reciprocal_root>(t, i.selector);
  if (!is_single) return;
  if (name == "ex2") i.execute = flushes ? by_lane<flushed1<power_of_two>> : by_lane<single1<power_of_two>>;
  if (name == "lg2") i.execute = &modified<logarithm, 1>;
  if (name == "sin") i.execute = &modified<sine, 1>;
  if (name == "cos") i.execute = &modified<cosine, 1>;
  if (name == "tanh") i.execute = &modified<hyperbolic, 1>;
}

/** copysign d, a, b: the sign of a, the size of b. */
void decode_copysign(Decoder& d, Instruction& i) {
  const Type t = d.type();
  if (t.kind != 'f') d.error("of floats only");
  same_widths(d, i, t.bits, 2);
  i.execute = t.bits == 64
                  ? by_lane<[](uint64_t a, uint64_t b) -> uint64_t { return (a & 1ull << 63) | (b & ~(1ull << 63)); }>
                  : by_lane<[](uint32_t a, uint32_t b) -> uint32_t { return (a & 1u << 31) | (b & ~(1u << 31)); }>;
}

}  // namespace

void add_floating(DecodeTable& table) {
  table["fma"] = decode_fused;
  table["copysign"] = decode_copysign;
  for (const char* name : {"rcp", "sqrt", "rsqrt", "ex2", "lg2", "sin", "cos", "tanh"}) table[name] = decode_function;
}

}  // namespace thalweg::emulator
