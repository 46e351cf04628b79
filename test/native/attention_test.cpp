// Attention, its gradient and its decoding step on every instruction path of this machine, against float64.
#include <algorithm>
#include <cstring>
#include <limits>

#include "native/base/cpu_features.h"
#include "native/base/error.h"
#include "native/cpu/kernels.h"
#include "native/ops/step_inputs.h"
#include "test/native/attention_reference.h"
#include "test/native/check.h"
#include "test/native/paths.h"

using namespace thalweg;
using namespace check::attention;

namespace {

// Head dims 8 48 64 80 128; groups 1 2 4 8; lengths around a block of 64, a strip of 16, and several chunks of blocks.
const Problem kCases[] = {
    {2, 1, 2, 1, 8},
    {1, 63, 8, 1, 48},
    {2, 64, 4, 1, 64},
    {1, 65, 2, 2, 64},
    {2, 17, 4, 2, 5},
    {1, 200, 4, 2, 80},
    {1, 200, 2, 1, 48},
    {1, 130, 3, 3, 64},
    {1, 513, 2, 1, 128},
    {1, 513, 2, 2, 64},
    {48, 530, 1, 1, 8},  // one chunk of more key blocks than a task keeps at
                         // hand
    {1, 2320, 1, 1, 8},  // several chunks, each longer than that
};

/** A tensor between two guards, filled with NaN (or values). */
class Buffer {
 public:
  Buffer(DType type, std::vector<int64_t> shape) {
    t_.dtype = type;
    t_.rank = static_cast<int>(shape.size());
    std::copy(shape.begin(), shape.end(), t_.shape);
    bytes_.assign(t_.bytes() + 2 * kGuard, kNan);
    t_.data = bytes_.data() + kGuard;
  }
  Buffer(DType type, std::vector<int64_t> shape, const Doubles& values) : Buffer(type, std::move(shape)) {
    for (size_t i = 0; i < values.size(); i++) set(i, values[i]);
  }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  void set(size_t i, double x) {
    if (t_.dtype == DType::BF16)
      t_.as<uint16_t>()[i] = to_bf16(static_cast<float>(x));
    else
      t_.as<float>()[i] = static_cast<float>(x);
  }
  double get(size_t i) const { return t_.dtype == DType::BF16 ? from_bf16(t_.as<uint16_t>()[i]) : t_.as<float>()[i]; }
  Doubles values() const {
    Doubles out(static_cast<size_t>(t_.numel()));
    for (size_t i = 0; i < out.size(); i++) out[i] = get(i);
    return out;
  }
  const Tensor& tensor() const { return t_; }
  std::vector<uint8_t> contents() const { return {bytes_.begin() + kGuard, bytes_.end() - kGuard}; }
  bool guards_stand() const {
    for (size_t i = 0; i < kGuard; i++)
      if (bytes_[i] != kNan || bytes_[bytes_.size() - 1 - i] != kNan) return false;
    return true;
  }

