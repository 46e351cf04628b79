#pragma once
#include "native/ops/step_inputs.h"
#include "test/native/reference.h"

/** AdamW in float64, and the step inputs to compare it under. */
namespace check {

using namespace thalweg;

/** AdamW in float64, from the same scalars the kernel gets (so their own rounding to fp32 does not count). */
struct Adamw64 {
  Values param, m, v;
  double lr_scale, decay_scale;
  void step(const Values& grad, double norm, const std::vector<float>& s) {
    const double clip = s[ops::kScalarClip], lr = double(s[ops::kScalarLr]) * lr_scale;
    const double beta1 = s[ops::kScalarBeta1], beta2 = s[ops::kScalarBeta2];
    const double factor = clip > 0 ? std::min(1.0, clip / (norm + 1e-6)) : 1.0;
    for (size_t i = 0; i < param.size(); i++) {
      const double g = grad[i] * factor;
      param[i] -= lr * s[ops::kScalarWeightDecay] * decay_scale * param[i];
      m[i] = beta1 * m[i] + (1 - beta1) * g;
      v[i] = beta2 * v[i] + (1 - beta2) * g * g;
      param[i] -= lr * s[ops::kScalarBias1] * m[i] / (std::sqrt(v[i] * s[ops::kScalarBias2]) + s[ops::kScalarEps]);
    }
  }
};

/** Scalars of step t with beta1 0.9, beta2 0.95. */
inline std::vector<float> step_scalars(int t, double clip) {
  const double beta1 = 0.9f, beta2 = 0.95f;
  std::vector<float> s(ops::kScalarCount, 0.0f);
  s[ops::kScalarLr] = 0.01f;
  s[ops::kScalarBeta1] = 0.9f;
  s[ops::kScalarBeta2] = 0.95f;
  s[ops::kScalarEps] = 1e-8f;
  s[ops::kScalarBias1] = static_cast<float>(1 / (1 - std::pow(beta1, t)));
  s[ops::kScalarBias2] = static_cast<float>(1 / (1 - std::pow(beta2, t)));
  s[ops::kScalarWeightDecay] = 0.1f;
  s[ops::kScalarClip] = static_cast<float>(clip);
  return s;
}

}  // namespace check
