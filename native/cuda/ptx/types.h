#pragma once
#include <cmath>
#include <cstring>

#include "native/cuda/ptx/platform.h"

namespace thalweg::cuda {

/** bfloat16: the upper half of an fp32. */
struct bf16 {
  uint16_t bits;
};

DEVICE float float_of_bits(uint32_t bits) {
#if defined(__CUDACC__)
  return __uint_as_float(bits);
#else
  float value;
  std::memcpy(&value, &bits, 4);
  return value;
#endif
}

DEVICE uint32_t bits_of_float(float value) {
#if defined(__CUDACC__)
  return __float_as_uint(value);
#else
  uint32_t bits;
  std::memcpy(&bits, &value, 4);
  return bits;
#endif
}

DEVICE float to_float(float value) { return value; }
DEVICE float to_float(bf16 value) { return float_of_bits(static_cast<uint32_t>(value.bits) << 16); }

/** Two fp32 rounded to nearest even, `low` in the lower half. */
DEVICE uint32_t pack_bf16(float low, float high) {
#if defined(__CUDACC__)
  uint32_t pair;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
  return pair;
#else
  const auto round = [](float value) -> uint32_t {
    const uint32_t bits = bits_of_float(value);
    if ((bits & 0x7FFFFFFF) > 0x7F800000) return 0x7FFF;  // NaN, as the GPU writes it
    return (bits + 0x7FFF + (bits >> 16 & 1)) >> 16;
  };
  return round(low) | round(high) << 16;
#endif
}

DEVICE float low_bf16(uint32_t pair) { return float_of_bits(pair << 16); }
DEVICE float high_bf16(uint32_t pair) { return float_of_bits(pair & 0xFFFF0000u); }

template <class T>
DEVICE T from_float(float value);
template <>
DEVICE float from_float<float>(float value) {
  return value;
}
template <>
DEVICE bf16 from_float<bf16>(float value) {
  return {static_cast<uint16_t>(pack_bf16(value, 0.0f) & 0xFFFF)};
}

/** N elements that move together: 16 bytes at most, aligned to their size. */
template <class T, int N>
struct alignas(sizeof(T) * N) Vector {
  T at[N];
  DEVICE T& operator[](int i) { return at[i]; }
  DEVICE const T& operator[](int i) const { return at[i]; }
};

/**
 * bf16 stay in pairs until they are asked for: taken apart at once, as an array, each would hold a register of its own,
 * and ptxas waits for a load where the taking apart stands, before the next load.
 */
template <int N>
  requires(N % 2 == 0)
struct alignas(sizeof(bf16) * N) Vector<bf16, N> {
  uint32_t pairs[N / 2];
  DEVICE bf16 operator[](int i) const { return {static_cast<uint16_t>(pairs[i / 2] >> (i % 2 * 16))}; }
};

/** Elements of T in 16 bytes. */
template <class T>
constexpr int kVector = 16 / static_cast<int>(sizeof(T));

#if !defined(__CUDACC__)
inline void check_aligned(const void* place, size_t bytes) {
  if (reinterpret_cast<uintptr_t>(place) % bytes != 0)
    simt::fault("an access of ", bytes, " bytes at an address that is not a multiple of it");
}
#endif

/** One access of sizeof(T) * N bytes; the address must be a multiple of that. */
template <int N, class T>
DEVICE Vector<T, N> load(const T* from) {
#if defined(__CUDACC__)
  return *reinterpret_cast<const Vector<T, N>*>(from);
#else
  Vector<T, N> value;
  check_aligned(from, sizeof value);
  std::memcpy(&value, from, sizeof value);
  return value;
#endif
}

template <int N, class T>
DEVICE void store(T* to, const Vector<T, N>& value) {
#if defined(__CUDACC__)
  *reinterpret_cast<Vector<T, N>*>(to) = value;
#else
  check_aligned(to, sizeof value);
  std::memcpy(to, &value, sizeof value);
#endif
}

/** A vector to global memory, surely as one instruction: nvcc takes plain stores to pieces at times. */
template <int N, class T>
DEVICE void store_global(T* to, const Vector<T, N>& value) {
#if defined(__CUDACC__)
  if constexpr (sizeof value == 16) {
    uint4 raw;
    memcpy(&raw, &value, 16);
    __stwb(reinterpret_cast<uint4*>(to), raw);
  } else if constexpr (sizeof value == 8) {
    uint2 raw;
    memcpy(&raw, &value, 8);
    __stwb(reinterpret_cast<uint2*>(to), raw);
  } else {
    store<N>(to, value);
  }
#else
  store<N>(to, value);
#endif
}

/** The same for data read once and not again soon: does not displace what the caches hold. 16 bytes only. */
template <class T>
DEVICE Vector<T, kVector<T>> load_streaming(const T* from) {
#if defined(__CUDACC__)
  const uint4 raw = __ldcs(reinterpret_cast<const uint4*>(from));
  Vector<T, kVector<T>> value;
  memcpy(&value, &raw, 16);
  return value;
#else
  return load<kVector<T>>(from);
#endif
}

template <class T>
DEVICE void store_streaming(T* to, const Vector<T, kVector<T>>& value) {
#if defined(__CUDACC__)
  uint4 raw;
  memcpy(&raw, &value, 16);
  __stcs(reinterpret_cast<uint4*>(to), raw);
#else
  store<kVector<T>>(to, value);
#endif
}

}  // namespace thalweg::cuda
