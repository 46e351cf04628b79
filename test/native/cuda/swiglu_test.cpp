#include "test/native/cuda/command.h"
#include "test/native/reference.h"

using namespace check;

namespace {

struct Shape {
  int64_t rows, ffn;
};
const std::vector<Shape> kShapes = {{1, 1}, {3, 7}, {20, 48}, {5, 257}, {2, 2304}};

double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }

}  // namespace

TEST("the CUDA swiglu and its gradient agree with float64 under every schedule, in place and not") {
  in_both_precisions([](DType act) {
    for (const Shape& s : kShapes)
      for (bool in_place : {false, true}) {
        Random random(2);
        const std::vector<int64_t> wide = {s.rows, 2 * s.ffn}, narrow = {s.rows, s.ffn};
        const Values values = random.normal(s.rows * 2 * s.ffn, 3.0);
        const Buffer kept(act, wide, values), dy(act, narrow, random.normal(s.rows * s.ffn));
        const Values x64 = kept.get(), dy64 = dy.get();
        Values want, want_dx(x64.size());
        for (int64_t i = 0; i < s.rows * s.ffn; i++) {
          const auto gate = static_cast<size_t>(i / s.ffn * 2 * s.ffn + i % s.ffn),
                     up = gate + static_cast<size_t>(s.ffn);
          const double g = x64[gate], d = dy64[static_cast<size_t>(i)], sig = sigmoid(g);
          want.push_back(g * sig * x64[up]);
          want_dx[gate] = d * x64[up] * sig * (1 + g * (1 - sig));
          want_dx[up] = d * g * sig;
        }
        same_bits_on_every_schedule([&] {
          const Buffer x(act, wide, values), y(act, narrow), apart(act, wide);
          const Buffer& dx = in_place ? x : apart;
          run_op<ops::Swiglu>({x, y}, {double(s.ffn)});
          // As on the CPU, and ex2.approx and rcp.approx within 2^-22 each.
          check_close("y", y.get(), want, rounded_once(act, 2e-6, 0));
          run_op<ops::SwigluBackward>({x, dy, dx}, {double(s.ffn)});
          check_close("dx", dx.get(), want_dx, rounded_once(act, 2e-6, largest(want_dx)));
          return joined({&y, &dx});
        });
      }
  });
}

TEST_MAIN()
