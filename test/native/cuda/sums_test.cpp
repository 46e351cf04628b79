#include <limits>

#include "test/native/cuda/command.h"
#include "test/native/reference.h"

using namespace check;

namespace {

// One vector, ragged, about one unit (2048), one block of the kernel (16384) and its neighbours, several.
const std::vector<int64_t> kSizes = {1, 7, 257, 2049, 16384, 16385, 70001};
const double kInf = std::numeric_limits<double>::infinity();

/** Pairs of fp32 within a run of 16 lose about 2^-45 of the absolute sum; the fp64 additions less. */
double slack_of(const Values& terms) {
  double size = 0;
  for (double t : terms) size += std::fabs(t);
  return size * 3e-14;
}

Values products(const Values& a, const Values& b) {
  Values out(a.size());
  for (size_t i = 0; i < a.size(); i++) out[i] = a[i] * b[i];
  return out;
}

double total_of(const Values& terms) { return inner(terms, Values(terms.size(), 1.0)); }

double norm_of(const Values& values) {
  const Buffer grads(DType::F32, {static_cast<int64_t>(values.size())}, values), loss(DType::F32, {1}, {0.0});
  const Buffer norm(DType::F32, {1}), status(DType::I32, {1}, {0});
  run_op<ops::GradNorm>({grads, loss, norm, status}, {});
  return norm.get()[0];
}

}  // namespace

TEST("the CUDA dot and sum are float64 sums rounded once, added to or not") {
  for (int64_t n : kSizes) {
    Random random(4);
    const Buffer a(DType::F32, {n}, random.normal(n)), b(DType::F32, {n}, random.normal(n));
    const Values terms = products(a.get(), b.get());
    const double total = total_of(a.get());
    same_bits_on_every_schedule([&] {
      const Buffer d(DType::F32, {1}), s(DType::F32, {1}, {5.0}), over(DType::F32, {1});
      run_op<ops::Dot>({a, b, d}, {});
      check_close("dot", d.get(), {total_of(terms)}, {6e-8, slack_of(terms)});
      run_op<ops::Sum>({a, s}, {ops::kAdd});
      check_close("sum", s.get(), {5.0 + total}, {6e-8, slack_of(a.get())});
      run_op<ops::Sum>({a, over}, {ops::kOverwrite});
      check_close("sum", over.get(), {total}, {6e-8, slack_of(a.get())});
      return joined({&d, &s, &over});
    });
  }
}

TEST("the CUDA sum is overwritten in the first micro-batch only when so asked") {
  const Buffer x(DType::F32, {3}, {1, 2, 3});
  for (int first : {1, 0}) {
    Setting setting;
    setting.integers[ops::kIntegerFirstMicroBatch] = first;
    const Buffer y(DType::F32, {1}, {5.0});
    run_op<ops::Sum>({x, y}, {ops::kAddUnlessFirst}, setting);
    CHECK(y.get()[0] == (first ? 6.0 : 11.0), y.get()[0]);
  }
}

TEST("what cancels in fp32 does not in the CUDA sums") {
  // 2^24 + 1 - 2^24 in the same and in different runs of a thread; fp32 alone gives 0.
  Values values(40000, 0.0);
  values[0] = 16777216;
  values[1] = 1;
  values[2] = -16777216;
  values[20000] = 16777216;
  values[20005] = 0.25;
  values[39999] = -16777216;
  const Buffer x(DType::F32, {40000}, values), ones(DType::F32, {40000}, Values(40000, 1.0));
  const Buffer s(DType::F32, {1}), d(DType::F32, {1});
  run_op<ops::Sum>({x, s}, {ops::kOverwrite});
  run_op<ops::Dot>({x, ones, d}, {});
  CHECK(s.get()[0] == 1.25, s.get()[0]);
  CHECK(d.get()[0] == 1.25, d.get()[0]);
}

TEST("the CUDA gradNorm is the float64 norm, also of numbers whose squares fp32 cannot hold") {
  for (int64_t n : kSizes)
    for (double size : {1.0, 1e-12, 1e-25, 1e-42, 1e25}) {
      if (n > 20000 && size != 1.0) continue;
      Random random(1);
      const Buffer grads(DType::F32, {n}, random.normal(n, size)), loss(DType::F32, {1}, {3.0});
      const double want = std::sqrt(inner(grads.get(), grads.get()));
      same_bits_on_every_schedule([&] {
        const Buffer norm(DType::F32, {1}), status(DType::I32, {1}, {0});
        run_op<ops::GradNorm>({grads, loss, norm, status}, {});
        check_close("norm", norm.get(), {want}, {6e-8, 1e-45});  // rounded once to fp32, also to a subnormal
        CHECK(status.get()[0] == 0);
        return joined({&norm, &status});
      });
    }
  CHECK(norm_of(Values(500, 0.0)) == 0.0);
  CHECK(std::fabs(norm_of({3e38, 0, 1e38}) - 3.16227766e38) < 3e31);
}

TEST("units too many for one block are added up in groups first, and none is lost") {
  constexpr int64_t kMany = 1024 * 2048 + 3 * 2048 + 5;  // a group and a ragged one
  Random random(7);
  Values values(kMany, 0.0);
  for (int64_t at = kMany - 1; at >= 0; at -= random.integer(1, 4000))
    values[static_cast<size_t>(at)] = random.uniform(1, 2);
  const Buffer x(DType::F32, {kMany}, values), y(DType::F32, {1});
  run_op<ops::Sum>({x, y}, {ops::kOverwrite});
  check_close("sum", y.get(), {total_of(x.get())}, {6e-8, 0});
  CHECK(std::fabs(norm_of(values) / std::sqrt(inner(x.get(), x.get())) - 1) < 1e-7);
}

TEST("the CUDA status becomes 1 when a gradient or the loss is not finite, and stays 1") {
  const Buffer good(DType::F32, {300}, Values(300, 1.0)), norm(DType::F32, {1}), fine(DType::F32, {1}, {1.0});
  for (double bad : {kInf, -kInf, std::nan("")})
    for (bool in_loss : {false, true}) {
      Values values(300, 1.0);
      values[299] = bad;
      const Buffer broken(DType::F32, {300}, values), loss(DType::F32, {1}, {bad}), status(DType::I32, {1}, {0});
      run_op<ops::GradNorm>({in_loss ? good : broken, in_loss ? loss : fine, norm, status}, {});
      CHECK(status.get()[0] == 1, bad);
      run_op<ops::GradNorm>({good, fine, norm, status}, {});
      CHECK(status.get()[0] == 1, "not sticky");
    }
}

TEST_MAIN()
