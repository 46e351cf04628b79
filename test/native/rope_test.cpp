#include "test/native/command.h"
#include "test/native/rope_reference.h"

using namespace check;

namespace {

const std::vector<RopeShape> kShapes = {
    {1, 1, 1, 1, 2}, {2, 5, 3, 1, 14}, {2, 40, 4, 2, 64}, {3, 7, 2, 2, 48}, {1, 9, 1, 1, 168}};

}  // namespace

TEST("the inverse rotation is the central difference of the rotation") {
  const RopeShape s = {1, 3, 2, 1, 4};
  Random random(1);
  const Values table = rope_table(4, s.dim), x = random.normal(s.rows() * s.width()),
               dy = random.normal(s.rows() * s.width());
  check_gradient(
      "x", [&](const Values& at) { return inner(dy, rope_rotate(s, at, table, 1, false)); }, x,
      rope_rotate(s, dy, table, 1, true));
}

TEST("rope rotates queries and keys by position and copies values, both ways, in place and not") {
  on_every_path([](Isa isa, DType act) {
    for (const RopeShape& s : kShapes)
      for (bool inverse : {false, true})
        for (bool in_place : {false, true})
          for (int offset : {0, 3}) {
            Random random(2);
            const std::vector<int64_t> shape = {s.rows(), s.width()};
            const Values values = random.normal(s.rows() * s.width());
            const Buffer kept(act, shape, values), table(DType::F32, {s.seq + 3, s.dim}, rope_table(s.seq + 3, s.dim));
            const Values want = rope_rotate(s, kept.get(), table.get(), offset, inverse);
            Setting setting;
            setting.integers[ops::kIntegerPositionOffset] = offset;
            same_bits_for_any_threads([&](int threads) {
              const Buffer x(act, shape, values), apart(act, shape);
              const Buffer& y = in_place ? x : apart;
              run_op<ops::Rope>(isa, threads, {x, table, y}, s.attributes(inverse), setting);
              // Two products and a sum in fp32: 2^-23 of the larger term.
              check_close("y", y.get(), want, rounded_once(act, 2.5e-7, largest(kept.get())));
              return joined({&y});
            });
          }
  });
}

TEST("positions beyond the table are an error and nothing is written") {
  const RopeShape s = {1, 4, 1, 1, 2};
  for (Isa isa : available_paths())
    for (int offset : {-1, 3}) {
      const Buffer x(DType::F32, {4, 6}, Values(24, 1.0)), y(DType::F32, {4, 6}),
          table(DType::F32, {6, 2}, rope_table(6, 2));
      const auto before = y.raw();
      Setting setting;
      setting.integers[ops::kIntegerPositionOffset] = offset;
      must_fail("BAD_INPUT", "the table has 6", [&] {
        run_op<ops::Rope>(isa, 1, {x, table, y}, s.attributes(false), setting);
      });
      CHECK(y.raw() == before);
    }
}

TEST_MAIN()
