#pragma once
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <tuple>
#include <utility>

#include "native/emulator/warp.h"

/** Loops over the 32 lanes of a warp, written so that they vectorise. */
namespace thalweg::emulator {

template <class T>
inline const T* in(const Warp& w, Ref r) {
  return reinterpret_cast<const T*>(w.bases[r >> 30] + static_cast<size_t>(r & 0x3FFFFFFFu) * kUnit);
}
template <class T>
inline T* out(Warp& w, Ref r) {
  return reinterpret_cast<T*>(w.registers_at(r));
}
inline bool has(uint32_t mask, uint32_t lane) { return (mask >> lane & 1) != 0; }

/** 1 << lane, as vectors of 32 and 64 bits: tests of a mask's lanes compile to one instruction. */
template <class T>
struct LaneBits {
  T at[32];
  constexpr LaneBits() : at() {
    for (int l = 0; l < 32; l++) at[l] = T{1} << l;
  }
};
template <class T>
inline constexpr LaneBits<T> kLaneBits{};
/** choose(mask, l, yes, no) in loops over lanes. */
template <class T>
inline T choose(uint32_t mask, uint32_t lane, T yes, T no) {
  return (mask & kLaneBits<T>.at[lane]) != 0 ? yes : no;
}

/** f(lane) for each lane of the mask, in order. */
template <class F>
inline void each_lane(uint32_t mask, F&& f) {
  for (; mask; mask &= mask - 1) f(static_cast<uint32_t>(std::countr_zero(mask)));
}

/** d[lane] = f(lane) in the lanes of the mask; f is computed in all and must not mind. */
template <class D, class F>
inline void assign(uint32_t mask, D* d, F&& f) {
  if (mask == ~0u) {
#pragma GCC ivdep
    for (uint32_t l = 0; l < 32; l++) d[l] = f(l);
  } else {
#pragma GCC ivdep
    for (uint32_t l = 0; l < 32; l++) {
      const D value = f(l), old = d[l];
      d[l] = choose<D>(mask, l, value, old);
    }
  }
}

/** Bit l = f(l). */
template <class F>
inline uint32_t collect(F&& f) {
  uint32_t bits = 0;
  for (uint32_t l = 0; l < 32; l++) bits |= static_cast<uint32_t>(static_cast<bool>(f(l))) << l;
  return bits;
}

inline void set_predicate(Warp& w, Ref r, uint32_t mask, uint32_t value) {
  w.predicates[r] = (w.predicates[r] & ~mask) | (value & mask);
  w.defined[r] |= mask;
}

template <class F>
struct Signature;
template <class C, class R, class... P>
struct Signature<R (C::*)(P...) const> {
  using Result = R;
  template <auto Function, size_t... I>
  static void play(Warp& w, const Instruction& i, uint32_t mask, std::index_sequence<I...>) {
    const Ref refs[] = {i.a, i.b, i.c};
    const std::tuple<const P*...> sources{in<P>(w, refs[I])...};
    assign(mask, out<R>(w, i.d), [&](uint32_t l) { return Function(std::get<I>(sources)[l]...); });
  }
  template <auto Function>
  static void play_all(Warp& w, const Instruction& i, uint32_t mask) {
    play<Function>(w, i, mask, std::index_sequence_for<P...>{});
  }
};

/** A handler from a function of one lane's values: d = f(a), f(a, b) or f(a, b, c), of uint32_t or uint64_t. */
template <auto F>
constexpr Handler by_lane = &Signature<decltype(&decltype(F)::operator())>::template play_all<F>;

inline float as_float(uint32_t bits) { return std::bit_cast<float>(bits); }
inline double as_double(uint64_t bits) { return std::bit_cast<double>(bits); }
/** Bits of a result: every NaN is 0x7FFFFFFF (PTX ISA, "Floating-point instructions": NaN payloads). */
inline uint32_t bits_of(float x) { return x != x ? 0x7FFFFFFFu : std::bit_cast<uint32_t>(x); }
inline uint64_t bits_of(double x) { return std::bit_cast<uint64_t>(x); }
/** Subnormal numbers become zero of the same sign. */
inline float flush(float x) {
  const uint32_t bits = std::bit_cast<uint32_t>(x);
  return (bits & 0x7F800000u) == 0 ? std::bit_cast<float>(bits & 0x80000000u) : x;
}

}  // namespace thalweg::emulator