 private:
  static constexpr size_t kGuard = 256;
  static constexpr uint8_t kNan = 0xff;
  std::vector<uint8_t> bytes_;
  Tensor t_;
};

/** Plays one kernel with a workspace of exactly the bytes it asked for, filled with NaN and guarded. */
template <class Params>
void play(void (*kernel)(const Params&, cpu::Context&), size_t (*size)(const Params&, int), const Params& p,
          int threads, const std::vector<int32_t>& integers = std::vector<int32_t>(ops::kIntegerCount)) {
  constexpr size_t kGuard = 64;
  const size_t bytes = size(p, threads);
  std::vector<uint8_t> memory(bytes + kGuard + 64, 0xff);
  auto* aligned = reinterpret_cast<std::byte*>((reinterpret_cast<uintptr_t>(memory.data()) + 63) / 64 * 64);
  ThreadPool pool(threads);
  const std::vector<float> scalars(ops::kScalarCount);
  cpu::Context ctx{pool, scalars.data(), integers.data(), aligned, nullptr};
  kernel(p, ctx);
  for (size_t i = 0; i < kGuard; i++)
    CHECK(aligned[bytes + i] == std::byte{0xff}, "wrote beyond the workspace of ", bytes, " bytes");
}

struct Forward {
  Buffer qkv, y, lse;
  Forward(const Problem& c, DType act, const Doubles& values)
      : qkv(act, {c.rows(), c.qkv_width()}, values),
        y(act, {c.rows(), c.y_width()}),
        lse(DType::F32, {c.rows(), c.heads}) {}
  void play_on(const cpu::Kernels& k, const Problem& c, int threads, float scale, const Starts& starts = {}) {
    ops::Attention p;
    p.starts = operand_of(starts);
    p.qkv = qkv.tensor(), p.y = y.tensor(), p.lse = lse.tensor();
    p.seq = c.seq, p.heads = c.heads, p.kv_heads = c.kv_heads, p.head_dim = c.dim, p.scale = scale, p.rows = c.rows();
    play(k.attention, k.attention_workspace, p, threads);
    CHECK(y.guards_stand() && lse.guards_stand(), "wrote outside y or lse: ", c.name());
  }
};

struct Backward {
  Buffer dy, dqkv;
  Backward(const Problem& c, DType act, const Doubles& values)
      : dy(act, {c.rows(), c.y_width()}, values), dqkv(act, {c.rows(), c.qkv_width()}) {}
  void play_on(const cpu::Kernels& k, const Problem& c, const Forward& f, int threads, float scale,
               const Starts& starts = {}) {
    ops::AttentionBackward p;
    p.starts = operand_of(starts);
    p.qkv = f.qkv.tensor(), p.y = f.y.tensor(), p.lse = f.lse.tensor(), p.dy = dy.tensor(), p.dqkv = dqkv.tensor();
    p.seq = c.seq, p.heads = c.heads, p.kv_heads = c.kv_heads, p.head_dim = c.dim, p.scale = scale, p.rows = c.rows();
    play(k.attention_backward, k.attention_backward_workspace, p, threads);
    CHECK(dqkv.guards_stand(), "wrote outside dqkv: ", c.name());
  }
};

void check_path(const Problem& c, DType act, Isa isa, const Doubles& qkv, const Doubles& dy, const Reference& want,
                const Starts& starts = {}) {
  const auto& k = cpu::kernels_for(isa);
  const Closeness tolerance = act == DType::F32 ? kF32 : kBf16;
  const std::string where = c.name() + " " + dtype_name(act) + " " + isa_name(isa);
  Forward f(c, act, qkv);
  Backward b(c, act, dy);
  f.play_on(k, c, 2, c.scale(), starts);
  compare(where + " y", f.y.values(), want.y, tolerance);
  // Scores are fp32 sums of exact products on every path: no bf16 rounding reaches lse but the fast exponential's 3e-6.
  compare(where + " lse", f.lse.values(), want.lse, {1e-5, 1e-5});
  b.play_on(k, c, f, 2, c.scale(), starts);
  compare_gradient(where, c, b.dqkv.values(), want, tolerance);
}

void check_all(DType act) {
  for (const Problem& c : kCases) {
    const Doubles qkv = random_values(c.rows() * c.qkv_width(), act, 1),
                  dy = random_values(c.rows() * c.y_width(), act, 2);
    const Reference want = reference(c, qkv, dy, c.scale());
    for (Isa isa : available_paths()) check_path(c, act, isa, qkv, dy, want);
  }
}

}  // namespace

