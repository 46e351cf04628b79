#include "test/native/command.h"
#include "test/native/embedding_reference.h"

using namespace check;

namespace {

const std::vector<EmbeddingShape> kShapes = {{1, 1, 1},     {5, 3, 7},    {64, 200, 48},
                                             {33, 17, 168}, {40, 9, 257}, {300, 5000, 64}};

}  // namespace

TEST("embedding copies rows, rounded to the compute precision, bit for bit") {
  on_every_path([](Isa isa, DType act) {
    for (const EmbeddingShape& s : kShapes) {
      Random random(1);
      const Buffer tokens(DType::I32, {s.rows}, random_tokens(random, s));
      const Buffer weight(DType::F32, {s.vocab, s.dim}, random.normal(s.vocab * s.dim));
      Values want;
      const Values rows = weight.get();
      for (double t : tokens.get())
        for (int64_t i = 0; i < s.dim; i++) want.push_back(rows[static_cast<size_t>(t) * s.dim + i]);
      const Buffer expected(act, {s.rows, s.dim}, want);
      same_bits_for_any_threads([&](int threads) {
        const Buffer y(act, {s.rows, s.dim});
        run_op<ops::Embedding>(isa, threads, {tokens, weight, y}, {});
        CHECK(y.raw() == expected.raw(), s.rows, "x", s.dim);
        return joined({&y});
      });
    }
  });
}

TEST("embedding gradients are row sums per token, added, overwritten, or added unless first") {
  on_every_path([](Isa isa, DType act) {
    for (const EmbeddingShape& s : kShapes) {
      Random random(2);
      const Buffer tokens(DType::I32, {s.rows}, random_tokens(random, s));
      const Buffer dy(act, {s.rows, s.dim}, random.normal(s.rows * s.dim));
      const Buffer before(DType::F32, {s.vocab, s.dim}, random.normal(s.vocab * s.dim));
      const Values sums = scatter_rows(s, tokens.get(), dy.get());
      for (int mode : {0, 1, 2})
        for (int first : {0, 1}) {
          Setting setting;
          setting.integers[ops::kIntegerFirstMicroBatch] = first;
          const bool add = mode == 1 || (mode == 2 && first == 0);
          same_bits_for_any_threads([&](int threads) {
            Buffer dweight(DType::F32, {s.vocab, s.dim});
            if (add) dweight.set(before.get());
            run_op<ops::EmbeddingBackward>(isa, threads, {tokens, dy, dweight}, {double(mode)}, setting);
            // fp32 sums of at most 40 terms near 1: 40 * 2^-24 * a few.
            check_close("dweight", dweight.get(), added(add, before.get(), sums), {1e-5, 1e-5});
            return joined({&dweight});
          });
        }
    }
  });
}

TEST("a large vocabulary is zeroed where no token occurs") {
  const EmbeddingShape s = {7, 131, 65536 + 16};  // past the size from which zeros are streamed
  for (Isa isa : available_paths()) {
    Random random(3);
    const Buffer tokens(DType::I32, {s.rows}, random_tokens(random, s));
    const Buffer dy(DType::BF16, {s.rows, s.dim}, random.normal(s.rows * s.dim));
    const Buffer dweight(DType::F32, {s.vocab, s.dim});
    run_op<ops::EmbeddingBackward>(isa, 2, {tokens, dy, dweight}, {0});
    dweight.check_guards();
    check_close("dweight", dweight.get(), scatter_rows(s, tokens.get(), dy.get()), {1e-6, 1e-6});
  }
}

TEST("the embedding gradient is the central difference of the embedding") {
  const EmbeddingShape s = {6, 4, 3};
  Random random(4);
  const Values tokens = random_tokens(random, s), dy = random.normal(s.rows * s.dim);
  const auto loss = [&](const Values& weight) {
    double total = 0;
    for (int64_t r = 0; r < s.rows; r++)
      for (int64_t i = 0; i < s.dim; i++)
        total += dy[static_cast<size_t>(r * s.dim + i)] *
                 weight[static_cast<size_t>(tokens[static_cast<size_t>(r)]) * s.dim + i];
    return total;
  };
  check_gradient("weight", loss, random.normal(s.vocab * s.dim), scatter_rows(s, tokens, dy));
}

TEST("a token outside the vocabulary is an error naming row and token, and nothing is written") {
  for (Isa isa : available_paths())
    for (double wrong : {4.0, -1.0}) {
      const Buffer tokens(DType::I32, {3}, {0, 1, wrong});
      const Buffer weight(DType::F32, {4, 8}, Values(32, 1.0)), y(DType::F32, {3, 8}), dweight(DType::F32, {4, 8});
      const auto before = joined({&y, &dweight});
      const std::string named = "row 2 holds token " + std::to_string(int(wrong));
      must_fail("BAD_INPUT", named.c_str(), [&] { run_op<ops::Embedding>(isa, 1, {tokens, weight, y}, {}); });
      must_fail("BAD_INPUT", named.c_str(), [&] { run_op<ops::EmbeddingBackward>(isa, 1, {tokens, y, dweight}, {0}); });
      CHECK(joined({&y, &dweight}) == before);
    }
}

TEST_MAIN()
