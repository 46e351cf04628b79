#include <algorithm>

#include "native/cuda/kernels/hopper_matmul_tiles.h"
#include "test/native/cuda/matmul_reference.h"

// The three products of a linear layer on the device against float64, whatever plan the device's size leads to.
namespace {

using namespace check;
namespace matmul = cuda::matmul;

/** C [m, n] summed over `sum`, on a device of so many multiprocessors: it decides the kernel, the tile and whether to
 * cut. */
struct Sized {
  int64_t m, n, sum;
  int multiprocessors;
  int capability = 80;
};
const std::vector<Sized> kSizes = {
    {64, 64, 64, 4},
    {40, 40, 968, 4},  // row 3 of the table, whole and cut; fp32 has one row
    {40, 72, 40, 1},
    {40, 72, 1288, 5},  // row 2
    {200, 72, 40, 1},
    {200, 72, 1416, 3},  // row 1
    {72, 136, 40, 1},
    {72, 200, 1416, 3},  // row 0
    {256, 512, 64, 1},
    {136, 520, 72, 2},  // several large tiles, full and ragged
    {37, 45, 51, 2},
    {21, 37, 1291, 4},  // rows that are no multiple of 16 bytes, in every operand
    {64, 45, 64, 2},
    {45, 64, 33, 2},  // in some
    {1, 1, 1, 2},
    {1, 72, 40, 2},
    {72, 1, 5, 2},
    // sm_90, large enough for wgmma: whole, cut, rows to be packed on the way
    {256, 264, 320, 2, 90},
    {392, 520, 192, 3, 90},
    {136, 136, 2056, 8, 90},
    {130, 134, 2058, 8, 90},
};

cuda::Target target_of(const Sized& c) {
  return {c.capability, c.multiprocessors, static_cast<size_t>(c.capability == 90 ? 227 : 163) * 1024};
}

template <class Body>
void everywhere(Body body) {
  in_both_precisions([&](DType act) {
    for (const Sized& c : kSizes) try {
        if (act == DType::F32 && c.m * c.n * c.sum > 1 << 24) continue;  // one fp32 tile: a small sum cuts it too
        on_device(c.capability, c.multiprocessors, [&] { body(act, c); });
      } catch (const std::exception& e) {
        throw Failure(std::to_string(c.m) + " x " + std::to_string(c.n) + " summed over " + std::to_string(c.sum) +
                      " on " + std::to_string(c.multiprocessors) + " multiprocessors: " + e.what());
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

enum class Form { Forward, Dgrad };

void check_forward_or_dgrad(Form form, DType act, const Sized& c) {
  Random random(static_cast<uint64_t>(c.m * 31 + c.n * 7 + c.sum));
  const bool forward = form == Form::Forward;
  const std::vector<int64_t> weight_shape = forward ? std::vector{c.n, c.sum} : std::vector{c.sum, c.n};
  const Buffer x(act, {c.m, c.sum}, random.normal(c.m * c.sum));
  const Buffer weight(DType::F32, weight_shape, random.normal(c.n * c.sum));
  const Buffer addend(act, {c.m, c.n}, random.normal(c.m * c.n));
  const Values a = x.get(), w = used(weight, act), plus = addend.get();
  const Reference want(
      c.m, c.n, c.sum, [&](int64_t i, int64_t p) { return a[static_cast<size_t>(i * c.sum + p)]; },
      [&](int64_t p, int64_t j) { return w[static_cast<size_t>(forward ? j * c.sum + p : p * c.n + j)]; });
  const Copies copies(weight);
  const auto run = [&](bool add, bool in_place, bool copied) {
    Setting setting;
    if (copied) setting.copies = &copies;
    Buffer out(act, {c.m, c.n});
    if (in_place) out.set(plus);
    const Tensor added = !add ? kAbsent : in_place ? out.tensor() : addend.tensor();
    if (forward)
      run_op<ops::Linear>({x, weight, added, out}, {}, setting);
    else
      run_op<ops::LinearDgrad>({x, weight, added, out}, {}, setting);
    check_product(out, want, c.sum, add ? plus : Values{});
    return joined({&out});
  };
  same_bits_on_every_schedule([&] {
    auto all = run(false, false, true);
    CHECK(run(false, false, false) == all, "a kept copy of the weight changes the result");
    const auto added = run(true, false, true);
    CHECK(run(true, true, false) == added, "the result depends on whether the addend is its own memory");
    all.insert(all.end(), added.begin(), added.end());
    return all;
  });
}

}  // namespace

TEST("the cases of this test reach every row of the tile table, with the sum whole and cut") {
  for (int row = 0; row < matmul::kTileCount; row++)
    for (bool is_cut : {false, true}) {
      const auto reaches = [&](const Sized& c) {
        const bool fp32 = matmul::kTiles[row].kind == matmul::Kind::kFma;
        const matmul::Plan p = matmul::plan({c.m, c.n, c.sum, fp32}, target_of(c));
        return p.tile == row && (p.splits > 1) == is_cut;
      };
      CHECK(std::any_of(kSizes.begin(), kSizes.end(), reaches), "row ", row, is_cut ? ", cut" : ", whole");
    }
}

TEST("the cases of this test reach the wgmma kernel, with the sum whole and cut") {
  for (bool half : {false, true})
    for (bool is_cut : {false, true}) {
      const auto reaches = [&](const Sized& c) {
        const matmul::Shape s{c.m, c.n, c.sum, false};
        const auto p = matmul::hopper::plan(s, target_of(c), half);
        return (p.splits > 1) == is_cut &&
               matmul::hopper::preferred(p, matmul::plan(s, target_of(c)), target_of(c), c.n % 8 == 0);
      };
      CHECK(std::any_of(kSizes.begin(), kSizes.end(), reaches), half ? "bf16" : "fp32", is_cut ? ", cut" : ", whole");
    }
}

TEST("the CUDA linear is x W^T plus its residual, with a kept copy of the weight or without") {
  everywhere([](DType act, const Sized& c) { check_forward_or_dgrad(Form::Forward, act, c); });
}

TEST("the CUDA linear_dgrad is dy W plus its addend, with a kept copy of the weight or without") {
  everywhere([](DType act, const Sized& c) { check_forward_or_dgrad(Form::Dgrad, act, c); });
}

TEST("the CUDA linear_wgrad is dy^T x, overwriting or adding as the step's integers say") {
  everywhere([](DType act, const Sized& c) {
    Random random(static_cast<uint64_t>(c.m * 31 + c.n * 7 + c.sum + 1));
    const Buffer x(act, {c.sum, c.n}, random.normal(c.sum * c.n)), dy(act, {c.sum, c.m}, random.normal(c.sum * c.m));
    const Values before = Buffer(DType::F32, {c.m, c.n}, random.normal(c.m * c.n)).get(), a = dy.get(), b = x.get();
    const Reference want(
        c.m, c.n, c.sum, [&](int64_t i, int64_t p) { return a[static_cast<size_t>(p * c.m + i)]; },
        [&](int64_t p, int64_t j) { return b[static_cast<size_t>(p * c.n + j)]; });
    const auto run = [&](int mode, int first, bool add) {
      Setting setting;
      setting.integers[ops::kIntegerFirstMicroBatch] = first;
      Buffer dweight(DType::F32, {c.m, c.n});
      if (add) dweight.set(before);  // else poison, which must not show
      run_op<ops::LinearWgrad>({x, dy, dweight}, {double(mode)}, setting);
      check_product(dweight, want, c.sum, add ? before : Values{});
      return joined({&dweight});
    };
    same_bits_on_every_schedule([&] {
      auto all = run(ops::kOverwrite, 0, false);
      CHECK(run(ops::kAddUnlessFirst, 1, false) == all, "the first micro-batch does not overwrite");
      const auto added = run(ops::kAddUnlessFirst, 0, true);
      CHECK(run(ops::kAdd, 1, true) == added, "adding depends on the mode");
      all.insert(all.end(), added.begin(), added.end());
      return all;
    });
  });
}

TEST("operands that begin anywhere give the bits of aligned ones") {
  in_both_precisions([](DType act) {
    constexpr int64_t kRows = 40, kN = 72, kK = 48;
    Random random(4);
    const auto bits = [&](int64_t shift, const Values& x, const Values& w, const Values& residual) {
      // Rows of a longer tensor on the device, `shift` elements from its start.
      const auto shifted = [&](DType type, const Values& values) {
        Values all(static_cast<size_t>(shift));
        all.insert(all.end(), values.begin(), values.end());
        return Buffer(type, {static_cast<int64_t>(all.size())}, all);
      };
      const Buffer y(act, {shift + kRows * kN});
      const Buffer from[] = {shifted(act, x), shifted(DType::F32, w), shifted(act, residual)};
      DeviceOperands device({from[0], from[1], from[2], y});
      const auto view = [&](size_t i, int64_t rows, int64_t columns) {
        Tensor t = device.tensors()[i];
        t.rank = 2;
        t.shape[0] = rows;
        t.shape[1] = columns;
        t.data = t.as<char>() + static_cast<size_t>(shift) * dtype_size(t.dtype);
        return t;
      };
      const ops::Linear p{view(0, kRows, kK), view(1, kN, kK), view(2, kRows, kN), view(3, kRows, kN), kRows, kK, kN};
      const cuda::Target target = device_target();
      const cuda::DeviceMemory workspace(cuda::linear_workspace(p, target) + 1, "a workspace");
      cuda::Context context{test_stream(), target, nullptr, nullptr, workspace.data(), nullptr, nullptr};
      cuda::linear(p, context);
      test_stream().synchronize();
      device.download();
      const auto raw = joined({&y});
      return std::vector(raw.begin() + shift * static_cast<int64_t>(dtype_size(act)), raw.end());
    };
    const Values x = random.normal(kRows * kK), w = random.normal(kN * kK), residual = random.normal(kRows * kN);
    const auto aligned = bits(0, x, w, residual);
    for (int64_t shift : {1, 3}) CHECK(bits(shift, x, w, residual) == aligned, "shifted by ", shift);
  });
}

TEST("not-a-number in x reaches exactly its row of y") {
  everywhere([](DType act, const Sized& c) {
    if (c.m < 2 || c.m * c.n * c.sum > 1 << 22) return;
    Random random(static_cast<uint64_t>(c.m + c.n));
    Values values = random.normal(c.m * c.sum);
    values[static_cast<size_t>(c.sum - 1)] = std::nan("");
    const Buffer x(act, {c.m, c.sum}, values), weight(DType::F32, {c.n, c.sum}, random.normal(c.n * c.sum));
    const Buffer y(act, {c.m, c.n});
    run_op<ops::Linear>({x, weight, kAbsent, y}, {});
    const Values got = y.get();
    for (size_t i = 0; i < got.size(); i++)
      CHECK(std::isnan(got[i]) == (i < static_cast<size_t>(c.n)), "element ", i, " is ", got[i]);
  });
}

TEST_MAIN()