TEST("the float64 gradient is the derivative of the float64 forward (central differences)") {
  const Problem c{2, 5, 4, 2, 3};
  Doubles qkv = random_values(c.rows() * c.qkv_width(), DType::F32, 1);
  const Doubles dy = random_values(c.rows() * c.y_width(), DType::F32, 2);
  const double scale = 0.7, step = 1e-5;
  const Reference at = reference(c, qkv, dy, scale);
  for (size_t i = 0; i < qkv.size(); i++) {
    const double x = qkv[i];
    double change = 0;
    for (int sign : {1, -1}) {
      qkv[i] = x + sign * step;
      const Reference moved = reference(c, qkv, {}, scale);
      for (size_t e = 0; e < dy.size(); e++) change += sign * dy[e] * moved.y[e];
    }
    qkv[i] = x;
    // Error of the difference: step^2 * third derivative (~10) + 2^-53 / step.
    CHECK(std::fabs(change / (2 * step) - at.dqkv[i]) < 1e-8, "element ", i, ": ", change / (2 * step), " ",
          at.dqkv[i]);
  }
}

TEST("fp32 attention and its gradient agree with float64 on every path") { check_all(DType::F32); }
TEST("bf16 attention and its gradient agree with float64 on every path") { check_all(DType::BF16); }

TEST("inside documents attention and its gradient agree with float64 on every path") {
  // One chunk of blocks and several, groups of heads, and documents of every kind: all kinds on the smaller problems.
  const Problem small[] = {{2, 1, 2, 1, 8}, {2, 17, 4, 2, 5}, {2, 130, 4, 2, 48}, {1, 200, 2, 2, 80}};
  const Problem large[] = {{1, 700, 2, 1, 64}, {48, 530, 1, 1, 8}, {1, 2320, 1, 1, 8}};
  for (DType act : {DType::F32, DType::BF16})
    for (int kind = 0; kind < kStartKinds; kind++) {
      const auto check_problem = [&](const Problem& c) {
        const Starts starts = random_starts(c, kind, 3);
        const Doubles qkv = random_values(c.rows() * c.qkv_width(), act, 1),
                      dy = random_values(c.rows() * c.y_width(), act, 2);
        const Reference want = reference(c, qkv, dy, c.scale(), starts);
        for (Isa isa : available_paths()) check_path(c, act, isa, qkv, dy, want, starts);
      };
      for (const Problem& c : small) check_problem(c);
      check_problem(large[kind % 3]);
    }
}

TEST("one document over each sequence gives the bits of no documents") {
  const Problem c{2, 330, 2, 1, 48};
  for (DType act : {DType::F32, DType::BF16})
    for (Isa isa : available_paths()) {
      const Doubles qkv = random_values(c.rows() * c.qkv_width(), act, 1),
                    dy = random_values(c.rows() * c.y_width(), act, 2);
      std::vector<std::vector<uint8_t>> bits[2];
      for (int given = 0; given < 2; given++) {
        const Starts starts(given ? c.rows() : 0);
        Forward f(c, act, qkv);
        Backward b(c, act, dy);
        f.play_on(cpu::kernels_for(isa), c, 2, c.scale(), starts);
        b.play_on(cpu::kernels_for(isa), c, f, 2, c.scale(), starts);
        bits[given] = {f.y.contents(), f.lse.contents(), b.dqkv.contents()};
      }
      CHECK(bits[0] == bits[1], isa_name(isa), " ", dtype_name(act));
    }
}

