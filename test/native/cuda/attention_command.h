#pragma once
#include <algorithm>
#include <limits>

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
  void run(const Problem& c, float scale, const Starts& starts = {}) {
    run_op<ops::Attention>({qkv, operand_of(starts), y, lse},
                           {double(c.seq), double(c.heads), double(c.kv_heads), double(c.dim), scale});
  }
};

struct Backward {
  Buffer dy, dqkv;
  Backward(const Problem& c, DType act, const Doubles& values)
      : dy(act, {c.rows(), c.y_width()}, values), dqkv(act, {c.rows(), c.qkv_width()}) {}
  void run(const Problem& c, const Forward& f, float scale, const Starts& starts = {}, bool any_order = false) {
    run_op<ops::AttentionBackward>(
        {f.qkv, f.y, f.lse, dy, operand_of(starts), dqkv},
        {double(c.seq), double(c.heads), double(c.kv_heads), double(c.dim), scale, double(any_order)});
  }
};

/** Both passes against float64, with the same bits on every schedule. */
inline void check_problem(const Problem& c, DType act, float scale, const Starts& starts = {}) {
  const Doubles qkv = random_values(c.rows() * c.qkv_width(), act, 1),
                dy = random_values(c.rows() * c.y_width(), act, 2);
  const auto want = reference(c, qkv, dy, scale, starts);
  const auto tolerance = act == DType::F32 ? kF32 : kBf16;
  same_bits_on_every_schedule([&] {
    Forward f(c, act, qkv);
    Backward b(c, act, dy);
    f.run(c, scale, starts);
    compare(c.name() + " y", f.y.get(), want.y, tolerance);
    // Scores are fp32 sums of exact products in both precisions: no bf16 rounding reaches lse.
    compare(c.name() + " lse", f.lse.get(), want.lse, {1e-5, 1e-5});
    b.run(c, f, scale, starts);
    compare_gradient(c.name(), c, b.dqkv.get(), want, tolerance);
    return joined({&f.y, &f.lse, &b.dqkv});
  });
}

/** With leave to add in any order, on this device: dQ as near to float64 as in order under every schedule, dK and dV of
 * its bits; `ignored`: dQ too. */
inline void check_any_order(const Problem& c, DType act, float scale, const Starts& starts = {}, bool ignored = false) {
  const Doubles qkv = random_values(c.rows() * c.qkv_width(), act, 1),
                dy = random_values(c.rows() * c.y_width(), act, 2);
  Forward f(c, act, qkv);
  Backward ordered(c, act, dy);
  f.run(c, scale, starts);
  ordered.run(c, f, scale, starts);
  const Doubles kept = ordered.dqkv.get();
  const auto want = reference(c, qkv, dy, scale, starts);
  on_every_schedule([&] {
    Backward b(c, act, dy);
    b.run(c, f, scale, starts, true);
    const Doubles found = b.dqkv.get();
    compare_gradient(c.name() + " in any order", c, found, want, act == DType::F32 ? kF32 : kBf16);
    for (size_t i = 0; i < found.size(); i++)
      CHECK(found[i] == kept[i] || (!ignored && static_cast<int64_t>(i) % c.qkv_width() < c.heads * c.dim), c.name(),
            ": value ", i, " has other bits than in order");
  });
}

/** One document over each sequence against no documents: the same bits, on a device of this capability. */
inline void check_whole_sequences(const Problem& c, DType act, int capability) {
  const Doubles qkv = random_values(c.rows() * c.qkv_width(), act, 1),
                dy = random_values(c.rows() * c.y_width(), act, 2);
  std::vector<unsigned char> bits[2];
  for (size_t given = 0; given < 2; given++) {
    const Starts starts(given * static_cast<size_t>(c.rows()));
    Forward f(c, act, qkv);
    Backward b(c, act, dy);
    on_device(capability, 3, [&] {
      f.run(c, c.scale(), starts);
      b.run(c, f, c.scale(), starts);
    });
    bits[given] = joined({&f.y, &f.lse, &b.dqkv});
  }
  CHECK(bits[0] == bits[1], c.name(), " ", dtype_name(act));
}

/** A NaN key, and a change of dy in a row: what they reach lies in their document. */
inline void check_separation(const Problem& c, DType act, int capability, int kind) {
  const Starts starts = random_starts(c, kind, 5);
  const Doubles qkv = random_values(c.rows() * c.qkv_width(), act, 1),
                dy = random_values(c.rows() * c.y_width(), act, 2);
  const auto attention = [&](const Doubles& values) {
    Forward f(c, act, values);
    on_device(capability, 3, [&] { f.run(c, c.scale(), starts); });
    return f;
  };
  const Forward f = attention(qkv);
  const auto gradient = [&](const Doubles& of) {
    Backward b(c, act, of);
    on_device(capability, 3, [&] { b.run(c, f, c.scale(), starts); });
    return b.dqkv.get();
  };
  const Doubles before = gradient(dy);
  for (const int64_t at : {c.seq / 2, c.rows() - 2}) {
    Doubles bad = qkv, moved = dy;
    bad[at * c.qkv_width() + c.heads * c.dim + 3] = std::numeric_limits<double>::quiet_NaN();
    for (int64_t d = 0; d < c.dim; d++) moved[at * c.y_width() + d] = 64;
    const Doubles y = attention(bad).y.get(), after = gradient(moved);
    for (int64_t r = 0; r < c.rows(); r++) {
      CHECK(std::isnan(y[r * c.y_width()]) == sees(c, starts, r, at), c.name(), " kind ", kind, " key ", at, " row ",
            r);
      if (r == at || sees(c, starts, at, r)) continue;
      const auto row = r * c.qkv_width();
      CHECK(std::equal(before.begin() + row, before.begin() + row + c.qkv_width(), after.begin() + row), c.name(),
            " kind ", kind, " dy row ", at, " reaches row ", r);
    }
  }
}

/** Starts that the host refuses: no block may wait for ever, nothing outside be read, and every query sees itself. */
inline void check_bad_starts(const Problem& c, DType act, int capability) {
  std::mt19937_64 random(seed());
  Starts starts(static_cast<size_t>(c.rows()));
  for (auto& s : starts)
    s = random() % 4 == 0 ? static_cast<int32_t>(random()) : static_cast<int32_t>(random() % (2 * c.seq)) - 20;
  Forward f(c, act, random_values(c.rows() * c.qkv_width(), act, 1));
  Backward b(c, act, random_values(c.rows() * c.y_width(), act, 2));
  on_device(capability, 3, [&] {
    f.run(c, c.scale(), starts);
    b.run(c, f, c.scale(), starts);
  });
  for (const double y : f.y.get()) CHECK(std::isfinite(y), c.name());
  for (const double g : b.dqkv.get()) CHECK(std::isfinite(g), c.name());
}

}  // namespace check::attention
