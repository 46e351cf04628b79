#include <limits>

#include "test/native/command.h"
#include "test/native/reference.h"

using namespace check;

namespace {
const std::vector<int64_t> kSizes = {1, 7, 48, 64, 168, 257, 16384, 70001};
}

TEST("add is the sum rounded once, in place and not") {
  on_every_path([](Isa isa, DType act) {
    for (int64_t n : kSizes)
      for (bool in_place : {false, true}) {
        Random random(1);
        const Buffer a_kept(act, {n}, random.normal(n)), b(act, {n}, random.normal(n));
        const Values want = added(true, a_kept.get(), b.get());
        same_bits_for_any_threads([&](int threads) {
          const Buffer a(act, {n}, a_kept.get()), apart(act, {n});
          const Buffer& y = in_place ? a : apart;
          run_op<ops::Add>(isa, threads, {a, b, y}, {});
          check_close("y", y.get(), want, rounded_once(act, 6e-8, 0));
          return joined({&y});
        });
      }
  });
}

TEST("scale and axpy agree with float64") {
  for (Isa isa : available_paths())
    for (int64_t n : kSizes) {
      Random random(2);
      const double alpha = static_cast<float>(-1.7);
      const Buffer x(DType::F32, {n}, random.normal(n)), before(DType::F32, {n}, random.normal(n));
      Values scaled = x.get();
      for (double& v : scaled) v *= alpha;
      same_bits_for_any_threads([&](int threads) {
        const Buffer y(DType::F32, {n}), in_place(DType::F32, {n}, x.get()), z(DType::F32, {n}, before.get());
        run_op<ops::Scale>(isa, threads, {x, y}, {alpha});
        check_close("scale", y.get(), scaled, {6e-8, 0});
        run_op<ops::Scale>(isa, threads, {in_place, in_place}, {alpha});
        CHECK(in_place.raw() == y.raw());
        run_op<ops::Axpy>(isa, threads, {x, z}, {alpha});
        // Up to two roundings of terms below 10 (one where the path has FMA).
        check_close("axpy", z.get(), added(true, before.get(), scaled), {1.2e-7, 1e-6});
        return joined({&y, &z});
      });
    }
}

TEST("average moves by 1 - decay towards x, is x itself at decay 0, and stays where status is set") {
  for (Isa isa : available_paths())
    for (int64_t n : kSizes)
      for (double decay : {0.0, 0.3, 0.9, 0.999}) {
        Random random(5);
        Setting setting;
        setting.scalars[ops::kScalarAverageDecay] = static_cast<float>(decay);
        const double exact = static_cast<float>(decay);
        const Buffer x(DType::F32, {n}, random.normal(n)), before(DType::F32, {n}, random.normal(n));
        const Buffer fine(DType::I32, {1}, {0}), broken(DType::I32, {1}, {1});
        const Values towards = x.get();
        Values want = before.get();
        for (size_t i = 0; i < want.size(); i++) want[i] = exact * want[i] + (1 - exact) * towards[i];
        same_bits_for_any_threads([&](int threads) {
          const Buffer y(DType::F32, {n}, before.get()), kept(DType::F32, {n}, before.get());
          run_op<ops::Average>(isa, threads, {x, fine, y}, {}, setting);
          // Three roundings of terms below 10, and of 1 - decay against the smaller change.
          check_close("average", y.get(), want, {2e-7, 2e-6});
          if (decay == 0) CHECK(y.raw() == x.raw());
          run_op<ops::Average>(isa, threads, {x, broken, kept}, {}, setting);
          CHECK(kept.raw() == before.raw());
          return joined({&y});
        });
      }
}

TEST("copy converts f32 to bf16 to nearest even and back exactly, for every kind of number") {
  const double inf = std::numeric_limits<double>::infinity();
  for (Isa isa : available_paths())
    for (int64_t n : kSizes) {
      Random random(3);
      Values values = random.normal(n);
      const Values special = {0.0,   -0.0,       inf,        -inf,    3.4e38,      -3.4e38,
                              1e-40, 1.00390625, 1.01171875, 9.2e-41, std::nan("")};
      for (size_t i = 0; i < special.size() && i < values.size(); i++) values[i] = special[i];
      const Buffer wide(DType::F32, {n}, values), rounded(DType::BF16, {n}, values);
      const Buffer exact(DType::F32, {n}, rounded.get());
      same_bits_for_any_threads([&](int threads) {
        const Buffer half(DType::BF16, {n}), back(DType::F32, {n}), same(DType::BF16, {n});
        run_op<ops::Copy>(isa, threads, {wide, half}, {});
        CHECK(half.raw() == rounded.raw(), n);
        run_op<ops::Copy>(isa, threads, {half, back}, {});
        CHECK(back.raw() == exact.raw(), n);
        run_op<ops::Copy>(isa, threads, {half, same}, {});
        CHECK(same.raw() == half.raw());
        return joined({&half, &back, &same});
      });
    }
}

TEST("copy moves i32 unchanged and refuses to convert it") {
  for (Isa isa : available_paths()) {
    const Buffer x(DType::I32, {3}, {-5, 0, 2147483647}), y(DType::I32, {3}), f(DType::F32, {3});
    run_op<ops::Copy>(isa, 1, {x, y}, {});
    CHECK(x.raw() == y.raw());
    must_fail("BAD_PROGRAM", "i32 to f32", [&] { run_op<ops::Copy>(isa, 1, {x, f}, {}); });
  }
}

TEST("fill writes every data type") {
  for (Isa isa : available_paths())
    for (int64_t n : kSizes)
      for (DType dtype : {DType::F32, DType::BF16, DType::I32}) {
        const Buffer y(dtype, {n}), want(dtype, {n}, Values(static_cast<size_t>(n), -3.0));
        run_op<ops::Fill>(isa, 2, {y}, {-3});
        y.check_guards();
        CHECK(y.raw() == want.raw());
      }
}

TEST("dot and sum are float64 sums rounded once") {
  for (Isa isa : available_paths())
    for (int64_t n : {int64_t{1}, int64_t{7}, int64_t{257}, int64_t{70001}, int64_t{200000}}) {
      Random random(4);
      const Buffer a(DType::F32, {n}, random.normal(n)), b(DType::F32, {n}, random.normal(n));
      const double product = inner(a.get(), b.get());
      const double total = inner(a.get(), Values(static_cast<size_t>(n), 1.0));
      const double slack = 1e-16 * double(n) * 10;  // order of the float64 additions
      same_bits_for_any_threads([&](int threads) {
        const Buffer d(DType::F32, {1}), s(DType::F32, {1}, {5.0}), over(DType::F32, {1});
        run_op<ops::Dot>(isa, threads, {a, b, d}, {});
        check_close("dot", d.get(), {product}, {6e-8, slack});
        run_op<ops::Sum>(isa, threads, {a, s}, {1});
        check_close("sum", s.get(), {5.0 + total}, {6e-8, slack});
        run_op<ops::Sum>(isa, threads, {a, over}, {0});
        check_close("sum", over.get(), {total}, {6e-8, slack});
        return joined({&d, &s, &over});
      });
    }
}

TEST_MAIN()
