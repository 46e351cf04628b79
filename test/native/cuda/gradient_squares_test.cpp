#include <algorithm>
#include <limits>

#include "test/native/cuda/command.h"
#include "test/native/reference.h"
#include "test/native/squares_plan.h"

// Sums of squares that weight gradients make on the way: the same bits as gradNorm's own.
namespace {

using namespace check;
using cuda::kUnit;

/** A weight gradient [m, n] over `sum` rows, `begin` elements into a tensor of `total`, on a device where its sum is
 * cut and its squares are worth making. */
struct Placed {
  DType act;
  int64_t m, n, sum, begin, total;
  int capability, multiprocessors;
  int64_t size() const { return m * n; }
};
// From the start of a unit, ragged, to the end of the tensor; by each kernel.
const std::vector<Placed> kPlaced = {
    {DType::BF16, 136, 48, 1096, 0, 7000, 80, 2},
    {DType::BF16, 136, 48, 1096, 1500, 1500 + 136 * 48, 80, 2},
    {DType::BF16, 72, 144, 1096, 1500, 17000, 90, 3},
    {DType::F32, 64, 224, 520, 0, 64 * 224 + 512, 80, 4},
    {DType::F32, 64, 224, 520, 16272, 16272 + 20000, 80, 4},
};

template <class Body>
void on_placed(const Placed& c, Body body) {
  try {
    on_device(c.capability, c.multiprocessors, body);
  } catch (const std::exception& e) {
    throw Failure(std::to_string(c.m) + " x " + std::to_string(c.n) + " at " + std::to_string(c.begin) + ": " +
                  e.what());
  }
}

/** What a weight gradient and then gradNorm leave behind. */
struct Found {
  std::vector<unsigned char> grads, norm;
  std::vector<double> squares;
};

/** With ctx.squares or without; `given` stands in the table before. */
Found wgrad_and_norm(const Placed& c, const Values& x, const Values& dy, const Values& before, bool table,
                     double given = std::nan("")) {
  const Buffer xs(c.act, {c.sum, c.n}, x), dys(c.act, {c.sum, c.m}, dy), grads(DType::F32, {c.total}, before);
  const Buffer loss(DType::F32, {1}, {1.0}), norm(DType::F32, {1}), status(DType::I32, {1}, {0});
  DeviceOperands device({xs, dys, grads, loss, norm, status});
  const auto& at = device.tensors();
  Tensor dweight = at[2];
  dweight.rank = 2;
  dweight.shape[0] = c.m;
  dweight.shape[1] = c.n;
  dweight.data = at[2].as<float>() + c.begin;
  const ops::LinearWgrad product{at[0], at[1], dweight, ops::kAdd, c.sum, c.n, c.m};
  const ops::GradNorm whole{at[2], at[3], at[4], at[5], c.total};
  const cuda::Target target = device_target();
  const size_t room = std::max(cuda::linear_wgrad_workspace(product, target), cuda::grad_norm_workspace(whole, target));
  const cuda::DeviceMemory workspace(room + 1, "a workspace");
  Found found;
  found.squares.assign(static_cast<size_t>(cuda::unit_count(c.total)), given);
  const size_t bytes = found.squares.size() * sizeof(double);
  const cuda::DeviceMemory units(bytes, "squares");
  test_stream().upload(units.data(), found.squares.data(), bytes);
  const cuda::GradientSquares squares{at[2].as<float>(), c.total, reinterpret_cast<double*>(units.data())};
  cuda::Context context{test_stream(),    target,  nullptr, nullptr,
                        workspace.data(), nullptr, nullptr, table ? &squares : nullptr};
  cuda::linear_wgrad(product, context);
  cuda::grad_norm(whole, context);
  test_stream().synchronize();
  device.download();
  test_stream().download(found.squares.data(), units.data(), bytes);
  found.grads = joined({&grads});
  found.norm = joined({&norm, &status});
  return found;
}

/** The sum of squares of a unit of those bits, in order. */
double unit_of(const std::vector<unsigned char>& grads, int64_t unit) {
  double total = 0;
  for (int64_t i = unit * kUnit; i < (unit + 1) * kUnit; i++) {
    float x;
    std::memcpy(&x, grads.data() + i * 4, 4);
    total += double{x} * x;
  }
  return total;
}

}  // namespace

