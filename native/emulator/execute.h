#pragma once
#include <type_traits>

#include "native/emulator/decoder.h"
#include "native/emulator/lanes.h"

/** What the rooms of instructions share: operands by position, handlers by type. */
namespace thalweg::emulator {

/** Integers of 16 bits lie in 32, the upper ones zero. */
template <class T>
using Box = std::conditional_t<sizeof(T) == 8, uint64_t, uint32_t>;
template <class T>
constexpr Box<T> box(T value) {
  return static_cast<std::make_unsigned_t<T>>(value);
}

template <class T, auto F>
constexpr Handler unary = by_lane<[](Box<T> a) -> Box<T> { return box<T>(static_cast<T>(F(static_cast<T>(a)))); }>;
template <class T, auto F>
constexpr Handler binary = by_lane<[](Box<T> a, Box<T> b) -> Box<T> {
  return box<T>(static_cast<T>(F(static_cast<T>(a), static_cast<T>(b))));
}>;
template <class T, auto F>
constexpr Handler ternary = by_lane<[](Box<T> a, Box<T> b, Box<T> c) -> Box<T> {
  return box<T>(static_cast<T>(F(static_cast<T>(a), static_cast<T>(b), static_cast<T>(c))));
}>;

/** f<T>() for the integer type T of a PTX type; null for others. */
template <class F>
Handler by_integer(Type t, F f) {
  const bool is_signed = t.kind == 's';
  if (!t.is_integer()) return nullptr;
  switch (t.bits) {
    case 16:
      return is_signed ? f(int16_t{}) : f(uint16_t{});
    case 32:
      return is_signed ? f(int32_t{}) : f(uint32_t{});
    case 64:
      return is_signed ? f(int64_t{}) : f(uint64_t{});
    default:
      return nullptr;
  }
}
/** The same for operations that do not mind the sign, of unsigned T. */
template <class F>
Handler by_width(Type t, F f) {
  return by_integer({t.kind == 's' ? 'u' : t.kind, t.bits}, [&](auto zero) -> Handler {
    if constexpr (std::is_unsigned_v<decltype(zero)>) return f(zero);
    return nullptr;
  });
}

/** d = f(a[, b[, c]]), all of `bits`. */
inline void same_widths(Decoder& d, Instruction& i, int bits, size_t sources) {
  d.expect_operands(sources + 1, sources + 1);
  i.d = d.destination(0, bits);
  i.a = d.source(1, bits);
  if (sources > 1) i.b = d.source(2, bits);
  if (sources > 2) i.c = d.source(3, bits);
}

/** add, sub, mul, fma, mad, div, neg, abs, min, max, ... of floats; `t` is taken. */
void decode_floating(Decoder& d, Instruction& i, std::string_view operation, Type t);
/** and, or, xor, not, mov of predicates. */
void decode_predicate_logic(Decoder& d, Instruction& i, std::string_view operation);

}  // namespace thalweg::emulator