TEST("nothing of one document reaches another: a NaN key, a row of dy") {
  const Problem c{2, 260, 2, 2, 64};
  for (int kind : {2, 6})
    for (DType act : {DType::F32, DType::BF16})
      for (Isa isa : available_paths()) {
        const auto& k = cpu::kernels_for(isa);
        const Starts starts = random_starts(c, kind, 5);
        const Doubles qkv = random_values(c.rows() * c.qkv_width(), act, 1);
        Doubles dy = random_values(c.rows() * c.y_width(), act, 2);
        for (int64_t at : {63, 129, 400}) {
          Forward bad(c, act, qkv), f(c, act, qkv);
          bad.qkv.set(at * c.qkv_width() + c.heads * c.dim + 3, std::numeric_limits<double>::quiet_NaN());
          bad.play_on(k, c, 2, c.scale(), starts);
          f.play_on(k, c, 2, c.scale(), starts);
          Backward before(c, act, dy), after(c, act, dy);
          for (int64_t d = 0; d < c.dim; d++) after.dy.set(at * c.y_width() + d, 64);
          before.play_on(k, c, f, 2, c.scale(), starts);
          after.play_on(k, c, f, 2, c.scale(), starts);
          for (int64_t r = 0; r < c.rows(); r++) {
            CHECK(std::isnan(bad.y.get(r * c.y_width())) == sees(c, starts, r, at), isa_name(isa), " kind ", kind,
                  " key ", at, " row ", r);
            if (r == at || sees(c, starts, at, r)) continue;
            for (int64_t d = 0; d < c.qkv_width(); d++)
              CHECK(before.dqkv.get(r * c.qkv_width() + d) == after.dqkv.get(r * c.qkv_width() + d), isa_name(isa),
                    " kind ", kind, " dy row ", at, " reaches row ", r);
          }
        }
      }
}

TEST("any number of threads gives the same bits") {
  for (const Problem& c : {Problem{3, 200, 4, 2, 48}, Problem{1, 1100, 1, 1, 64}})
    for (DType act : {DType::F32, DType::BF16})
      for (Isa isa : available_paths()) {
        const Doubles qkv = random_values(c.rows() * c.qkv_width(), act, 1),
                      dy = random_values(c.rows() * c.y_width(), act, 2);
        std::vector<std::vector<uint8_t>> bits[3];
        for (int threads = 1; threads <= 3; threads++) {
          Forward f(c, act, qkv);
          Backward b(c, act, dy);
          f.play_on(cpu::kernels_for(isa), c, threads, c.scale());
          b.play_on(cpu::kernels_for(isa), c, f, threads, c.scale());
          bits[threads - 1] = {f.y.contents(), f.lse.contents(), b.dqkv.contents()};
          CHECK(bits[threads - 1] == bits[0], threads, " threads differ from one: ", c.name(), " ", isa_name(isa));
        }
      }
}

TEST("scores far beyond the range of exp do not overflow") {
  const Problem c{1, 130, 1, 1, 64};
  for (DType act : {DType::F32, DType::BF16}) {
    Doubles qkv = random_values(c.rows() * c.qkv_width(), act, 1);
    for (int64_t r = 0; r < c.rows(); r++) qkv[r * c.qkv_width()] = qkv[r * c.qkv_width() + c.dim] = r % 2 ? 64 : 72;
    const Doubles dy = random_values(c.rows() * c.y_width(), act, 2);
    const Reference want = reference(c, qkv, dy, c.scale());
    for (Isa isa : available_paths()) {
      Forward f(c, act, qkv);
      f.play_on(cpu::kernels_for(isa), c, 2, c.scale());
      // Scores of 512..648 carry 2^-24 * 900 (log2) of error per rounding: 5e-5, a few of them.
      compare("y", f.y.values(), want.y, act == DType::F32 ? Closeness{1e-3, 5e-4} : kBf16);
    }
  }
}

TEST("a NaN key reaches every later query and no earlier one") {
  const Problem c{1, 150, 2, 2, 64};
  constexpr int64_t kBad = 70;
  for (DType act : {DType::F32, DType::BF16})
    for (Isa isa : available_paths()) {
      Doubles qkv = random_values(c.rows() * c.qkv_width(), act, 1);
      Forward f(c, act, qkv);
      f.qkv.set(kBad * c.qkv_width() + c.heads * c.dim + 3, std::numeric_limits<double>::quiet_NaN());
      f.play_on(cpu::kernels_for(isa), c, 2, c.scale());
      for (int64_t r = 0; r < c.rows(); r++)
        for (int64_t d = 0; d < c.y_width(); d++)
          CHECK(std::isnan(f.y.get(r * c.y_width() + d)) == (r >= kBad && d < c.dim), isa_name(isa), " row ", r,
                " column ", d);
    }
}