TEST("squares made with a gradient leave its bits and the norm's as they are, on every schedule") {
  for (const Placed& c : kPlaced)
    on_placed(c, [&] {
      Random random(static_cast<uint64_t>(c.begin + 1));
      const Values x = random.normal(c.sum * c.n), dy = random.normal(c.sum * c.m);
      const Values before = random.normal(c.total, 3.0);
      const Found plain = wgrad_and_norm(c, x, dy, before, false);
      on_every_schedule([&] {
        const Found made = wgrad_and_norm(c, x, dy, before, true);
        CHECK(made.grads == plain.grads, "the gradients differ");
        CHECK(made.norm == plain.norm, "the norms differ");
        const bool makes = makes_squares(c.m, c.n, c.sum, c.begin, c.act, device_target());
        CHECK(makes || on_gpu(), "not a case of squares");
        const int64_t first = cuda::unit_count(c.begin), end = makes ? (c.begin + c.size()) / kUnit : first;
        for (int64_t u = 0; u < cuda::unit_count(c.total); u++) {
          const double found = made.squares[static_cast<size_t>(u)];
          if (u < first || u >= end) {
            CHECK(std::isnan(found), "unit ", u, " is not whole the gradient's, but has ", found);
            continue;
          }
          // fp32 pairs err by 2^-45 of a sum of positive terms, the reference's 2048 additions by 2^-42 at most.
          const double want = unit_of(made.grads, u);
          CHECK(std::fabs(found - want) <= want * 1e-12, "unit ", u, " is ", found, ", expected ", want);
        }
      });
    });
}

TEST("gradNorm takes a sum that is known, so a stale one would be seen") {
  const Placed& c = kPlaced[1];
  on_placed(c, [&] {
    Random random(3);
    const Values x = random.normal(c.sum * c.n), dy = random.normal(c.sum * c.m), before = random.normal(c.total);
    const Found plain = wgrad_and_norm(c, x, dy, before, false);
    const Found stale = wgrad_and_norm(c, x, dy, before, true, 1e6);  // in the units at the edges
    CHECK(stale.norm != plain.norm, "1e6 in place of about 2e4 was not taken");
    for (double unknown : {-1.0, -std::numeric_limits<double>::infinity(), std::nan("")})
      CHECK(wgrad_and_norm(c, x, dy, before, true, unknown).norm == plain.norm, unknown, " is taken");
  });
}

TEST("gradients of any magnitude, infinite or no numbers have the norm and the status they have without squares") {
  const Placed& c = kPlaced[4];
  const float inf = std::numeric_limits<float>::infinity();
  on_placed(c, [&] {
    Random random(5);
    const Values x = random.normal(c.sum * c.n), dy = random.normal(c.sum * c.m);
    for (double size : {1e-25, 1e-42, 1e25, 3e37}) {
      const Values before = random.normal(c.total, size);
      const Values small(x.size(), 0.0);  // nothing is added: the magnitudes stay
      const Values& from = size < 1 ? small : x;
      const Found plain = wgrad_and_norm(c, from, dy, before, false);
      const Found made = wgrad_and_norm(c, from, dy, before, true);
      CHECK(made.norm == plain.norm && made.grads == plain.grads, "of magnitude ", size);
    }
    for (float bad : {inf, -inf, std::nanf("")})
      for (int64_t place : {c.begin + 700, c.begin + c.size() - 1, int64_t{3}}) {
        Values before = random.normal(c.total);
        before[static_cast<size_t>(place)] = bad;
        const Found plain = wgrad_and_norm(c, x, dy, before, false);
        const Found made = wgrad_and_norm(c, x, dy, before, true);
        CHECK(made.norm == plain.norm, bad, " at ", place);
        CHECK(made.norm[4] == 1, "the status is not 1 for ", bad, " at ", place);
      }
  });
}

TEST("units and what they spare: pure functions of place and size") {
  Random random(6);
  for (int i = 0; i < 5000; i++) {
    const int64_t begin = random.integer(0, 20000), size = random.integer(1, 1 << random.integer(0, 20));
    const cuda::UnitRange units = cuda::units_of(begin, size);
    CHECK(units.first * kUnit <= begin && begin < (units.first + 1) * kUnit, begin);
    const int64_t end = units.first + units.count;
    CHECK((end - 1) * kUnit < begin + size && begin + size <= end * kUnit, begin, " and ", size);
    int64_t whole = 0;
    for (int64_t u = units.first; u < end; u++)
      if (u * kUnit >= begin && (u + 1) * kUnit <= begin + size) whole++;
    CHECK(cuda::whole_units(begin, size) == whole, begin, " and ", size);
  }
  const cuda::Target h200{90, 132, 227 * 1024};
  CHECK(cuda::squares_pay(0, 3072 * 768, 4, h200) && cuda::squares_pay(768, 6144 * 768, 2, h200));
  CHECK(!cuda::squares_pay(0, 768 * 768, 7, h200), "288 units are 3 for the busiest of 132, 576 half units are 5");
  CHECK(!cuda::squares_pay(0, 256 * 1024, 2, h200), "what is spared is less than the last block's sum");
}

TEST_MAIN()
