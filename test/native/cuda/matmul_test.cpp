#include "native/cuda/kernels/matmul_tiles.h"
#include "test/native/cuda/command.h"
#include "test/native/reference.h"

// The three products of a linear layer on the device against float64, whatever plan the device's size leads to.
namespace {

using namespace check;
namespace matmul = cuda::matmul;

struct Shape {
  int64_t rows, n, k;
};

/** Aligned to all tiles; ragged; odd leading dimensions; single rows and columns; sums long enough to be cut. */
const std::vector<Shape> kShapes = {{128, 256, 64}, {72, 136, 104}, {37, 45, 51}, {1, 1, 1},     {1, 72, 40},
                                    {40, 8, 1096},  {1032, 16, 8},  {33, 1, 5},   {9, 1048, 24}, {300, 272, 32}};

/** Numbers of multiprocessors: they move the choice of tile and cut. */
const std::vector<int> kMultiprocessors = {2, 64};

template <class Body>
void everywhere(Body body) {
  in_both_precisions([&](DType act) {
    for (const Shape& s : kShapes)
      for (int multiprocessors : kMultiprocessors) try {
          on_device(90, multiprocessors, [&] { body(act, s); });
        } catch (const std::exception& e) {
          throw Failure("rows " + std::to_string(s.rows) + " n " + std::to_string(s.n) + " k " + std::to_string(s.k) +
                        " on " + std::to_string(multiprocessors) + " multiprocessors: " + e.what());
        }
  });
}

/** The backend's bf16 copy of one weight. */
class Copies : public cuda::WeightCopies {
 public:
  explicit Copies(const Buffer& weight) : memory_(weight.tensor().bytes() / 2, "a copy of a weight") {
    std::vector<uint16_t> copy;
    for (double x : weight.get()) copy.push_back(bf16_of(x));
    test_stream().upload(memory_.data(), copy.data(), memory_.bytes());
  }
  void* find(const void*) const override { return memory_.data(); }

 private:
  cuda::DeviceMemory memory_;
};

/** A weight as the product uses it: rounded to bf16 in bf16 mode. */
Values used(const Buffer& weight, DType act) {
  Values w = weight.get();
  if (act == DType::BF16)
    for (double& x : w) x = float_of(bf16_of(x));
  return w;
}

/** C [m, n] = sum over p of A(i, p) B(p, j) in float64, and the same of the absolute values. */
struct Reference {
  Values value, size;
  template <class A, class B>
  Reference(int64_t m, int64_t n, int64_t k, A a, B b)
      : value(static_cast<size_t>(m * n)), size(static_cast<size_t>(m * n)) {
    for (int64_t i = 0; i < m; i++)
      for (int64_t p = 0; p < k; p++)
        for (int64_t j = 0; j < n; j++) {
          const double product = a(i, p) * b(p, j);
          value[static_cast<size_t>(i * n + j)] += product;
          size[static_cast<size_t>(i * n + j)] += std::fabs(product);
        }
  }
};

/**
 * Each of the k fp32 additions (products are exact or fused) rounds by at most 2^-24 of a partial sum, which is at most
 * S = sum |A B|; independent roundings add up like a random walk, so 2 sqrt(k + 1) 2^-24 S is generous, and still a
 * hundred times less than one product dropped or taken twice. (Tensor cores truncate where they align 16 products with
 * the sum: at most 2^-23 of it a step, less than that walk.) A bf16 result adds at most 2^-8 of its value.
 */
void check_product(const Buffer& got, const Reference& want, int64_t k, const Values& addend) {
  const Values c = got.get();
  const double walk = 2 * std::sqrt(static_cast<double>(k) + 1) / (1 << 24);
  const double rounding = got.tensor().dtype == DType::BF16 ? 1.0 / 256 : 0;
  for (size_t at = 0; at < c.size(); at++) {
    const double plus = addend.empty() ? 0 : addend[at], value = want.value[at] + plus;
    const double allowed = walk * (want.size[at] + std::fabs(plus)) + rounding * std::fabs(value) * (1 + 1e-6);
    CHECK(std::fabs(c[at] - value) <= allowed, "element ", at, " is ", c[at], ", expected ", value, ", allowed ",
          allowed);
  }
  got.check_guards();
}

enum class Form { Forward, Dgrad };

void check_forward_or_dgrad(Form form, DType act, const Shape& s) {
  Random random(static_cast<uint64_t>(s.rows * 31 + s.n * 7 + s.k));
  const bool forward = form == Form::Forward;
  const int64_t sum = forward ? s.k : s.n, width = forward ? s.n : s.k;
  const Buffer x(act, {s.rows, sum}, random.normal(s.rows * sum));
  const Buffer weight(DType::F32, {s.n, s.k}, random.normal(s.n * s.k));
  const Buffer addend(act, {s.rows, width}, random.normal(s.rows * width));
  const Values a = x.get(), w = used(weight, act);
  const Reference want(
      s.rows, width, sum, [&](int64_t i, int64_t p) { return a[static_cast<size_t>(i * sum + p)]; },
      [&](int64_t p, int64_t j) { return w[static_cast<size_t>(forward ? j * s.k + p : p * s.k + j)]; });
  const Copies copies(weight);
  struct Variant {
    bool add, in_place, copied;
  };
  same_bits_on_every_schedule([&] {
    std::vector<unsigned char> all, plain;
    for (const Variant& v :
         {Variant{false, false, false}, {false, false, true}, {true, false, true}, {true, true, false}}) {
      Setting setting;
      if (v.copied) setting.copies = &copies;
      Buffer out(act, {s.rows, width});
      if (v.in_place) out.set(addend.get());
      const Tensor added = !v.add ? kAbsent : v.in_place ? out.tensor() : addend.tensor();
      if (forward)
        run_op<ops::Linear>({x, weight, added, out}, {}, setting);
      else
        run_op<ops::LinearDgrad>({x, weight, added, out}, {}, setting);
      check_product(out, want, sum, v.add ? addend.get() : Values{});
      const auto bits = joined({&out});
      if (v.add == false && v.copied) CHECK(bits == plain, "a kept copy of the weight changes the result");
      if (v.add == false) plain = bits;
      all.insert(all.end(), bits.begin(), bits.end());
    }
    return all;
  });
}

}  // namespace

