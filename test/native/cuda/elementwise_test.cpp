#include <limits>

#include "test/native/cuda/command.h"
#include "test/native/reference.h"

using namespace check;

namespace {
// One thread's elements, ragged ends, a block and a bit, several blocks.
const std::vector<int64_t> kSizes = {1, 7, 48, 257, 4096, 8193, 20000};
}  // namespace

TEST("the CUDA add is the sum rounded once, in place and not") {
  in_both_precisions([](DType act) {
    for (int64_t n : kSizes)
      for (bool in_place : {false, true}) {
        Random random(1);
        const Buffer a_kept(act, {n}, random.normal(n)), b(act, {n}, random.normal(n));
        const Values want = added(true, a_kept.get(), b.get());
        same_bits_on_every_schedule([&] {
          const Buffer a(act, {n}, a_kept.get()), apart(act, {n});
          const Buffer& y = in_place ? a : apart;
          run_op<ops::Add>({a, b, y}, {});
          check_close("y", y.get(), want, rounded_once(act, 6e-8, 0));
          return joined({&y});
        });
      }
  });
}

TEST("the CUDA scale and axpy agree with float64") {
  for (int64_t n : kSizes) {
    Random random(2);
    const double alpha = static_cast<float>(-1.7);
    const Buffer x(DType::F32, {n}, random.normal(n)), before(DType::F32, {n}, random.normal(n));
    Values scaled = x.get();
    for (double& v : scaled) v *= alpha;
    same_bits_on_every_schedule([&] {
      const Buffer y(DType::F32, {n}), in_place(DType::F32, {n}, x.get()), z(DType::F32, {n}, before.get());
      run_op<ops::Scale>({x, y}, {alpha});
      check_close("scale", y.get(), scaled, {6e-8, 0});
      run_op<ops::Scale>({in_place, in_place}, {alpha});
      CHECK(in_place.raw() == y.raw());
      run_op<ops::Axpy>({x, z}, {alpha});
      // One rounding of a term below 10.
      check_close("axpy", z.get(), added(true, before.get(), scaled), {1.2e-7, 1e-6});
      return joined({&y, &z});
    });
  }
}

TEST("the CUDA average moves by 1 - decay towards x, is x itself at decay 0, and stays where status is set") {
  for (int64_t n : kSizes)
    for (double decay : {0.0, 0.3, 0.999}) {
      Random random(5);
      Setting setting;
      setting.scalars[ops::kScalarAverageDecay] = static_cast<float>(decay);
      const double exact = static_cast<float>(decay);
      const Buffer x(DType::F32, {n}, random.normal(n)), before(DType::F32, {n}, random.normal(n));
      const Buffer fine(DType::I32, {1}, {0}), broken(DType::I32, {1}, {1});
      Values want = before.get();
      for (size_t i = 0; i < want.size(); i++) want[i] = exact * want[i] + (1 - exact) * x.get()[i];
      same_bits_on_every_schedule([&] {
        const Buffer y(DType::F32, {n}, before.get()), kept(DType::F32, {n}, before.get());
        run_op<ops::Average>({x, fine, y}, {}, setting);
        // Three roundings of terms below 10.
        check_close("average", y.get(), want, {2e-7, 2e-6});
        if (decay == 0) CHECK(y.raw() == x.raw());
        run_op<ops::Average>({x, broken, kept}, {}, setting);
        CHECK(kept.raw() == before.raw());
        return joined({&y});
      });
    }
}

TEST("the CUDA copy converts f32 to bf16 to nearest even and back exactly, for every kind of number") {
  const double inf = std::numeric_limits<double>::infinity();
  for (int64_t n : kSizes) {
    Random random(3);
    Values values = random.normal(n);
    const Values special = {0.0, -0.0, inf, -inf, 3.4e38, -3.4e38, 1e-40, 1.00390625, 1.01171875, 9.2e-41};
    for (size_t i = 0; i < special.size() && i < values.size(); i++) values[i] = special[i];
    const Buffer wide(DType::F32, {n}, values), rounded(DType::BF16, {n}, values);
    const Buffer exact(DType::F32, {n}, rounded.get());
    same_bits_on_every_schedule([&] {
      const Buffer half(DType::BF16, {n}), back(DType::F32, {n}), same(DType::BF16, {n});
      run_op<ops::Copy>({wide, half}, {});
      CHECK(half.raw() == rounded.raw(), n);
      run_op<ops::Copy>({half, back}, {});
      CHECK(back.raw() == exact.raw(), n);
      run_op<ops::Copy>({half, same}, {});
      CHECK(same.raw() == half.raw());
      return joined({&half, &back, &same});
    });
  }
}

TEST("the CUDA copy keeps NaN, moves i32 unchanged and refuses to convert it") {
  const Buffer nan(DType::F32, {9}, Values(9, std::nan(""))), half(DType::BF16, {9});
  run_op<ops::Copy>({nan, half}, {});
  for (double v : half.get()) CHECK(std::isnan(v));
  const Buffer x(DType::I32, {3}, {-5, 0, 2147483647}), y(DType::I32, {3}), f(DType::F32, {3});
  run_op<ops::Copy>({x, y}, {});
  CHECK(x.raw() == y.raw());
  must_fail("BAD_PROGRAM", "i32 to f32", [&] { run_op<ops::Copy>({x, f}, {}); });
}

TEST("the CUDA fill writes every data type") {
  for (int64_t n : kSizes)
    for (DType dtype : {DType::F32, DType::BF16, DType::I32}) {
      const Buffer y(dtype, {n}), want(dtype, {n}, Values(static_cast<size_t>(n), -3.0));
      run_op<ops::Fill>({y}, {-3});
      y.check_guards();
      CHECK(y.raw() == want.raw());
    }
}

TEST("round_weights is the copy from fp32 to bf16, also where pointers allow no vectors") {
  const int64_t n = 5000;
  Random random(4);
  const Buffer from(DType::F32, {n}, random.normal(n)), want(DType::BF16, {n}, from.get());
  on_every_schedule([&] {
    for (int64_t shift : {0, 1, 4, 8}) {
      cuda::Stream& stream = test_stream();
      const cuda::Target target = device_target();
      const cuda::DeviceMemory in(n * 4, "weights"), out(n * 2 + 64, "their copy");
      stream.upload(in.data(), from.tensor().data, n * 4);
      cuda::Context context{stream, target, nullptr, nullptr, nullptr, nullptr, nullptr};
      const int64_t count = n - shift;
      cuda::round_weights(reinterpret_cast<const float*>(in.data()) + shift, out.data() + 2 * shift, count, context);
      stream.synchronize();
      std::vector<unsigned char> got(count * 2), all = want.raw();
      stream.download(got.data(), out.data() + 2 * shift, got.size());
      CHECK(got == std::vector<unsigned char>(all.begin() + 2 * shift, all.end()), shift);
    }
  });
}

TEST_MAIN()
