#include <algorithm>

#include "native/cuda/kernels/matmul_swiglu_plan.h"
#include "test/native/cuda/matmul_reference.h"

// Products with SwiGLU behind them, as ops: the bits of the two kernels each stands for, whatever the device's size
// leads to, and float64.
namespace {

using namespace check;
namespace matmul = cuda::matmul;
using matmul::Fusion;

/** The kernel, the tile and whether anything is fused follow from the device's size. */
struct Sized {
  int64_t rows, ffn, dim;
  int multiprocessors;
  int capability = 80;
};
const std::vector<Sized> kSizes = {
    {40, 40, 64, 4},
    {40, 72, 40, 1},
    {200, 72, 72, 1},
    {72, 136, 40, 1},
    {136, 264, 40, 1},
    {21, 40, 37, 2},
    {64, 45, 64, 2},
    {30, 12, 20, 2},
    {1, 8, 8, 2},
    {1, 72, 40, 2},
    {5, 1, 3, 2},
    {40, 40, 968, 4},
    {264, 136, 72, 3},
    {128, 256, 40, 1},
    // sm_90, large enough for wgmma: fused, and with sums that are cut or rows that are packed on the way
    {40, 72, 48, 2, 90},
    {72, 136, 40, 1, 90},
    {136, 264, 200, 2, 90},
    {128, 256, 44, 2, 90},
    {136, 72, 2056, 8, 90},
};

cuda::Target target_of(const Sized& c) {
  return {c.capability, c.multiprocessors, static_cast<size_t>(c.capability == 90 ? 227 : 163) * 1024};
}

template <class Body>
void everywhere(Body body) {
  in_both_precisions([&](DType act) {
    for (const Sized& c : kSizes) try {
        if (act == DType::F32 && c.rows * c.ffn * c.dim > 1 << 21) continue;  // the two kernels apart in any case
        on_device(c.capability, c.multiprocessors, [&] { body(act, c); });
      } catch (const std::exception& e) {
        throw Failure(std::to_string(c.rows) + " x " + std::to_string(c.ffn) + " x " + std::to_string(c.dim) + " on " +
                      std::to_string(c.multiprocessors) + " multiprocessors: " + e.what());
      }
  });
}

double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }

/** An output: NaN until it is written. */
Buffer poisoned(DType act, int64_t rows, int64_t columns) { return Buffer(act, {rows, columns}); }

}  // namespace

TEST("the cases of this test reach every mma.sync tile and wgmma in both fusions, and products that stay apart") {
  for (Fusion f : {Fusion::kSwiglu, Fusion::kSwigluGradient}) {
    std::vector<bool> rows(matmul::kTileCount);
    bool apart = false, wgmma = false;
    for (const Sized& c : kSizes) {
      const int64_t n = f == Fusion::kSwiglu ? 2 * c.ffn : c.ffn;
      const auto p = matmul::fused_plan({c.rows, n, c.dim, false}, target_of(c), f, c.ffn % 8 == 0);
      if (p.fused && !p.wgmma) rows[static_cast<size_t>(p.mma.tile)] = true;
      wgmma = wgmma || (p.fused && p.wgmma);
      apart = apart || !p.fused;
    }
    for (int row = 0; row < matmul::kTileCount; row++)
      CHECK(rows[static_cast<size_t>(row)] || matmul::kTiles[row].kind == matmul::Kind::kFma, "row ", row,
            " of fusion ", static_cast<int>(f));
    CHECK(apart && wgmma, "fusion ", static_cast<int>(f));
  }
}

