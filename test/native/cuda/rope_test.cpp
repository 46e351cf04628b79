#include "test/native/cuda/command.h"
#include "test/native/rope_reference.h"

using namespace check;

namespace {
// One pair; ragged halves; vectors; rows wider than a block.
const std::vector<RopeShape> kShapes = {{1, 1, 1, 1, 2},  {2, 5, 3, 1, 14},  {2, 21, 4, 2, 64},
                                        {3, 7, 2, 2, 48}, {1, 9, 1, 1, 168}, {2, 3, 24, 8, 128}};
}  // namespace

TEST("the CUDA rope rotates queries and keys by position and copies values, both ways, in place and not") {
  in_both_precisions([](DType act) {
    for (const RopeShape& s : kShapes)
      for (bool inverse : {false, true})
        for (bool in_place : {false, true}) {
          const int offset = inverse == in_place ? 3 : 0;
          Random random(2);
          const std::vector<int64_t> shape = {s.rows(), s.width()};
          const Values values = random.normal(s.rows() * s.width());
          const Buffer kept(act, shape, values), table(DType::F32, {s.seq + 3, s.dim}, rope_table(s.seq + 3, s.dim));
          const Values want = rope_rotate(s, kept.get(), table.get(), offset, inverse);
          Setting setting;
          setting.integers[ops::kIntegerPositionOffset] = offset;
          same_bits_on_every_schedule([&] {
            const Buffer x(act, shape, values), apart(act, shape);
            const Buffer& y = in_place ? x : apart;
            const cuda::Fault fault = run_op<ops::Rope>({x, table, y}, s.attributes(inverse), setting);
            CHECK(fault.kind == cuda::Fault::kNone);
            // Two products and a sum in fp32: 2^-23 of the larger term.
            check_close("y", y.get(), want, rounded_once(act, 2.5e-7, largest(kept.get())));
            return joined({&y});
          });
        }
  });
}

TEST("positions beyond the table are a fault and the CUDA rope writes nothing") {
  const RopeShape s = {1, 4, 1, 1, 2};
  for (int offset : {-1, 3}) {
    const Buffer x(DType::F32, {4, 6}, Values(24, 1.0)), y(DType::F32, {4, 6}),
        table(DType::F32, {6, 2}, rope_table(6, 2));
    const auto before = y.raw();
    Setting setting;
    setting.integers[ops::kIntegerPositionOffset] = offset;
    const cuda::Fault fault = run_op<ops::Rope>({x, table, y}, s.attributes(false), setting);
    CHECK(fault.kind == cuda::Fault::kPosition && fault.value == (offset < 0 ? -1 : 6) && fault.limit == 6,
          fault.value);
    CHECK(y.raw() == before);
  }
}

TEST_MAIN()
