#pragma once
#include "native/cuda/kernels/floats.cuh"
#include "native/cuda/ptx/math.h"

/** SwiGLU of elements in registers; one place, so that the op and the products that end in it give the same bits. */
namespace thalweg::cuda {

DEVICE float sigmoid(float x) { return reciprocal_fast(1.0f + exp2_fast(-kLog2E * x)); }

/** silu(gate) * up. */
DEVICE float swiglu_of(float gate, float up) { return gate * sigmoid(gate) * up; }

struct Gated {
  float gate, up;
};

/** The gradients of gate and up, given that of silu(gate) * up. */
DEVICE Gated swiglu_gradient(float gate, float up, float d) {
  const float s = sigmoid(gate);
  return {d * up * s * (1.0f + gate * (1.0f - s)), d * gate * s};
}

template <class T, int N>
struct GatedVectors {
  Vector<T, N> gate, up;
};

template <class T, int N>
DEVICE Vector<T, N> swiglu_of(const Vector<T, N>& gate, const Vector<T, N>& up) {
  Floats<N> out;
  UNROLL
  for (int i = 0; i < N; i++) out[i] = swiglu_of(to_float(gate[i]), to_float(up[i]));
  return pack<T>(out);
}

template <class T, int N>
DEVICE GatedVectors<T, N> swiglu_gradient(const Vector<T, N>& gate, const Vector<T, N>& up, const Vector<T, N>& d) {
  Floats<N> gates, ups;
  UNROLL
  for (int i = 0; i < N; i++) {
    const Gated one = swiglu_gradient(to_float(gate[i]), to_float(up[i]), to_float(d[i]));
    gates[i] = one.gate;
    ups[i] = one.up;
  }
  return {pack<T>(gates), pack<T>(ups)};
}

}  // namespace thalweg::cuda
