#pragma once
#include "native/cuda/ptx/types.h"

/** Elements of memory, fp32 or bf16, as fp32 in registers: arithmetic is written once for both. */
namespace thalweg::cuda {

template <int N>
struct Floats {
  float at[N];
  DEVICE float& operator[](int i) { return at[i]; }
  DEVICE const float& operator[](int i) const { return at[i]; }
};

template <int N>
DEVICE Floats<N> zeros() {
  Floats<N> out;
  UNROLL
  for (int i = 0; i < N; i++) out[i] = 0.0f;
  return out;
}

template <class T, int N>
DEVICE Floats<N> unpack(const Vector<T, N>& from) {
  Floats<N> out;
  UNROLL
  for (int i = 0; i < N; i++) out[i] = to_float(from[i]);
  return out;
}

/** Rounded to nearest even where T is bf16, two elements an instruction. */
template <class T, int N>
DEVICE Vector<T, N> pack(const Floats<N>& from) {
  Vector<T, N> out;
  if constexpr (sizeof(T) == 2 && N % 2 == 0) {
    uint32_t pairs[N / 2];
    UNROLL
    for (int i = 0; i < N / 2; i++) pairs[i] = pack_bf16(from[2 * i], from[2 * i + 1]);
    memcpy(&out, pairs, sizeof out);
  } else {
    UNROLL
    for (int i = 0; i < N; i++) out[i] = from_float<T>(from[i]);
  }
  return out;
}

/** N elements in accesses of at most 16 bytes. */
template <int N, class T>
DEVICE Floats<N> load_floats(const T* from) {
  constexpr int kPart = N < kVector<T> ? N : kVector<T>;
  Floats<N> out;
  UNROLL
  for (int p = 0; p < N; p += kPart) {
    const Floats<kPart> part = unpack(load<kPart>(from + p));
    UNROLL
    for (int i = 0; i < kPart; i++) out[p + i] = part[i];
  }
  return out;
}

/** To global memory. */
template <int N, class T>
DEVICE void store_floats(T* to, const Floats<N>& from) {
  constexpr int kPart = N < kVector<T> ? N : kVector<T>;
  UNROLL
  for (int p = 0; p < N; p += kPart) {
    Floats<kPart> part;
    UNROLL
    for (int i = 0; i < kPart; i++) part[i] = from[p + i];
    store_global<kPart>(to + p, pack<T>(part));
  }
}

}  // namespace thalweg::cuda
