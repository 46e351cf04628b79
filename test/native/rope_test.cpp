#include "test/native/command.h"
#include "test/native/reference.h"

using namespace check;

namespace {

struct Shape {
  int64_t batch, seq, heads, kv, dim;
  int64_t rows() const { return batch * seq; }
  int64_t width() const { return (heads + 2 * kv) * dim; }
  Values attributes(bool inverse) const {
    return {double(seq), double(heads), double(kv), double(dim), inverse ? 1.0 : 0.0};
  }
};
const std::vector<Shape> kShapes = {
    {1, 1, 1, 1, 2}, {2, 5, 3, 1, 14}, {2, 40, 4, 2, 64}, {3, 7, 2, 2, 48}, {1, 9, 1, 1, 168}};

Values table_of(int64_t positions, int64_t dim) {
  Values table;
  for (int64_t p = 0; p < positions; p++) {
    for (int64_t i = 0; i < dim; i++) {
      const double angle = double(p) * std::pow(10000.0, -2.0 * double(i % (dim / 2)) / double(dim));
      table.push_back(i < dim / 2 ? std::cos(angle) : std::sin(angle));
    }
  }
  return table;
}

Values rotate(const Shape& s, const Values& x, const Values& table, int64_t offset, bool inverse) {
  Values y = x;
  const int64_t half = s.dim / 2;
  for (int64_t r = 0; r < s.rows(); r++)
    for (int64_t h = 0; h < s.heads + s.kv; h++)
      for (int64_t i = 0; i < half; i++) {
        const size_t at = static_cast<size_t>(r * s.width() + h * s.dim + i);
        const size_t entry = static_cast<size_t>((offset + r % s.seq) * s.dim + i);
        const double c = table[entry], sine = inverse ? -table[entry + half] : table[entry + half];
        y[at] = x[at] * c - x[at + half] * sine;
        y[at + half] = x[at + half] * c + x[at] * sine;
      }
  return y;
}

}  // namespace

TEST("the inverse rotation is the central difference of the rotation") {
  const Shape s = {1, 3, 2, 1, 4};
  Random random(1);
  const Values table = table_of(4, s.dim), x = random.normal(s.rows() * s.width()),
               dy = random.normal(s.rows() * s.width());
  check_gradient(
      "x", [&](const Values& at) { return inner(dy, rotate(s, at, table, 1, false)); }, x,
      rotate(s, dy, table, 1, true));
}

TEST("rope rotates queries and keys by position and copies values, both ways, in place and not") {
  on_every_path([](Isa isa, DType act) {
    for (const Shape& s : kShapes)
      for (bool inverse : {false, true})
        for (bool in_place : {false, true})
          for (int offset : {0, 3}) {
            Random random(2);
            const std::vector<int64_t> shape = {s.rows(), s.width()};
            const Values values = random.normal(s.rows() * s.width());
            const Buffer kept(act, shape, values), table(DType::F32, {s.seq + 3, s.dim}, table_of(s.seq + 3, s.dim));
            const Values want = rotate(s, kept.get(), table.get(), offset, inverse);
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
  const Shape s = {1, 4, 1, 1, 2};
  for (Isa isa : available_paths())
    for (int offset : {-1, 3}) {
      const Buffer x(DType::F32, {4, 6}, Values(24, 1.0)), y(DType::F32, {4, 6}),
          table(DType::F32, {6, 2}, table_of(6, 2));
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
