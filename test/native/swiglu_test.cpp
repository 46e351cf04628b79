#include "test/native/command.h"
#include "test/native/reference.h"

using namespace check;

namespace {

struct Shape {
  int64_t rows, ffn;
};
const std::vector<Shape> kShapes = {{1, 1}, {3, 7}, {130, 48}, {40, 64}, {90, 168}, {40, 257}, {1, 20000}};

double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }

Values forward(int64_t ffn, const Values& x) {
  Values y;
  for (size_t r = 0; r < x.size() / (2 * ffn); r++)
    for (int64_t i = 0; i < ffn; i++) {
      const double g = x[r * 2 * ffn + i], up = x[r * 2 * ffn + ffn + i];
      y.push_back(g * sigmoid(g) * up);
    }
  return y;
}

Values backward(int64_t ffn, const Values& x, const Values& dy) {
  Values dx(x.size());
  for (size_t r = 0; r < dy.size() / ffn; r++)
    for (int64_t i = 0; i < ffn; i++) {
      const size_t gate = r * 2 * ffn + i, up = gate + ffn;
      const double d = dy[r * ffn + i], s = sigmoid(x[gate]);
      dx[gate] = d * x[up] * s * (1 + x[gate] * (1 - s));
      dx[up] = d * x[gate] * s;
    }
  return dx;
}

}  // namespace

TEST("the float64 gradient of SwiGLU is the central difference of its forward") {
  Random random(1);
  const Values x = random.normal(3 * 10, 2.0), dy = random.normal(3 * 5);
  check_gradient(
      "x", [&](const Values& at) { return inner(dy, forward(5, at)); }, x, backward(5, x, dy));
}

TEST("swiglu and its gradient agree with float64, in place and not") {
  on_every_path([](Isa isa, DType act) {
    for (const Shape& s : kShapes)
      for (bool in_place : {false, true}) {
        Random random(2);
        const std::vector<int64_t> wide = {s.rows, 2 * s.ffn}, narrow = {s.rows, s.ffn};
        const Values values = random.normal(s.rows * 2 * s.ffn, 3.0);
        const Buffer kept(act, wide, values), dy(act, narrow, random.normal(s.rows * s.ffn));
        const Values want = forward(s.ffn, kept.get()), want_dx = backward(s.ffn, kept.get(), dy.get());
        same_bits_for_any_threads([&](int threads) {
          const Buffer x(act, wide, values), y(act, narrow), apart(act, wide);
          const Buffer& dx = in_place ? x : apart;
          run_op<ops::Swiglu>(isa, threads, {x, y}, {double(s.ffn)});
          // A handful of fp32 operations, each within 2^-24, and an exponential within 2^-23; dgate has one
          // cancellation near the zero of silu' (1 + g (1 - s)), whence the absolute part at the scale of its terms.
          check_close("y", y.get(), want, rounded_once(act, 1e-6, 0));
          run_op<ops::SwigluBackward>(isa, threads, {x, dy, dx}, {double(s.ffn)});
          check_close("dx", dx.get(), want_dx, rounded_once(act, 1e-6, largest(want_dx)));
          return joined({&y, &dx});
        });
      }
  });
}

TEST("swiglu has its limits at large gates") {
  on_every_path([](Isa isa, DType act) {
    const Buffer x(act, {1, 8}, {-200, 200, -90, 0, 2, 2, 2, 2}), y(act, {1, 4}), dx(act, {1, 8});
    const Buffer dy(act, {1, 4}, Values(4, 1.0));
    run_op<ops::Swiglu>(isa, 1, {x, y}, {4});
    check_close("y", y.get(), {0, 400, 0, 0}, {1e-2, 1e-30});
    run_op<ops::SwigluBackward>(isa, 1, {x, dy, dx}, {4});
    check_close("dx", dx.get(), {0, 2, 0, 1, 0, 200, 0, 0}, {1e-2, 1e-30});
  });
}

TEST_MAIN()
