// Attention, its gradient and its decoding step by the CUDA kernels, against float64.
#include "test/native/cuda/attention_command.h"

using namespace check;
using check::attention::check_bad_starts;
using check::attention::check_problem;
using check::attention::check_separation;
using check::attention::check_whole_sequences;
using check::attention::compare;
using check::attention::Doubles;
using check::attention::Forward;
using check::attention::kBf16;
using check::attention::kF32;
using check::attention::Problem;
using check::attention::random_values;

namespace {

// Pairs of head dim (tensor-core paths 16 to 128, others 5 8 72 144), group 1 2 4 8, and length around the tiles of 32,
// 64 and 128.
const Problem kProblems[] = {
    {1, 1, 4, 1, 48},   {2, 63, 2, 2, 48}, {1, 130, 8, 1, 48}, {1, 64, 8, 1, 64},   {2, 65, 2, 2, 64},
    {1, 130, 4, 1, 64}, {2, 1, 8, 1, 128}, {1, 63, 4, 1, 128}, {1, 130, 1, 1, 128}, {1, 65, 8, 1, 16},
    {3, 64, 1, 1, 16},  {1, 63, 2, 1, 80}, {1, 65, 4, 2, 96},  {1, 200, 1, 1, 32},  {2, 65, 4, 2, 5},
    {1, 33, 1, 1, 144}, {1, 130, 2, 1, 8}, {1, 63, 2, 1, 72},
};

}  // namespace

TEST("the CUDA attention and its gradient agree with float64, with the same bits on every schedule") {
  in_both_precisions([](DType act) {
    // The kernels of every capability but 9.0; those are tested by hopper_attention_test.cpp.
    on_device(80, 2, [&] {
      for (const Problem& c : kProblems) check_problem(c, act, c.scale());
    });
  });
}

TEST("inside documents the CUDA attention and its gradient agree with float64, with the same bits on every schedule") {
  // Tensor-core kernels of every shape of tile (head dims 16, 48, 64, 128), the others (5, 72), and fp32.
  const Problem problems[] = {{2, 130, 2, 1, 48}, {1, 200, 2, 1, 64}, {1, 140, 2, 2, 128},
                              {2, 70, 4, 1, 16},  {1, 130, 2, 1, 5},  {1, 70, 1, 1, 72}};
  in_both_precisions([&](DType act) {
    on_device(80, 2, [&] {
      int kind = act == DType::F32 ? 0 : 1;
      for (const Problem& c : problems)
        for (int i = 0; i < (act == DType::F32 ? 1 : 3); i++, kind = (kind + 1) % check::attention::kStartKinds)
          check_problem(c, act, c.scale(), random_starts(c, kind, 3));
    });
  });
}

TEST("one document over each sequence gives the bits of no documents") {
  in_both_precisions([](DType act) {
    for (const Problem& c : {Problem{1, 150, 2, 1, 64}, Problem{1, 100, 1, 1, 128}}) check_whole_sequences(c, act, 80);
  });
}

TEST("nothing of one document reaches another") {
  in_both_precisions([](DType act) { check_separation({2, 150, 1, 1, 64}, act, 80, act == DType::F32 ? 4 : 6); });
}

TEST("starts that the host refuses do no harm on the device") {
  in_both_precisions([](DType act) { check_bad_starts({2, 150, 2, 1, 64}, act, 80); });
}

TEST("any scale is taken, also one below zero") {
  in_both_precisions([](DType act) {
    for (float scale : {0.5f, -0.25f, 0.0f}) check_problem({1, 70, 2, 1, 16}, act, scale);
  });
}

