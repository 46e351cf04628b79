#include <map>
#include <tuple>

#include "test/native/command.h"
#include "test/native/reference.h"

// The three products of a linear layer against float64, on every path, with and without packed weights.
namespace {

using namespace check;
using cpu::Orientation;

struct Shape {
  int64_t rows, n, k;
};

/**
 * Aligned to every block and ragged against every one; the tiny model's; single rows and columns; and long enough in
 * each direction to be cut into several blocks and chunks of k (256, 512, 2048) and of rows or columns (4096).
 */
const std::vector<Shape> kShapes = {{64, 96, 64},   {37, 45, 51},  {128, 64, 168}, {1, 1, 1},      {1, 70, 33},
                                    {33, 1, 5},     {50, 130, 1},  {96, 160, 320}, {70, 530, 96},  {600, 40, 36},
                                    {31, 65, 1100}, {13, 9, 4250}, {9, 4230, 11},  {4210, 10, 20}, {34, 4230, 64}};

/** body(isa, act, shape) for everything; a failure names them. */
template <class Body>
void everywhere(Body body) {
  for (Isa isa : available_paths())
    for (DType act : {DType::F32, DType::BF16})
      for (const Shape& s : kShapes) try {
          body(isa, act, s);
        } catch (const std::exception& e) {
          throw Failure(std::string(isa_name(isa)) + " " + dtype_name(act) + " rows " + std::to_string(s.rows) + " n " +
                        std::to_string(s.n) + " k " + std::to_string(s.k) + ": " + e.what());
        }
}

/** Packed copies of one weight, made in blocks of kPackRows, last block first: blocks must not need each other. */
class Packings : public cpu::PackedTable {
 public:
  Packings(Isa isa, const Buffer& weight, DType act) : master_(weight.tensor().data), act_(act) {
    const auto& kernels = cpu::kernels_for(isa);
    const int64_t n = weight.tensor().shape[0], k = weight.tensor().shape[1];
    for (Orientation o : {Orientation::Forward, Orientation::Dgrad}) {
      const size_t bytes = kernels.packed_weight_bytes(n, k, act, o);
      if (bytes == 0) continue;
      copies_.emplace(o, Buffer(DType::F32, {static_cast<int64_t>((bytes + 3) / 4)}));
      const cpu::Packed dst{o, act, copies_.at(o).tensor().data};
      for (int64_t row = (n - 1) / cpu::kPackRows * cpu::kPackRows; row >= 0; row -= cpu::kPackRows)
        kernels.pack_weight_rows(weight.tensor().as<float>(), n, k, row, std::min(cpu::kPackRows, n - row), dst);
      copies_.at(o).check_guards();
    }
  }
  const void* find(const void* master, Orientation o, DType act) const override {
    return master == master_ && act == act_ && copies_.count(o) != 0 ? copies_.at(o).tensor().data : nullptr;
  }
  int all(const void*, cpu::Packed*) const override { return 0; }
  bool empty() const { return copies_.empty(); }
  const Buffer& copy(Orientation o) const { return copies_.at(o); }