namespace {

/** Plays a sequence token by token; returns y of every step, laid out as by the full forward. */
Doubles decode(const cpu::Kernels& k, const Problem& c, DType act, const Doubles& qkv, int64_t capacity) {
  Buffer keys(act, {c.batch, capacity, c.kv_heads * c.dim}), values(act, {c.batch, capacity, c.kv_heads * c.dim});
  Doubles out(c.rows() * c.y_width());
  for (int64_t t = 0; t < c.seq; t++) {
    Doubles token;
    for (int64_t b = 0; b < c.batch; b++) {
      const auto row = qkv.begin() + (b * c.seq + t) * c.qkv_width();
      token.insert(token.end(), row, row + c.qkv_width());
    }
    Buffer in(act, {c.batch, c.qkv_width()}, token), y(act, {c.batch, c.y_width()});
    ops::AttentionDecode p;
    p.qkv = in.tensor(), p.y = y.tensor(), p.k_cache = keys.tensor(), p.v_cache = values.tensor();
    p.heads = c.heads, p.kv_heads = c.kv_heads, p.head_dim = c.dim, p.scale = c.scale(), p.rows = c.batch,
    p.capacity = capacity;
    std::vector<int32_t> integers(ops::kIntegerCount);
    integers[ops::kIntegerCacheLength] = static_cast<int32_t>(t);
    play(k.attention_decode, k.attention_decode_workspace, p, 2, integers);
    CHECK(y.guards_stand() && keys.guards_stand() && values.guards_stand(), "wrote outside y or the caches");
    for (int64_t b = 0; b < c.batch; b++)
      for (int64_t d = 0; d < c.y_width(); d++) out[(b * c.seq + t) * c.y_width() + d] = y.get(b * c.y_width() + d);
  }
  for (int64_t b = 0; b < c.batch; b++)
    for (int64_t t = 0; t < capacity; t++)
      for (int64_t d = 0; d < c.kv_heads * c.dim; d++) {
        const double key = keys.get((b * capacity + t) * c.kv_heads * c.dim + d);
        if (t >= c.seq)
          CHECK(std::isnan(key), "position ", t, " of the cache was written");
        else
          CHECK(key == qkv[(b * c.seq + t) * c.qkv_width() + c.heads * c.dim + d], "cached key ", t, " differs");
      }
  return out;
}

}  // namespace

TEST("decoding token by token equals attention over the whole sequence") {
  for (const Problem& c : {Problem{2, 70, 4, 2, 64}, Problem{1, 37, 8, 1, 48}, Problem{3, 19, 2, 2, 5}})
    for (DType act : {DType::F32, DType::BF16}) {
      const Doubles qkv = random_values(c.rows() * c.qkv_width(), act, 1);
      for (Isa isa : available_paths()) {
        Forward f(c, act, qkv);
        f.play_on(cpu::kernels_for(isa), c, 2, c.scale());
        // fp32: order of sums only. bf16: the whole pass may round P, and both round the result.
        compare("decode " + c.name() + " " + isa_name(isa), decode(cpu::kernels_for(isa), c, act, qkv, c.seq + 3),
                f.y.values(), act == DType::F32 ? kF32 : kBf16);
      }
    }
}

TEST("decoding beyond the capacity of the caches is refused") {
  const Problem c{1, 5, 2, 1, 8};
  const Doubles qkv = random_values(c.rows() * c.qkv_width(), DType::F32, 1);
  std::string code;
  try {
    decode(cpu::kernels_for(Isa::Portable), c, DType::F32, qkv, 4);
  } catch (const Error& e) {
    code = e.code();
  }
  CHECK(code == "BAD_PROGRAM", "found code '", code, "'");
}

TEST_MAIN()
