#pragma once
#include "test/native/attention_reference.h"
#include "test/native/cuda/command.h"

/** Attention and its gradient as ops on the device, for the tests of its kernels. */
namespace check::attention {

struct Forward {
  Buffer qkv, y, lse;
  Forward(const Problem& c, DType act, const Doubles& values)
      : qkv(act, {c.rows(), c.qkv_width()}, values),
        y(act, {c.rows(), c.y_width()}),
        lse(DType::F32, {c.rows(), c.heads}) {}
  void run(const Problem& c, float scale) {
    run_op<ops::Attention>({qkv, y, lse}, {double(c.seq), double(c.heads), double(c.kv_heads), double(c.dim), scale});
  }
};

struct Backward {
  Buffer dy, dqkv;
  Backward(const Problem& c, DType act, const Doubles& values)
      : dy(act, {c.rows(), c.y_width()}, values), dqkv(act, {c.rows(), c.qkv_width()}) {}
  void run(const Problem& c, const Forward& f, float scale) {
    run_op<ops::AttentionBackward>({f.qkv, f.y, f.lse, dy, dqkv},
                                   {double(c.seq), double(c.heads), double(c.kv_heads), double(c.dim), scale});
  }
};

/** Both passes against float64, with the same bits on every schedule. */
inline void check_problem(const Problem& c, DType act, float scale) {
  const Doubles qkv = random_values(c.rows() * c.qkv_width(), act, 1),
                dy = random_values(c.rows() * c.y_width(), act, 2);
  const auto want = reference(c, qkv, dy, scale);
  const auto tolerance = act == DType::F32 ? kF32 : kBf16;
  same_bits_on_every_schedule([&] {
    Forward f(c, act, qkv);
    Backward b(c, act, dy);
    f.run(c, scale);
    compare(c.name() + " y", f.y.get(), want.y, tolerance);
    // Scores are fp32 sums of exact products in both precisions: no bf16 rounding reaches lse.
    compare(c.name() + " lse", f.lse.get(), want.lse, {1e-5, 1e-5});
    b.run(c, f, scale);
    compare_gradient(c.name(), c, b.dqkv.get(), want, tolerance);
    return joined({&f.y, &f.lse, &b.dqkv});
  });
}

}  // namespace check::attention