TEST("rows that are not 16-byte aligned are taken") {
  const Problem c{1, 40, 2, 1, 16};
  in_both_precisions([&](DType act) {
    const Doubles values = random_values(c.rows() * c.qkv_width(), act, 1);
    const auto want = check::attention::reference(c, values, {}, c.scale());
    Doubles shifted(values.size() + 1);
    std::copy(values.begin(), values.end(), shifted.begin() + 1);
    const Buffer room(act, {static_cast<int64_t>(shifted.size())}, shifted), y(act, {c.rows(), c.y_width()}),
        lse(DType::F32, {c.rows(), c.heads});
    cuda::DeviceMemory device_qkv(room.tensor().bytes(), "qkv"), device_y(y.tensor().bytes(), "y"),
        device_lse(lse.tensor().bytes(), "lse");
    test_stream().upload(device_qkv.data(), room.tensor().data, room.tensor().bytes());
    ops::Attention p;
    p.qkv = Buffer(act, {c.rows(), c.qkv_width()}).tensor(), p.y = y.tensor(), p.lse = lse.tensor();
    p.qkv.data = device_qkv.data() + dtype_size(act), p.y.data = device_y.data(), p.lse.data = device_lse.data();
    p.seq = c.seq, p.heads = c.heads, p.kv_heads = c.kv_heads, p.head_dim = c.dim, p.scale = c.scale();
    p.rows = c.rows();
    const cuda::Target target = device_target();
    cuda::Context context{test_stream(), target, nullptr, nullptr, nullptr, nullptr, nullptr};
    cuda::attention(p, context);
    test_stream().synchronize();
    test_stream().download(y.tensor().data, device_y.data(), y.tensor().bytes());
    compare("y", y.get(), want.y, act == DType::F32 ? kF32 : kBf16);
  });
}

TEST("scores far beyond the range of exp do not overflow") {
  const Problem c{1, 130, 1, 1, 64};
  in_both_precisions([&](DType act) {
    Doubles qkv = random_values(c.rows() * c.qkv_width(), act, 1);
    for (int64_t r = 0; r < c.rows(); r++) qkv[r * c.qkv_width()] = qkv[r * c.qkv_width() + c.dim] = r % 2 ? 64 : 72;
    const auto want = check::attention::reference(c, qkv, {}, c.scale());
    Forward f(c, act, qkv);
    f.run(c, c.scale());
    // Scores of 512 to 648 carry 2^-24 * 900 (log2) of error per rounding: 5e-5, a few of them.
    compare("y", f.y.get(), want.y, act == DType::F32 ? check::attention::Closeness{1e-3, 5e-4} : kBf16);
  });
}

TEST("scores that rise along the sequence move the maximum, and no earlier weight is lost or kept too large") {
  // Key j has score about 3 j / 4 in log2 units: every tile outgrows the one before by more than the headroom of 8.
  const Problem c{1, 190, 1, 1, 64};
  in_both_precisions([&](DType act) {
    Doubles qkv = random_values(c.rows() * c.qkv_width(), act, 1);
    for (int64_t r = 0; r < c.rows(); r++) {
      qkv[r * c.qkv_width()] = 4;
      qkv[r * c.qkv_width() + c.dim] = std::floor(static_cast<double>(r) / 2) * 2;  // exact in bf16
    }
    const Doubles dy = random_values(c.rows() * c.y_width(), act, 2);
    const auto want = check::attention::reference(c, qkv, dy, c.scale());
    Forward f(c, act, qkv);
    f.run(c, c.scale());
    // Scores to 100: 2^-24 * 140 (log2) = 8e-6 of error per rounding.
    compare("y", f.y.get(), want.y, act == DType::F32 ? check::attention::Closeness{1e-4, 5e-5} : kBf16);
  });
}

TEST("a NaN key reaches every later query and no earlier one") {
  const Problem c{1, 150, 2, 2, 64};
  constexpr int64_t kBad = 70;
  in_both_precisions([&](DType act) {
    Doubles qkv = random_values(c.rows() * c.qkv_width(), act, 1);
    qkv[kBad * c.qkv_width() + c.heads * c.dim + 3] = std::numeric_limits<double>::quiet_NaN();
    Forward f(c, act, qkv);
    f.run(c, c.scale());
    const Doubles y = f.y.get();
    for (int64_t r = 0; r < c.rows(); r++)
      for (int64_t d = 0; d < c.y_width(); d++)
        CHECK(std::isnan(y[r * c.y_width() + d]) == (r >= kBad && d < c.dim), "row ", r, " column ", d);
  });
}

