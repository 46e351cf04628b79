// gradNorm: norm = sqrt(sum grads^2), 4 bytes per parameter read. adamw: AdamW (Loshchilov & Hutter 2019) as PyTorch
// computes it; 16 bytes per parameter read and 12 written, so it runs at the speed of memory: one pass over the four
// arrays, and the packed copies the linear kernels multiply with are rebuilt while the rows are still in L2.
#include "native/cpu/kernels/declare.h"
#include "native/cpu/kernels/reduce.h"
#include "native/cpu/kernels/simd.h"
#include "native/cpu/kernels/tiles.h"
#include "native/ops/step_inputs.h"

namespace thalweg::cpu::THALWEG_ISA {

static bool finite(float x) { return x - x == 0.0f; }

void grad_norm(const ops::GradNorm& p, Context& ctx) {
  const float* g = p.grads.as<float>();
  const double squares = reduce_blocks(
      ctx, p.n, [&](int64_t i, int n, H& low, H& high) __attribute__((always_inline)) {
        const F v = load_part(g + i, n);
        const H a = low_half(v), b = high_half(v);
        low = low + a * a;
        high = high + b * b;
      });
  const float norm = static_cast<float>(__builtin_sqrt(squares));
  *p.norm.as<float>() = norm;
  if (!finite(norm) || !finite(*p.loss.as<float>())) *p.status.as<int32_t>() = 1;
}
size_t grad_norm_workspace(const ops::GradNorm& p, int) { return reduce_workspace(p.n); }

namespace {

/** The numbers of one step, the same for every element. */
struct Step {
  float clip;   // factor on the gradient
  float decay;  // lr * weightDecay, scaled
  float mix1;   // 1 - beta1
  float beta2;
  float mix2;  // 1 - beta2
  float size;  // lr * bias1
  float bias2;
  float eps;
};

Step step_of(const ops::Adamw& p, const float* scalars) {
  const double lr = static_cast<double>(scalars[ops::kScalarLr]) * p.lr_scale;
  const float limit = scalars[ops::kScalarClip], norm = *p.norm.as<float>();
  const float ratio = limit / (norm + 1e-6f);
  Step s;
  s.clip = limit > 0.0f && ratio < 1.0f ? ratio : 1.0f;
  s.decay = static_cast<float>(lr * scalars[ops::kScalarWeightDecay] * p.decay_scale);
  s.mix1 = 1.0f - scalars[ops::kScalarBeta1];
  s.beta2 = scalars[ops::kScalarBeta2];
  s.mix2 = 1.0f - scalars[ops::kScalarBeta2];
  s.size = static_cast<float>(lr * scalars[ops::kScalarBias1]);
  s.bias2 = scalars[ops::kScalarBias2];
  s.eps = scalars[ops::kScalarEps];
  return s;
}

void update(const ops::Adamw& p, const Step& s, int64_t begin, int64_t end) {
  const float* grad = p.grad.as<float>() + begin;
  float *param = p.param.as<float>() + begin, *m = p.m.as<float>() + begin, *v = p.v.as<float>() + begin;
  const F clip = set1(s.clip), decay = set1(-s.decay), mix1 = set1(s.mix1), beta2 = set1(s.beta2), mix2 = set1(s.mix2),
          size = set1(s.size), bias2 = set1(s.bias2), eps = set1(s.eps);
  for_lanes(
      end - begin, [&](int64_t i, int n) __attribute__((always_inline)) {
        const F g = load_part(grad + i, n) * clip;
        F w = load_part(param + i, n);
        w = fma(decay, w, w);
        const F m0 = load_part(m + i, n);
        const F m1 = fma(mix1, g - m0, m0);
        const F v1 = fma(mix2 * g, g, beta2 * load_part(v + i, n));
        const F step = size * m1 / (sqrt(v1 * bias2) + eps);
        store_part(m + i, m1, n);
        store_part(v + i, v1, n);
        store_part(param + i, w - step, n);
      });
}

}  // namespace

void adamw(const ops::Adamw& p, Context& ctx) {
  if (*p.status.as<int32_t>() != 0) return;
  const Step step = step_of(p, ctx.scalars);
  Packed copies[4];
  const int packed = ctx.packed != nullptr && p.param.rank == 2 ? ctx.packed->all(p.param.data, copies) : 0;
  if (packed == 0) {
    run_blocks(ctx.pool, p.n, kTileElements, [&](int64_t begin, int64_t end, int) { update(p, step, begin, end); });
    return;
  }
  const int64_t rows = p.param.shape[0], width = p.param.shape[1];
  run_blocks(ctx.pool, rows, kPackRows, [&](int64_t begin, int64_t end, int) {
    update(p, step, begin * width, end * width);
    for (int c = 0; c < packed; c++) pack_weight_rows(p.param.as<float>(), rows, width, begin, end - begin, copies[c]);
  });
}
size_t adamw_workspace(const ops::Adamw&, int) { return 0; }

}  // namespace thalweg::cpu::THALWEG_ISA