TEST("the CUDA linear is x W^T plus its residual, with a kept copy of the weight or without") {
  everywhere([](DType act, const Shape& s) { check_forward_or_dgrad(Form::Forward, act, s); });
}

TEST("the CUDA linear_dgrad is dy W plus its addend, with a kept copy of the weight or without") {
  everywhere([](DType act, const Shape& s) { check_forward_or_dgrad(Form::Dgrad, act, s); });
}

TEST("the CUDA linear_wgrad is dy^T x, overwriting or adding as the step's integers say") {
  everywhere([](DType act, const Shape& s) {
    Random random(static_cast<uint64_t>(s.rows * 31 + s.n * 7 + s.k + 1));
    const Buffer x(act, {s.rows, s.k}, random.normal(s.rows * s.k)),
        dy(act, {s.rows, s.n}, random.normal(s.rows * s.n));
    const Values before = Buffer(DType::F32, {s.n, s.k}, random.normal(s.n * s.k)).get(), a = dy.get(), b = x.get();
    const Reference want(
        s.n, s.k, s.rows, [&](int64_t i, int64_t p) { return a[static_cast<size_t>(p * s.n + i)]; },
        [&](int64_t p, int64_t j) { return b[static_cast<size_t>(p * s.k + j)]; });
    same_bits_on_every_schedule([&] {
      std::vector<unsigned char> all;
      for (int mode : {ops::kOverwrite, ops::kAdd, ops::kAddUnlessFirst})
        for (int first : {0, 1}) {
          Setting setting;
          setting.integers[ops::kIntegerFirstMicroBatch] = first;
          const bool add = mode == ops::kAdd || (mode == ops::kAddUnlessFirst && first == 0);
          Buffer dweight(DType::F32, {s.n, s.k});
          if (add) dweight.set(before);  // else poison, which must not show
          run_op<ops::LinearWgrad>({x, dy, dweight}, {double(mode)}, setting);
          check_product(dweight, want, s.rows, add ? before : Values{});
          const auto bits = joined({&dweight});
          all.insert(all.end(), bits.begin(), bits.end());
        }
      return all;
    });
  });
}

TEST("not-a-number and infinity in x reach exactly their rows of y") {
  everywhere([](DType act, const Shape& s) {
    if (s.rows < 2) return;
    Random random(static_cast<uint64_t>(s.rows + s.n));
    Values values = random.normal(s.rows * s.k);
    values[static_cast<size_t>(s.k - 1)] = std::nan("");
    const Buffer x(act, {s.rows, s.k}, values), weight(DType::F32, {s.n, s.k}, random.normal(s.n * s.k));
    const Buffer y(act, {s.rows, s.n});
    run_op<ops::Linear>({x, weight, kAbsent, y}, {});
    const Values got = y.get();
    for (size_t i = 0; i < got.size(); i++)
      CHECK(std::isnan(got[i]) == (i < static_cast<size_t>(s.n)), "element ", i, " is ", got[i]);
  });
}

TEST_MAIN()