namespace {

/** Plays the last token of each sequence on caches of the tokens before; what lies beyond is poison. Returns y. */
Doubles decode_last(const Problem& c, DType act, const Doubles& qkv, int64_t capacity) {
  const int64_t kv_width = c.kv_heads * c.dim;
  const Buffer keys(act, {c.batch, capacity, kv_width}), values(act, {c.batch, capacity, kv_width});
  Doubles token, cached_keys = keys.get(), cached_values = values.get();
  for (int64_t b = 0; b < c.batch; b++)
    for (int64_t t = 0; t < c.seq; t++) {
      const auto row = qkv.begin() + (b * c.seq + t) * c.qkv_width(), key = row + c.y_width();
      if (t == c.seq - 1) {
        token.insert(token.end(), row, row + c.qkv_width());
        continue;
      }
      std::copy(key, key + kv_width, cached_keys.begin() + (b * capacity + t) * kv_width);
      std::copy(key + kv_width, key + 2 * kv_width, cached_values.begin() + (b * capacity + t) * kv_width);
    }
  Doubles y64;
  same_bits_on_every_schedule([&] {
    Buffer k(act, {c.batch, capacity, kv_width}, cached_keys), v(act, {c.batch, capacity, kv_width}, cached_values);
    const Buffer in(act, {c.batch, c.qkv_width()}, token), y(act, {c.batch, c.y_width()});
    Setting setting;
    setting.integers[ops::kIntegerCacheLength] = static_cast<int32_t>(c.seq - 1);
    const cuda::Fault fault = run_op<ops::AttentionDecode>(
        {in, y, k, v}, {double(c.heads), double(c.kv_heads), double(c.dim), c.scale()}, setting);
    CHECK(fault.kind == cuda::Fault::kNone, "fault ", fault.kind);
    Doubles want_keys = cached_keys, want_values = cached_values;
    for (int64_t b = 0; b < c.batch; b++) {
      const auto key = token.begin() + b * c.qkv_width() + c.y_width();
      std::copy(key, key + kv_width, want_keys.begin() + (b * capacity + c.seq - 1) * kv_width);
      std::copy(key + kv_width, key + 2 * kv_width, want_values.begin() + (b * capacity + c.seq - 1) * kv_width);
    }
    CHECK(k.raw() == Buffer(act, {c.batch, capacity, kv_width}, want_keys).raw(), "the key cache is wrong");
    CHECK(v.raw() == Buffer(act, {c.batch, capacity, kv_width}, want_values).raw(), "the value cache is wrong");
    y64 = y.get();
    return joined({&y, &k, &v});
  });
  return y64;
}

}  // namespace

TEST("decoding the last token equals the last row of attention over the whole sequence") {
  for (const Problem& c : {Problem{2, 130, 4, 2, 64}, Problem{1, 1, 1, 1, 128}, Problem{1, 128, 9, 1, 48},
                           Problem{3, 129, 2, 2, 5}, Problem{1, 300, 2, 1, 128}, Problem{1, 20, 1, 1, 300}})
    in_both_precisions([&](DType act) {
      const Doubles qkv = random_values(c.rows() * c.qkv_width(), act, 1);
      Forward f(c, act, qkv);
      f.run(c, c.scale());
      const Doubles y = f.y.get();
      Doubles want;
      for (int64_t b = 1; b <= c.batch; b++)
        want.insert(want.end(), y.begin() + (b * c.seq - 1) * c.y_width(), y.begin() + b * c.seq * c.y_width());
      // fp32: order of sums only. bf16: the whole pass rounds P, and both round the result.
      compare("decode " + c.name(), decode_last(c, act, qkv, c.seq + 3), want, act == DType::F32 ? kF32 : kBf16);
    });
}

TEST("decoding beyond the capacity of the caches is a fault that names the length, and writes nothing") {
  for (int32_t length : {4, -1, 1 << 30}) {
    const Buffer in(DType::F32, {1, 32}, Doubles(32, 1.0)), y(DType::F32, {1, 16}), k(DType::F32, {1, 4, 8}),
        v(DType::F32, {1, 4, 8});
    const auto before = joined({&y, &k, &v});
    Setting setting;
    setting.integers[ops::kIntegerCacheLength] = length;
    const cuda::Fault fault = run_op<ops::AttentionDecode>({in, y, k, v}, {2, 1, 8, 1}, setting);
    CHECK(fault.kind == cuda::Fault::kCacheLength && fault.value == length && fault.limit == 4, "fault ", fault.kind,
          " value ", fault.value, " limit ", fault.limit);
    CHECK(joined({&y, &k, &v}) == before, "something was written");
  }
}

TEST_MAIN()