 private:
  const void* master_;
  DType act_;
  std::map<Orientation, Buffer> copies_;
};

/** A weight as the product uses it: rounded to bf16 in bf16 mode. */
Values used(const Buffer& weight, DType act) {
  Values w = weight.get();
  if (act == DType::BF16)
    for (double& x : w) x = float_of(bf16_of(x));
  return w;
}

/**
 * C[m, n] = sum_p A(i, p) B(p, j) + addend, in float64, against `got`. Tolerance: each of the k fp32 additions
 * (products are exact or fused) rounds by at most 2^-24 of a partial sum, which is at most S = sum |A B|; independent
 * roundings add up like a random walk, so 2 sqrt(k + 1) 2^-24 S is generous, and still a hundred times less than one
 * product dropped or taken twice. A bf16 result adds half a unit of its 8 bits, at most 2^-8 of the value.
 */
template <class A, class B>
void check_product(const Buffer& got, int64_t m, int64_t n, int64_t k, A a, B b, const Values& addend) {
  const Values c = got.get();
  const double walk = 2 * std::sqrt(static_cast<double>(k) + 1) / (1 << 24);
  const double rounding = got.tensor().dtype == DType::BF16 ? 1.0 / 256 : 0;
  for (int64_t i = 0; i < m; i++)
    for (int64_t j = 0; j < n; j++) {
      const size_t at = static_cast<size_t>(i * n + j);
      double want = addend.empty() ? 0 : addend[at], size = std::fabs(want);
      for (int64_t p = 0; p < k; p++) {
        const double product = a(i, p) * b(p, j);
        want += product;
        size += std::fabs(product);
      }
      const double error = std::fabs(c[at] - want), allowed = walk * size + rounding * std::fabs(want) * (1 + 1e-6);
      CHECK(error <= allowed, "element (", i, ", ", j, ") is ", c[at], ", expected ", want, ", error ", error,
            ", allowed ", allowed);
    }
  got.check_guards();
}

enum class Form { Forward, Dgrad };

/** y or dx, from operands drawn anew: with or without addend, given separately or being the result's own memory. */
void check_forward_or_dgrad(Form form, Isa isa, DType act, const Shape& s, bool with_addend, bool in_place,
                            bool packed) {
  Random random(static_cast<uint64_t>(s.rows * 31 + s.n * 7 + s.k));
  const bool forward = form == Form::Forward;
  const int64_t sum = forward ? s.k : s.n, width = forward ? s.n : s.k;
  const Buffer x(act, {s.rows, sum}, random.normal(s.rows * sum));
  const Buffer weight(DType::F32, {s.n, s.k}, random.normal(s.n * s.k));
  const Buffer addend(act, {s.rows, width}, random.normal(s.rows * width));
  Buffer out(act, {s.rows, width});
  if (in_place) out.set(addend.get());
  const Packings packings(isa, weight, act);
  if (packed && packings.empty()) return;
  Setting setting;
  setting.packed = packed ? &packings : nullptr;
  const Tensor added = !with_addend ? kAbsent : in_place ? out.tensor() : addend.tensor();
  if (forward)
    run_op<ops::Linear>(isa, 2, {x, weight, added, out}, {}, setting);
  else
    run_op<ops::LinearDgrad>(isa, 2, {x, weight, added, out}, {}, setting);
  const Values a = x.get(), w = used(weight, act);
  const auto left = [&](int64_t i, int64_t p) { return a[static_cast<size_t>(i * sum + p)]; };
  const auto right = [&](int64_t p, int64_t j) { return w[static_cast<size_t>(forward ? j * s.k + p : p * s.k + j)]; };
  check_product(out, s.rows, width, sum, left, right, with_addend ? addend.get() : Values{});
}

void check_every_variant(Form form) {
  everywhere([&](Isa isa, DType act, const Shape& s) {
    check_forward_or_dgrad(form, isa, act, s, false, false, false);
    check_forward_or_dgrad(form, isa, act, s, true, false, false);
    check_forward_or_dgrad(form, isa, act, s, true, true, true);
    check_forward_or_dgrad(form, isa, act, s, false, false, true);
    check_forward_or_dgrad(form, isa, act, s, true, true, false);
  });
}

}  // namespace

TEST("linear is x W^T plus its residual, on every path, packed or not") { check_every_variant(Form::Forward); }

TEST("linear_dgrad is dy W plus its addend, on every path, packed or not") { check_every_variant(Form::Dgrad); }

