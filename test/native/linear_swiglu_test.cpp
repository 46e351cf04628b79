#include "test/native/command.h"
#include "test/native/reference.h"

// Products with SwiGLU behind them: the bits of the two kernels each stands for. Those are held against float64 in
// linear_test.cpp and swiglu_test.cpp.
namespace {

using namespace check;

struct Shape {
  int64_t rows, ffn, dim;
};
const std::vector<Shape> kShapes = {{1, 1, 1}, {3, 7, 5}, {130, 48, 40}, {70, 65, 72}, {1024, 16, 24}, {2050, 24, 33}};

}  // namespace

TEST("linear_swiglu gives the bits of linear and swiglu, whether gate and up are kept or not") {
  on_every_path([](Isa isa, DType act) {
    for (const Shape& s : kShapes) {
      Random random(static_cast<uint64_t>(s.rows + s.ffn));
      const Buffer x(act, {s.rows, s.dim}, random.normal(s.rows * s.dim));
      const Buffer weight(DType::F32, {2 * s.ffn, s.dim}, random.normal(2 * s.ffn * s.dim));
      const Buffer between(act, {s.rows, 2 * s.ffn}), want(act, {s.rows, s.ffn});
      run_op<ops::Linear>(isa, 2, {x, weight, kAbsent, between}, {});
      run_op<ops::Swiglu>(isa, 2, {between, want}, {double(s.ffn)});
      same_bits_for_any_threads([&](int threads) {
        const Buffer gate_up(act, {s.rows, 2 * s.ffn}), y(act, {s.rows, s.ffn}), alone(act, {s.rows, s.ffn});
        run_op<ops::LinearSwiglu>(isa, threads, {x, weight, gate_up, y}, {double(s.ffn)});
        run_op<ops::LinearSwiglu>(isa, threads, {x, weight, kAbsent, alone}, {double(s.ffn)});
        CHECK(gate_up.raw() == between.raw() && y.raw() == want.raw() && alone.raw() == want.raw(), s.rows, " x ",
              s.ffn, " x ", s.dim);
        return joined({&gate_up, &y, &alone});
      });
    }
  });
}

TEST("linear_dgrad_swiglu gives the bits of linear_dgrad and swiglu_backward, in place and not") {
  on_every_path([](Isa isa, DType act) {
    for (const Shape& s : kShapes) {
      Random random(static_cast<uint64_t>(s.rows + s.ffn));
      const Buffer dy(act, {s.rows, s.dim}, random.normal(s.rows * s.dim));
      const Buffer weight(DType::F32, {s.dim, s.ffn}, random.normal(s.ffn * s.dim));
      const Values values = random.normal(s.rows * 2 * s.ffn, 2.0);
      const Buffer kept(act, {s.rows, 2 * s.ffn}, values), dm(act, {s.rows, s.ffn}), want(act, {s.rows, 2 * s.ffn});
      run_op<ops::LinearDgrad>(isa, 2, {dy, weight, kAbsent, dm}, {});
      run_op<ops::SwigluBackward>(isa, 2, {kept, dm, want}, {double(s.ffn)});
      same_bits_for_any_threads([&](int threads) {
        const Buffer gate_up(act, {s.rows, 2 * s.ffn}, values), apart(act, {s.rows, 2 * s.ffn});
        run_op<ops::LinearDgradSwiglu>(isa, threads, {dy, weight, gate_up, apart}, {});
        run_op<ops::LinearDgradSwiglu>(isa, threads, {dy, weight, gate_up, gate_up}, {});
        CHECK(apart.raw() == want.raw() && gate_up.raw() == want.raw(), s.rows, " x ", s.ffn, " x ", s.dim);
        return joined({&apart, &gate_up});
      });
    }
  });
}

TEST_MAIN()
