#include "test/native/cuda/command.h"
#include "test/native/embedding_reference.h"

using namespace check;

namespace {

// Ragged; vectors; rows wider than a block; one, two and three digits of the sort; several tiles of it; tokens that
// fill many pieces (few distinct ones) and none.
const std::vector<EmbeddingShape> kShapes = {{1, 1, 1},    {5, 3, 7},       {64, 200, 48},  {33, 17, 168},
                                             {40, 9, 257}, {300, 5000, 16}, {20, 70000, 8}, {700, 2, 24},
                                             {129, 1, 8},  {5000, 40, 4},   {3, 4, 2064}};

/** The copy of one weight. */
struct OneCopy : cuda::WeightCopies {
  const void* master = nullptr;
  void* copy = nullptr;
  void* find(const void* m) const override { return m == master ? copy : nullptr; }
};

}  // namespace

TEST("the CUDA embedding copies rows, rounded to the compute precision, bit for bit") {
  in_both_precisions([](DType act) {
    for (const EmbeddingShape& s : kShapes) {
      if (s.rows > 1000) continue;
      Random random(1);
      const Buffer tokens(DType::I32, {s.rows}, random_tokens(random, s));
      const Buffer weight(DType::F32, {s.vocab, s.dim}, random.normal(s.vocab * s.dim));
      Values want;
      const Values rows = weight.get();
      for (double t : tokens.get())
        for (int64_t i = 0; i < s.dim; i++) want.push_back(rows[static_cast<size_t>(t) * s.dim + i]);
      const Buffer expected(act, {s.rows, s.dim}, want);
      same_bits_on_every_schedule([&] {
        const Buffer y(act, {s.rows, s.dim});
        const cuda::Fault fault = run_op<ops::Embedding>({tokens, weight, y}, {});
        CHECK(fault.kind == cuda::Fault::kNone);
        CHECK(y.raw() == expected.raw(), s.rows, "x", s.dim);
        return joined({&y});
      });
    }
  });
}

TEST("the CUDA embedding in bf16 reads the weight's bf16 copy where there is one") {
  const Buffer tokens(DType::I32, {3}, {1, 0, 1}), weight(DType::F32, {2, 8}, Values(16, 1.0)), y(DType::BF16, {3, 8});
  const Buffer copy(DType::BF16, {2, 8}, Values(16, 2.0));
  DeviceOperands device({tokens, weight, y, copy});
  OneCopy copies;
  copies.master = device.tensors()[1].data;
  copies.copy = device.tensors()[3].data;
  const cuda::Target target = device_target();
  cuda::Context context{test_stream(), target, nullptr, nullptr, nullptr, nullptr, &copies};
  cuda::embedding(
      ops::Embedding::decode({"embedding", "test", {device.tensors().begin(), device.tensors().begin() + 3}, {}}),
      context);
  test_stream().synchronize();
  device.download();
  CHECK(y.get() == Values(24, 2.0));
}

TEST("CUDA embedding gradients are row sums per token, added, overwritten, or added unless first") {
  in_both_precisions([](DType act) {
    for (const EmbeddingShape& s : kShapes) {
      Random random(2);
      const Buffer tokens(DType::I32, {s.rows}, random_tokens(random, s));
      const Buffer dy(act, {s.rows, s.dim}, random.normal(s.rows * s.dim));
      const Buffer before(DType::F32, {s.vocab, s.dim}, random.normal(s.vocab * s.dim));
      const Values sums = scatter_rows(s, tokens.get(), dy.get());
      const double terms = double(s.rows) / double(std::min(s.rows, s.vocab));
      for (int mode : {ops::kOverwrite, ops::kAdd, ops::kAddUnlessFirst})
        for (int first : {0, 1}) {
          if (mode != ops::kAddUnlessFirst && first == 0) continue;
          if (s.vocab * s.dim > 100000 && mode == ops::kAdd) continue;
          Setting setting;
          setting.integers[ops::kIntegerFirstMicroBatch] = first;
          const bool add = mode == ops::kAdd || (mode == ops::kAddUnlessFirst && first == 0);
          same_bits_on_every_schedule([&] {
            Buffer dweight(DType::F32, {s.vocab, s.dim});
            if (add) dweight.set(before.get());
            run_op<ops::EmbeddingBackward>({tokens, dy, dweight}, {double(mode)}, setting);
            // fp32 sums of about `terms` values near 1, in pieces of 32: a few 2^-24 of their absolute sum.
            check_close("dweight", dweight.get(), added(add, before.get(), sums), {1e-6, 3e-6 * (1 + terms)});
            return joined({&dweight});
          });
        }
    }
  });
}

TEST("CUDA embedding gradients add the rows of a token in row order") {
  // 2^24 and ones: any other order within 32 rows gives other digits.
  for (int64_t big : {0, 3, 15}) {
    Values tokens, rows;
    for (int64_t r = 0; r < 32; r++) {
      tokens.push_back(r % 2 == 0 ? 5 : 1);
      rows.push_back(r == 2 * big ? 16777216.0 : 1.0);
    }
    const Buffer t(DType::I32, {32}, tokens), dy(DType::F32, {32, 1}, rows), dweight(DType::F32, {7, 1});
    run_op<ops::EmbeddingBackward>({t, dy, dweight}, {ops::kOverwrite});
    // The ones before the large row count, those after it are lost one by one.
    CHECK(dweight.get()[5] == 16777216.0 + double(big + big % 2), dweight.get()[5], " ", big);
    CHECK(dweight.get()[1] == 16.0);
  }
}

TEST("a token outside the vocabulary is a fault that names its row, and the other rows are right") {
  for (double wrong : {4.0, -1.0}) {
    const Buffer tokens(DType::I32, {3}, {0, 1, wrong});
    const Buffer weight(DType::F32, {4, 8}, Values(32, 1.0)), y(DType::F32, {3, 8}), dweight(DType::F32, {4, 8});
    const Buffer dy(DType::F32, {3, 8}, Values(24, 2.0));
    cuda::Fault fault = run_op<ops::Embedding>({tokens, weight, y}, {});
    CHECK(fault.kind == cuda::Fault::kToken && fault.row == 2 && fault.value == wrong && fault.limit == 4, fault.row);
    fault = run_op<ops::EmbeddingBackward>({tokens, dy, dweight}, {ops::kOverwrite});
    CHECK(fault.kind == cuda::Fault::kToken && fault.row == 2 && fault.value == wrong && fault.limit == 4, fault.row);
    const Values got = dweight.get();
    for (size_t i = 0; i < got.size(); i++) CHECK(got[i] == (i < 16 ? 2.0 : 0.0), i);
  }
}

TEST_MAIN()
