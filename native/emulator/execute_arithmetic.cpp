#include <algorithm>
#include <climits>

#include "native/emulator/execute.h"

/** Integers (PTX ISA, "Integer arithmetic instructions") and bits ("Logic and shift instructions"). */
namespace thalweg::emulator {
namespace {

template <class T>
using Double =
    std::conditional_t<sizeof(T) == 2, std::conditional_t<std::is_signed_v<T>, int32_t, uint32_t>,
                       std::conditional_t<sizeof(T) == 4, std::conditional_t<std::is_signed_v<T>, int64_t, uint64_t>,
                                          std::conditional_t<std::is_signed_v<T>, __int128, unsigned __int128>>>;

template <class T>
constexpr T high_product(T a, T b) {
  return static_cast<T>((static_cast<Double<T>>(a) * static_cast<Double<T>>(b)) >> (8 * sizeof(T)));
}

void decode_add(Decoder& d, Instruction& i) {
  const Type t = d.type();
  const bool subtract = d.opcode().substr(0, 3) == "sub";
  if (!t.is_integer()) return decode_floating(d, i, subtract ? "sub" : "add", t);
  same_widths(d, i, t.bits, 2);
  if (d.take("sat")) {
    if (!t.is('s', 32)) d.error(".sat is of .s32 only");
    i.execute =
        subtract
            ? binary<int32_t, [](int64_t a, int64_t b) { return std::clamp<int64_t>(a - b, INT32_MIN, INT32_MAX); }>
            : binary<int32_t, [](int64_t a, int64_t b) { return std::clamp<int64_t>(a + b, INT32_MIN, INT32_MAX); }>;
    return;
  }
  i.execute = by_width(t, [&](auto zero) -> Handler {
    using T = decltype(zero);
    return subtract ? binary<T, [](T a, T b) { return static_cast<T>(a - b); }>
                    : binary<T, [](T a, T b) { return static_cast<T>(a + b); }>;
  });
}

template <class T>
constexpr Handler wide_product = by_lane<[](uint32_t a, uint32_t b) -> Box<Double<T>> {
  return box<Double<T>>(static_cast<Double<T>>(static_cast<T>(a)) * static_cast<Double<T>>(static_cast<T>(b)));
}>;
template <class T>
constexpr Handler wide_sum = by_lane<[](uint32_t a, uint32_t b, Box<Double<T>> c) -> Box<Double<T>> {
  return box<Double<T>>(static_cast<Double<T>>(static_cast<T>(a)) * static_cast<Double<T>>(static_cast<T>(b))) + c;
}>;

void decode_multiply(Decoder& d, Instruction& i) {
  const Type t = d.type();
  const bool adds = d.opcode()[1] == 'a';
  if (!t.is_integer()) return decode_floating(d, i, adds ? "fma" : "mul", t);
  const int part = d.take_one({"lo", "hi", "wide"});
  if (part < 0) d.error(".lo, .hi or .wide expected");
  if (part == 2) {
    if (t.bits > 32) d.error(".wide of 64 bits");
    d.expect_operands(adds ? 4 : 3, adds ? 4 : 3);
    i.d = d.destination(0, 2 * t.bits);
    i.a = d.source(1, t.bits);
    i.b = d.source(2, t.bits);
    if (adds) i.c = d.source(3, 2 * t.bits);
    i.execute = by_integer(t, [&](auto zero) -> Handler {
      using T = decltype(zero);
      if constexpr (sizeof(T) == 8)
        return nullptr;
      else
        return adds ? wide_sum<T> : wide_product<T>;
    });
    return;
  }
  same_widths(d, i, t.bits, adds ? 3 : 2);
  if (part == 0) {
    i.execute = by_width(t, [&](auto zero) -> Handler {
      using T = decltype(zero);
      return adds ? ternary<T, [](T a, T b, T c) { return static_cast<T>(uint64_t{a} * b + c); }>
                  : binary<T, [](T a, T b) { return static_cast<T>(uint64_t{a} * b); }>;
    });
    return;
  }
  i.execute = by_integer(t, [&](auto zero) -> Handler {
    using T = decltype(zero);
    using U = std::make_unsigned_t<T>;
    return adds ? ternary<T,
                          [](T a, T b, T c) {
                            return static_cast<T>(
                                static_cast<U>(static_cast<U>(high_product(a, b)) + static_cast<U>(c)));
                          }>
                : binary<T, [](T a, T b) { return high_product(a, b); }>;
  });
}

/** Division by zero is unspecified: a fault. The least number over -1 is itself, remainder 0. */
template <class T, bool Remainder>
void divide(Warp& w, const Instruction& i, uint32_t mask) {
  const auto* a = in<Box<T>>(w, i.a);
  const auto* b = in<Box<T>>(w, i.b);
  auto* d = out<Box<T>>(w, i.d);
  each_lane(mask, [&](uint32_t l) {
    const T x = static_cast<T>(a[l]), y = static_cast<T>(b[l]);
    if (y == 0) fault("lane ", l, " divides ", +x, " by zero, which has no defined result");
    if constexpr (std::is_signed_v<T>) {
      if (y == -1) {
        d[l] = Remainder ? 0 : box<T>(static_cast<T>(0 - static_cast<std::make_unsigned_t<T>>(x)));
        return;
      }
    }
    d[l] = box<T>(static_cast<T>(Remainder ? x % y : x / y));
  });
}

/** 32 bits by way of float64: the quotient of two such integers never rounds up to the next one. */
template <class T, bool Remainder>
void divide_narrow(Warp& w, const Instruction& i, uint32_t mask) {
  const auto* a = in<uint32_t>(w, i.a);
  const auto* b = in<uint32_t>(w, i.b);
  if (collect([&](uint32_t l) { return b[l] == 0; }) & mask) return divide<T, Remainder>(w, i, mask);
  assign(mask, out<uint32_t>(w, i.d), [&](uint32_t l) {
    const T x = static_cast<T>(a[l]), y = static_cast<T>(b[l]);
    const double whole = static_cast<double>(x) / static_cast<double>(y == 0 ? T{1} : y);
    const auto quotient = static_cast<uint32_t>(static_cast<int64_t>(whole));
    return Remainder ? a[l] - quotient * b[l] : quotient;
  });
}

void decode_divide(Decoder& d, Instruction& i) {
  const Type t = d.type();
  const bool remainder = d.opcode()[0] == 'r';
  if (!t.is_integer()) return decode_floating(d, i, "div", t);
  same_widths(d, i, t.bits, 2);
  i.execute = by_integer(t, [&](auto zero) -> Handler {
    using T = decltype(zero);
    if constexpr (sizeof(T) == 4)
      return remainder ? &divide_narrow<T, true> : &divide_narrow<T, false>;
    else
      return remainder ? &divide<T, true> : &divide<T, false>;
  });
}

void decode_sign(Decoder& d, Instruction& i) {
  const Type t = d.type();
  const bool negate = d.opcode()[0] == 'n';
  if (!t.is_integer()) return decode_floating(d, i, negate ? "neg" : "abs", t);
  if (t.kind != 's') d.error("of signed integers only");
  same_widths(d, i, t.bits, 1);
  i.execute = by_width(t, [&](auto zero) -> Handler {
    using T = decltype(zero);
    using S = std::make_signed_t<T>;
    return negate ? unary<T, [](T a) { return static_cast<T>(0 - a); }>
                  : unary<T, [](T a) { return static_cast<S>(a) < 0 ? static_cast<T>(0 - a) : a; }>;
  });
}

void decode_least(Decoder& d, Instruction& i) {
  const Type t = d.type();
  const bool least = d.opcode()[1] == 'i';
  if (!t.is_integer()) return decode_floating(d, i, least ? "min" : "max", t);
  same_widths(d, i, t.bits, 2);
  i.execute = by_integer(t, [&](auto zero) -> Handler {
    using T = decltype(zero);
    return least ? binary<T, [](T a, T b) { return a < b ? a : b; }>
                 : binary<T, [](T a, T b) { return b < a ? a : b; }>;
  });
}

void decode_logic(Decoder& d, Instruction& i) {
  const Type t = d.type();
  const std::string_view name = d.opcode().substr(0, d.opcode().find('.'));
  if (t.kind == 'p') return decode_predicate_logic(d, i, name);
  same_widths(d, i, t.bits, name == "not" || name == "cnot" ? 1 : 2);
  i.execute = by_width(t, [&](auto zero) -> Handler {
    using T = decltype(zero);
    if (name == "and") return binary<T, [](T a, T b) { return a & b; }>;
    if (name == "or") return binary<T, [](T a, T b) { return a | b; }>;
    if (name == "xor") return binary<T, [](T a, T b) { return a ^ b; }>;
    if (name == "cnot") return unary<T, [](T a) { return a == 0; }>;
    return unary<T, [](T a) { return ~a; }>;
  });
}

/** Amounts beyond the width count as the width. */
template <class T, bool Left>
constexpr auto shift_lane = [](Box<T> a, uint32_t by) -> Box<T> {
  constexpr uint32_t kWidth = 8 * sizeof(T);
  using U = std::make_unsigned_t<T>;
  const T x = static_cast<T>(a);
  if constexpr (Left)
    return by >= kWidth
               ? 0
               : box<T>(static_cast<T>(static_cast<U>(static_cast<Box<T>>(static_cast<U>(x)) << (by % kWidth))));
  const T most = static_cast<T>(x >> (by >= kWidth ? kWidth - 1 : by));
  return by >= kWidth && std::is_unsigned_v<T> ? 0 : box<T>(most);
};

void decode_shift(Decoder& d, Instruction& i) {
  const Type t = d.type();
  const bool left = d.opcode().substr(0, 3) == "shl";
  d.expect_operands(3, 3);
  i.d = d.destination(0, t.bits);
  i.a = d.source(1, t.bits);
  i.b = d.source(2, 32);
  i.execute = by_integer(t, [&](auto zero) -> Handler {
    return left ? by_lane<shift_lane<decltype(zero), true>> : by_lane<shift_lane<decltype(zero), false>>;
  });
}

/** shf: the upper or the lower half of b:a shifted. */
template <bool Left, bool Clamps>
constexpr auto funnel = [](uint32_t a, uint32_t b, uint32_t c) -> uint32_t {
  const uint64_t both = uint64_t{b} << 32 | a;
  const uint32_t by = Clamps ? std::min(c, 32u) : c & 31;
  return static_cast<uint32_t>(Left ? (both << by) >> 32 : both >> by);
};

void decode_funnel(Decoder& d, Instruction& i) {
  const Type t = d.type();
  const bool left = d.take_one({"l", "r"}) == 0, clamps = d.take_one({"clamp", "wrap"}) == 0;
  if (t.bits != 32) d.error("of 32 bits only");
  same_widths(d, i, 32, 3);
  i.execute = left     ? clamps ? by_lane<funnel<true, true>> : by_lane<funnel<true, false>>
                  : clamps ? by_lane<funnel<false, true>>
                       : by_lane<funnel<false, false>>;
}

template <class T>
constexpr auto ones = [](T a) -> uint32_t { return static_cast<uint32_t>(std::popcount(a)); };
template <class T>
constexpr auto zeros = [](T a) -> uint32_t { return static_cast<uint32_t>(std::countl_zero(a)); };
/** The highest bit that differs from the sign; -1 when none does. */
template <class T>
constexpr auto highest = [](Box<T> a) -> uint32_t {
  if (std::is_signed_v<T> && static_cast<T>(a) < 0) a = ~a;
  return 8 * sizeof(T) - 1 - static_cast<uint32_t>(std::countl_zero(a));
};
template <class T>
constexpr auto reversed = [](T a) -> T {
  T r = 0;
  for (size_t n = 0; n < 8 * sizeof(T); n++) r = static_cast<T>(r << 1) | (a >> n & 1);
  return r;
};

void decode_count(Decoder& d, Instruction& i) {
  const Type t = d.type();
  const std::string_view name = d.opcode().substr(0, d.opcode().find('.'));
  d.expect_operands(2, 2);
  i.d = d.destination(0, name == "brev" ? t.bits : 32);
  i.a = d.source(1, t.bits);
  i.execute = by_integer(t, [&](auto zero) -> Handler {
    using T = decltype(zero);
    using U = Box<T>;
    if constexpr (sizeof(T) == 2) return nullptr;
    if (name == "popc") return by_lane<ones<U>>;
    if (name == "clz") return by_lane<zeros<U>>;
    if (name == "brev") return by_lane<reversed<U>>;
    return by_lane<highest<T>>;
  });
}

/** bfe: `length` bits from `position` on, of both only the lower eight bits count. */
template <class T>
constexpr auto extract_lane = [](Box<T> a, uint32_t position, uint32_t length) -> Box<T> {
  constexpr int kMost = 8 * sizeof(T) - 1;
  const int pos = static_cast<int>(position & 0xFF), len = static_cast<int>(length & 0xFF);
  using U = std::make_unsigned_t<T>;
  const U x = static_cast<U>(a);
  const bool sign = std::is_signed_v<T> && len != 0 && (x >> std::min(pos + len - 1, kMost) & 1) != 0;
  U r = sign ? ~U{0} : 0;
  for (int n = 0; n <= kMost && n < len; n++) {
    const U bit = pos + n <= kMost ? x >> (pos + n) & 1 : U{sign};
    r = (r & ~(U{1} << n)) | bit << n;
  }
  return r;
};

void decode_extract(Decoder& d, Instruction& i) {
  const Type t = d.type();
  d.expect_operands(4, 4);
  i.d = d.destination(0, t.bits);
  i.a = d.source(1, t.bits);
  i.b = d.source(2, 32);
  i.c = d.source(3, 32);
  i.execute = by_integer(t, [&](auto zero) -> Handler {
    if constexpr (sizeof(zero) == 2)
      return nullptr;
    else
      return by_lane<extract_lane<decltype(zero)>>;
  });
}

/** bfi: the lower `length` bits of a in the place of b's from `position` on. */
template <class T>
void insert(Warp& w, const Instruction& i, uint32_t mask) {
  const T* a = in<T>(w, i.a);
  const T* b = in<T>(w, i.b);
  const uint32_t* position = in<uint32_t>(w, i.c);
  const uint32_t* length = in<uint32_t>(w, w.launch->program.lists[i.list]);
  constexpr uint32_t kWidth = 8 * sizeof(T);
  assign(mask, out<T>(w, i.d), [&](uint32_t l) {
    const uint32_t pos = position[l] & 0xFF, len = length[l] & 0xFF;
    const T ones = len >= kWidth ? ~T{0} : static_cast<T>((T{1} << (len % kWidth)) - 1);
    const T field = pos >= kWidth ? 0 : static_cast<T>(ones << (pos % kWidth));
    return static_cast<T>((b[l] & ~field) | (pos >= kWidth ? 0 : (a[l] << (pos % kWidth)) & field));
  });
}

void decode_insert(Decoder& d, Instruction& i) {
  const Type t = d.type();
  d.expect_operands(5, 5);
  i.d = d.destination(0, t.bits);
  i.a = d.source(1, t.bits);
  i.b = d.source(2, t.bits);
  i.c = d.source(3, 32);
  d.add(i, d.source(4, 32));
  i.execute = t.bits == 64 ? &insert<uint64_t> : &insert<uint32_t>;
}

/** prmt, default mode: each nibble of the selector names one of the eight bytes of b:a, its upper bit repeats the sign.
 */
constexpr auto permute = [](uint32_t a, uint32_t b, uint32_t selector) -> uint32_t {
  const uint64_t bytes = uint64_t{b} << 32 | a;
  uint32_t r = 0;
  for (uint32_t n = 0; n < 4; n++) {
    const uint32_t pick = selector >> (4 * n) & 0xF;
    uint32_t byte = static_cast<uint32_t>(bytes >> (8 * (pick & 7))) & 0xFF;
    if (pick & 8) byte = byte & 0x80 ? 0xFF : 0;
    r |= byte << (8 * n);
  }
  return r;
};

void decode_permute(Decoder& d, Instruction& i) {
  if (d.type().bits != 32) d.error("of 32 bits only");
  same_widths(d, i, 32, 3);
  i.execute = by_lane<permute>;
}

void play_lop3(Warp& w, const Instruction& i, uint32_t mask) {
  const uint32_t *a = in<uint32_t>(w, i.a), *b = in<uint32_t>(w, i.b), *c = in<uint32_t>(w, i.c);
  const auto table = static_cast<uint32_t>(i.immediate);
  assign(mask, out<uint32_t>(w, i.d), [&](uint32_t l) {
    uint32_t r = 0;
    for (uint32_t row = 0; row < 8; row++) {
      if (!(table >> row & 1)) continue;
      r |= (row & 4 ? a[l] : ~a[l]) & (row & 2 ? b[l] : ~b[l]) & (row & 1 ? c[l] : ~c[l]);
    }
    return r;
  });
}

void decode_lop3(Decoder& d, Instruction& i) {
  if (d.type().bits != 32) d.error("of 32 bits only");
  d.expect_operands(5, 5);
  i.d = d.destination(0, 32);
  i.a = d.source(1, 32);
  i.b = d.source(2, 32);
  i.c = d.source(3, 32);
  i.immediate = d.number(d.operand(4));
  i.execute = &play_lop3;
}

}  // namespace

void add_arithmetic(DecodeTable& table) {
  for (const char* name : {"add", "sub"}) table[name] = decode_add;
  for (const char* name : {"mul", "mad"}) table[name] = decode_multiply;
  for (const char* name : {"div", "rem"}) table[name] = decode_divide;
  for (const char* name : {"neg", "abs"}) table[name] = decode_sign;
  for (const char* name : {"min", "max"}) table[name] = decode_least;
  for (const char* name : {"and", "or", "xor", "not", "cnot"}) table[name] = decode_logic;
  for (const char* name : {"shl", "shr"}) table[name] = decode_shift;
  for (const char* name : {"popc", "clz", "brev", "bfind"}) table[name] = decode_count;
  table["shf"] = decode_funnel;
  table["bfe"] = decode_extract;
  table["bfi"] = decode_insert;
  table["prmt"] = decode_permute;
  table["lop3"] = decode_lop3;
}

}  // namespace thalweg::emulator
