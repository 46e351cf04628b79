#include <algorithm>
#include <cmath>
#include <limits>

#include "native/emulator/execute.h"

/** cvt (PTX ISA, "Data movement and conversion instructions: cvt"). */
namespace thalweg::emulator {
namespace {

enum class Round : uint8_t { Nearest, Zero, Down, Up, None };

uint64_t extend(uint64_t x, int bits, bool is_signed) {
  const int by = 64 - bits;
  return is_signed ? static_cast<uint64_t>(static_cast<int64_t>(x << by) >> by) : x << by >> by;
}

template <class D, class A>
void resize(Warp& w, const Instruction& i, uint32_t mask) {
  const A* a = in<A>(w, i.a);
  const int from = i.selector & 0x7F, to = i.option & 0x7F;
  const bool from_signed = (i.selector & 0x80) != 0, to_signed = (i.option & 0x80) != 0;
  const uint64_t keep = i.immediate == 16 ? 0xFFFF : ~uint64_t{0};  // a 16-bit register's upper half is zero
  assign(mask, out<D>(w, i.d),
         [&](uint32_t l) { return static_cast<D>(extend(extend(a[l], from, from_signed), to, to_signed) & keep); });
}

/** With .sat: clamped to the range of `to`. */
template <class D, class A>
void resize_saturated(Warp& w, const Instruction& i, uint32_t mask) {
  const A* a = in<A>(w, i.a);
  const int from = i.selector & 0x7F, to = i.option & 0x7F;
  const bool from_signed = (i.selector & 0x80) != 0, to_signed = (i.option & 0x80) != 0;
  const __int128 most = (static_cast<__int128>(1) << (to_signed ? to - 1 : to)) - 1, least = to_signed ? -most - 1 : 0;
  const uint64_t keep = i.immediate == 16 ? 0xFFFF : ~uint64_t{0};
  each_lane(mask, [&](uint32_t l) {
    const uint64_t x = extend(a[l], from, from_signed);
    const __int128 value = from_signed ? static_cast<__int128>(static_cast<int64_t>(x)) : static_cast<__int128>(x);
    out<D>(w, i.d)[l] = static_cast<D>(static_cast<uint64_t>(std::clamp(value, least, most)) & keep);
  });
}

void decode_resize(Decoder& d, Instruction& i, Type to, Type from) {
  int from_width = 0, to_width = 0;
  i.a = d.relaxed(d.operand(1), from.bits, from_width);
  to_width = d.width(d.operand(0));
  if (to_width < to.bits) d.error("the register to write has only ", to_width, " bits");
  i.d = d.destination(0, to_width);
  i.selector = static_cast<uint8_t>(from.bits | (from.kind == 's' ? 0x80 : 0));
  i.option = static_cast<uint16_t>(to.bits | (to.kind == 's' ? 0x80 : 0));
  i.immediate = to_width;
  const bool plain = from_width == from.bits && to_width == to.bits, wide = to_width == 64, of_wide = from_width == 64;
  if (d.take("sat")) {
    i.execute = wide      ? of_wide ? &resize_saturated<uint64_t, uint64_t> : &resize_saturated<uint64_t, uint32_t>
                     : of_wide ? &resize_saturated<uint32_t, uint64_t>
                          : &resize_saturated<uint32_t, uint32_t>;
  } else if (plain && to.bits == 32 && from.bits == 64) {
    i.execute = by_lane<[](uint64_t a) -> uint32_t { return static_cast<uint32_t>(a); }>;
  } else if (plain && to.bits == 64 && from.bits == 32) {
    i.execute = from.kind == 's'
                    ? by_lane<[](uint32_t a) -> uint64_t { return static_cast<uint64_t>(static_cast<int32_t>(a)); }>
                    : by_lane<[](uint32_t a) -> uint64_t { return a; }>;
  } else {
    i.execute = wide      ? of_wide ? &resize<uint64_t, uint64_t> : &resize<uint64_t, uint32_t>
                     : of_wide ? &resize<uint32_t, uint64_t>
                          : &resize<uint32_t, uint32_t>;
  }
}

template <class To, class From>
constexpr auto from_integer = [](Box<From> a) -> Box<std::conditional_t<sizeof(To) == 8, int64_t, int32_t>> {
  return bits_of(static_cast<To>(static_cast<From>(a)));
};

Handler choose_from_integer(Type to, Type from) {
  return by_integer(from, [&](auto zero) -> Handler {
    using From = decltype(zero);
    return to.bits == 64 ? by_lane<from_integer<double, From>> : by_lane<from_integer<float, From>>;
  });
}

double round_to_integer(double x, Round round) {
  switch (round) {
    case Round::Nearest:
      return std::nearbyint(x);
    case Round::Zero:
      return std::trunc(x);
    case Round::Down:
      return std::floor(x);
    case Round::Up:
      return std::ceil(x);
    default:
      return x;
  }
}

/** Out of range: the nearest in it. NaN: 0, but the upper bit alone where 64 bits take part. */
template <class T, class F>
void to_integer(Warp& w, const Instruction& i, uint32_t mask) {
  using A = Box<std::conditional_t<sizeof(F) == 8, int64_t, int32_t>>;
  const A* a = in<A>(w, i.a);
  constexpr double kLeast = static_cast<double>(std::numeric_limits<T>::min());
  constexpr double kBeyond =
      std::is_signed_v<T> ? -kLeast : 2.0 * static_cast<double>(uint64_t{1} << (8 * sizeof(T) - 1));
  each_lane(mask, [&](uint32_t l) {
    F value = std::bit_cast<F>(a[l]);
    if constexpr (sizeof(F) == 4) value = i.option ? flush(value) : value;
    const double x = round_to_integer(value, static_cast<Round>(i.selector));
    T result;
    if (x != x)
      result =
          sizeof(T) == 8 || sizeof(F) == 8 ? static_cast<T>(std::make_unsigned_t<T>{1} << (8 * sizeof(T) - 1)) : T{0};
    else if (x < kLeast)
      result = std::numeric_limits<T>::min();
    else if (x >= kBeyond)
      result = std::numeric_limits<T>::max();
    else
      result = static_cast<T>(x);
    out<Box<T>>(w, i.d)[l] = box(result);
  });
}

uint16_t half_of(float x) {
  if (x != x) return 0x7FFF;
  return std::bit_cast<uint16_t>(static_cast<_Float16>(x));
}
float of_half(uint32_t x) { return static_cast<float>(std::bit_cast<_Float16>(static_cast<uint16_t>(x))); }

/** Nearest even; NaN is 0x7FFF. */
constexpr auto brain_of = [](uint32_t x) -> uint32_t {
  const uint32_t rounded = (x + 0x7FFF + (x >> 16 & 1)) >> 16;
  return (x & 0x7FFFFFFFu) > 0x7F800000u ? 0x7FFF : rounded;
};
constexpr auto brain_cut = [](uint32_t x) -> uint32_t { return (x & 0x7FFFFFFFu) > 0x7F800000u ? 0x7FFF : x >> 16; };
/** Negative numbers (and -0) become 0; NaN stays. */
constexpr auto positive = [](uint32_t x) -> uint32_t { return (x & 0x7FFFFFFFu) > 0x7F800000u || !(x >> 31) ? x : 0; };

constexpr auto pair_of_brain = [](uint32_t a, uint32_t b) -> uint32_t { return brain_of(a) << 16 | brain_of(b); };
constexpr auto pair_cut = [](uint32_t a, uint32_t b) -> uint32_t { return brain_cut(a) << 16 | brain_cut(b); };
constexpr auto pair_positive = [](uint32_t a, uint32_t b) -> uint32_t {
  return brain_of(positive(a)) << 16 | brain_of(positive(b));
};
constexpr auto pair_of_half = [](uint32_t a, uint32_t b) -> uint32_t {
  return static_cast<uint32_t>(half_of(as_float(a))) << 16 | half_of(as_float(b));
};

/** To bf16, bf16x2, f16, f16x2 of float32. */
void decode_narrowing(Decoder& d, Instruction& i, Type to) {
  const bool relu = d.take("relu"), cut = d.take_one({"rn", "rz"}) == 1, pair = to.bits == 32;
  const bool brain = to.kind == 'h' || to.kind == 'H';
  d.expect_operands(pair ? 3 : 2, pair ? 3 : 2);
  i.d = d.destination(0, to.bits);
  i.a = d.source(1, 32);
  if (pair) i.b = d.source(2, 32);
  if ((relu && (!pair || cut || !brain)) || (cut && !brain)) return;
  if (pair) {
    i.execute = !brain ? by_lane<pair_of_half>
                : relu ? by_lane<pair_positive>
                : cut  ? by_lane<pair_cut>
                       : by_lane<pair_of_brain>;
  } else {
    i.execute = !brain ? by_lane<[](uint32_t a) -> uint32_t { return half_of(as_float(a)); }>
                : cut  ? by_lane<brain_cut>
                       : by_lane<brain_of>;
  }
}

void round_single(Warp& w, const Instruction& i, uint32_t mask) {
  const uint32_t* a = in<uint32_t>(w, i.a);
  each_lane(mask, [&](uint32_t l) {
    float x = as_float(a[l]);
    if (i.option & 1) x = flush(x);
    x = static_cast<float>(round_to_integer(x, static_cast<Round>(i.selector)));
    if (i.option & 2) x = x > 0 ? std::min(x, 1.0f) : 0.0f;
    out<uint32_t>(w, i.d)[l] = bits_of(x);
  });
}
void round_double(Warp& w, const Instruction& i, uint32_t mask) {
  const uint64_t* a = in<uint64_t>(w, i.a);
  each_lane(mask, [&](uint32_t l) {
    out<uint64_t>(w, i.d)[l] = bits_of(round_to_integer(as_double(a[l]), static_cast<Round>(i.selector)));
  });
}

/** Among float32 and float64. */
void decode_float_to_float(Decoder& d, Instruction& i, Type to, Type from) {
  const int integral = d.take_one({"rni", "rzi", "rmi", "rpi"});
  const bool flushes = d.take("ftz"), saturates = d.take("sat");
  i.d = d.destination(0, to.bits);
  i.a = d.source(1, from.bits);
  if (to.bits == from.bits) {
    i.selector = static_cast<uint8_t>(integral < 0 ? static_cast<int>(Round::None) : integral);
    i.option = static_cast<uint16_t>(flushes | saturates << 1);
    if (to.bits == 64 && i.option) return;
    i.execute = to.bits == 64 ? &round_double : &round_single;
    return;
  }
  if (integral >= 0 || flushes || saturates) return;
  if (to.bits == 64) {
    i.execute = by_lane<[](uint32_t a) -> uint64_t { return bits_of(static_cast<double>(as_float(a))); }>;
  } else {
    if (!d.take("rn")) d.error(".rn expected");
    i.execute = by_lane<[](uint64_t a) -> uint32_t { return bits_of(static_cast<float>(as_double(a))); }>;
  }
}

void decode_cvt(Decoder& d, Instruction& i) {
  const Type from = d.type(), to = d.type();
  if (to.kind == 'h' || to.kind == 'H' || to.kind == 'e' || to.kind == 'E') {
    if (from.is('f', 32)) decode_narrowing(d, i, to);
    return;
  }
  d.expect_operands(2, 2);
  if (from.is_integer() && to.is_integer()) return decode_resize(d, i, to, from);
  if (from.is('h', 16) || from.is('e', 16)) {
    if (!to.is('f', 32)) return;
    i.d = d.destination(0, 32);
    i.a = d.source(1, 16);
    i.execute = from.kind == 'h' ? by_lane<[](uint32_t a) -> uint32_t { return a << 16; }>
                                 : by_lane<[](uint32_t a) -> uint32_t { return bits_of(of_half(a)); }>;
    return;
  }
  if (from.kind == 'f' && to.kind == 'f') return decode_float_to_float(d, i, to, from);
  if (from.is_integer() && to.kind == 'f') {
    if (!d.take("rn")) d.error(".rn expected");
    i.d = d.destination(0, to.bits);
    i.a = d.source(1, from.bits);
    i.execute = choose_from_integer(to, from);
    return;
  }
  const int round = d.take_one({"rni", "rzi", "rmi", "rpi"});
  if (round < 0) d.error("a rounding to integers expected");
  d.take("sat");  // of integers implied
  i.option = d.take("ftz");
  i.selector = static_cast<uint8_t>(round);
  i.d = d.destination(0, to.bits);
  i.a = d.source(1, from.bits);
  i.execute = by_integer(to, [&](auto zero) -> Handler {
    using T = decltype(zero);
    return from.bits == 64 ? &to_integer<T, double> : &to_integer<T, float>;
  });
}

}  // namespace

void add_conversions(DecodeTable& table) { table["cvt"] = decode_cvt; }

}  // namespace thalweg::emulator