TEST("linear_wgrad is dy^T x, overwriting or adding as asked") {
  everywhere([&](Isa isa, DType act, const Shape& s) {
    Random random(static_cast<uint64_t>(s.rows * 31 + s.n * 7 + s.k + 1));
    const Buffer x(act, {s.rows, s.k}, random.normal(s.rows * s.k)),
        dy(act, {s.rows, s.n}, random.normal(s.rows * s.n));
    const Values before = random.normal(s.n * s.k), a = dy.get(), b = x.get();
    for (const auto& [mode, first, adds] :
         {std::tuple{ops::kOverwrite, 0, false}, std::tuple{ops::kAdd, 1, true},
          std::tuple{ops::kAddUnlessFirst, 1, false}, std::tuple{ops::kAddUnlessFirst, 0, true}}) {
      Buffer dweight(DType::F32, {s.n, s.k});
      if (adds) dweight.set(before);
      Setting setting;
      setting.integers[ops::kIntegerFirstMicroBatch] = first;
      run_op<ops::LinearWgrad>(isa, 2, {x, dy, dweight}, {static_cast<double>(mode)}, setting);
      check_product(
          dweight, s.n, s.k, s.rows, [&](int64_t i, int64_t p) { return a[static_cast<size_t>(p * s.n + i)]; },
          [&](int64_t p, int64_t j) { return b[static_cast<size_t>(p * s.k + j)]; },
          adds ? Buffer(DType::F32, {s.n, s.k}, before).get() : Values{});
      if (s.rows * s.n * s.k > 500000) break;  // the modes differ in the last step only
    }
  });
}

TEST("the linear products give the same bits with 1, 2 and 3 threads") {
  everywhere([&](Isa isa, DType act, const Shape& s) {
    Random random(static_cast<uint64_t>(s.rows + s.n + s.k));
    const Buffer x(act, {s.rows, s.k}, random.normal(s.rows * s.k)),
        dy(act, {s.rows, s.n}, random.normal(s.rows * s.n));
    const Buffer weight(DType::F32, {s.n, s.k}, random.normal(s.n * s.k));
    same_bits_for_any_threads([&](int threads) {
      const Buffer y(act, {s.rows, s.n}), dx(act, {s.rows, s.k}), dweight(DType::F32, {s.n, s.k});
      run_op<ops::Linear>(isa, threads, {x, weight, kAbsent, y}, {});
      run_op<ops::LinearDgrad>(isa, threads, {dy, weight, kAbsent, dx}, {});
      run_op<ops::LinearWgrad>(isa, threads, {x, dy, dweight}, {ops::kOverwrite});
      return joined({&y, &dx, &dweight});
    });
  });
}

TEST("packed weights give the bits of weights packed on the way") {
  everywhere([&](Isa isa, DType act, const Shape& s) {
    Random random(static_cast<uint64_t>(s.rows + 3 * s.n + s.k));
    const Buffer x(act, {s.rows, s.k}, random.normal(s.rows * s.k)),
        dy(act, {s.rows, s.n}, random.normal(s.rows * s.n));
    const Buffer weight(DType::F32, {s.n, s.k}, random.normal(s.n * s.k));
    const Packings packings(isa, weight, act);
    const auto bits = [&](const cpu::PackedTable* table) {
      Setting setting;
      setting.packed = table;
      const Buffer y(act, {s.rows, s.n}), dx(act, {s.rows, s.k});
      run_op<ops::Linear>(isa, 2, {x, weight, kAbsent, y}, {}, setting);
      run_op<ops::LinearDgrad>(isa, 2, {dy, weight, kAbsent, dx}, {}, setting);
      return joined({&y, &dx});
    };
    CHECK(bits(&packings) == bits(nullptr), "packed and unpacked weights differ");
  });
}

TEST("not-a-number and infinity in x reach exactly their rows of y") {
  everywhere([&](Isa isa, DType act, const Shape& s) {
    if (s.rows < 2) return;
    Random random(static_cast<uint64_t>(s.rows + s.n));
    Values values = random.normal(s.rows * s.k);
    values[static_cast<size_t>(s.k - 1)] = std::nan("");
    const Buffer x(act, {s.rows, s.k}, values), weight(DType::F32, {s.n, s.k}, random.normal(s.n * s.k));
    const Buffer y(act, {s.rows, s.n});
    run_op<ops::Linear>(isa, 2, {x, weight, kAbsent, y}, {});
    const Values got = y.get();
    for (size_t i = 0; i < got.size(); i++)
      CHECK(std::isnan(got[i]) == (i < static_cast<size_t>(s.n)), "element ", i, " is ", got[i]);
  });
}

TEST_MAIN()