TEST("the CUDA linear_swiglu gives the bits of linear and swiglu, gate and up kept or not") {
  everywhere([](DType act, const Sized& c) {
    Random random(static_cast<uint64_t>(c.rows * 31 + c.ffn * 7 + c.dim));
    const Buffer x(act, {c.rows, c.dim}, random.normal(c.rows * c.dim));
    const Buffer weight(DType::F32, {2 * c.ffn, c.dim}, random.normal(2 * c.ffn * c.dim));
    const Buffer between = poisoned(act, c.rows, 2 * c.ffn), want = poisoned(act, c.rows, c.ffn);
    run_op<ops::Linear>({x, weight, kAbsent, between}, {});
    run_op<ops::Swiglu>({between, want}, {double(c.ffn)});
    same_bits_on_every_schedule([&] {
      const Buffer gate_up = poisoned(act, c.rows, 2 * c.ffn), y = poisoned(act, c.rows, c.ffn),
                   alone = poisoned(act, c.rows, c.ffn);
      run_op<ops::LinearSwiglu>({x, weight, gate_up, y}, {double(c.ffn)});
      run_op<ops::LinearSwiglu>({x, weight, kAbsent, alone}, {double(c.ffn)});
      CHECK(gate_up.raw() == between.raw(), "other bits in gate and up");
      CHECK(y.raw() == want.raw() && alone.raw() == want.raw(), "other bits in y");
      return joined({&gate_up, &y, &alone});
    });
  });
}

TEST("the CUDA linear_dgrad_swiglu gives the bits of linear_dgrad and swiglu_backward, in place and not") {
  everywhere([](DType act, const Sized& c) {
    Random random(static_cast<uint64_t>(c.rows * 31 + c.ffn * 7 + c.dim));
    const Buffer dy(act, {c.rows, c.dim}, random.normal(c.rows * c.dim));
    const Buffer weight(DType::F32, {c.dim, c.ffn}, random.normal(c.dim * c.ffn));
    const Values values = random.normal(c.rows * 2 * c.ffn, 2.0);
    const Buffer kept(act, {c.rows, 2 * c.ffn}, values), dm = poisoned(act, c.rows, c.ffn),
                                                         want = poisoned(act, c.rows, 2 * c.ffn);
    run_op<ops::LinearDgrad>({dy, weight, kAbsent, dm}, {});
    run_op<ops::SwigluBackward>({kept, dm, want}, {double(c.ffn)});
    same_bits_on_every_schedule([&] {
      const Buffer in_place(act, {c.rows, 2 * c.ffn}, values), out = poisoned(act, c.rows, 2 * c.ffn);
      run_op<ops::LinearDgradSwiglu>({dy, weight, kept, out}, {});
      run_op<ops::LinearDgradSwiglu>({dy, weight, in_place, in_place}, {});
      CHECK(out.raw() == want.raw(), "other bits");
      CHECK(in_place.raw() == want.raw(), "other bits in place");
      return joined({&out, &in_place});
    });
  });
}

TEST("gate, up and y of the CUDA linear_swiglu agree with float64") {
  everywhere([](DType act, const Sized& c) {
    Random random(static_cast<uint64_t>(c.rows + c.ffn));
    const Buffer x(act, {c.rows, c.dim}, random.normal(c.rows * c.dim));
    Values w = random.normal(2 * c.ffn * c.dim, 1 / std::sqrt(static_cast<double>(c.dim)));
    if (act == DType::BF16)
      for (double& value : w) value = float_of(bf16_of(value));
    const Buffer weight(DType::F32, {2 * c.ffn, c.dim}, w);
    const Buffer gate_up = poisoned(act, c.rows, 2 * c.ffn), y = poisoned(act, c.rows, c.ffn);
    run_op<ops::LinearSwiglu>({x, weight, gate_up, y}, {double(c.ffn)});
    const Values a = x.get();
    const Reference sums(
        c.rows, 2 * c.ffn, c.dim, [&](int64_t i, int64_t p) { return a[static_cast<size_t>(i * c.dim + p)]; },
        [&](int64_t p, int64_t j) { return w[static_cast<size_t>(j * c.dim + p)]; });
    check_product(gate_up, sums, c.dim, {});
    const Values both = gate_up.get();
    Values want;
    for (int64_t i = 0; i < c.rows * c.ffn; i++) {
      const auto gate = static_cast<size_t>(i / c.ffn * 2 * c.ffn + i % c.ffn), up = gate + static_cast<size_t>(c.ffn);
      want.push_back(both[gate] * sigmoid(both[gate]) * both[up]);
    }
    check_close("y", y.get(), want, rounded_once(act, 2e-6, 0));  // as in swiglu_test.cpp, whose gates are larger
  });
}

TEST_MAIN()
