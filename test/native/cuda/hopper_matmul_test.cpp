#include "native/cuda/kernels/hopper_matmul.h"

#include <set>

#include "test/native/cuda/matmul_reference.h"

// The wgmma kernel on its own, under plans that the cost model might never choose for such shapes: every pair of form,
// tile, cluster, cut, epilogue, ragged shape and number of multiprocessors. test/native/cuda/matmul_test.cpp has it
// behind the ops.
namespace {

using namespace check;
using namespace cuda::matmul;
namespace hopper = cuda::matmul::hopper;

enum class Epilogue { Half, HalfAdd, HalfInPlace, Float, FloatAdd, FloatSkip };

/** Levels of each factor; a case is an index into each. */
const std::vector<Form> kForms = {Form::kForward, Form::kDgrad, Form::kWgrad};
const std::vector<int> kRows = {0, 1, 2}, kClusters = {1, 2}, kSplits = {1, 2, 3}, kMultiprocessors = {2, 3, 4};
const std::vector<int64_t> kM = {128, 40, 200, 392}, kN = {256, 72, 200, 520}, kK = {64, 40, 328, 584};
const std::vector<Epilogue> kEpilogues = {Epilogue::Half,  Epilogue::HalfAdd,  Epilogue::HalfInPlace,
                                          Epilogue::Float, Epilogue::FloatAdd, Epilogue::FloatSkip};
const std::vector<size_t> kLevels = {kForms.size(),           kRows.size(), kClusters.size(), kSplits.size(),
                                     kMultiprocessors.size(), kM.size(),    kN.size(),        kK.size(),
                                     kEpilogues.size()};
using Levels = std::vector<size_t>;

/** Cases such that every pair of levels of every two factors occurs: greedily the best of some random ones. */
std::vector<Levels> pairwise() {
  std::set<std::vector<size_t>> open;
  for (size_t f = 0; f < kLevels.size(); f++)
    for (size_t g = f + 1; g < kLevels.size(); g++)
      for (size_t a = 0; a < kLevels[f]; a++)
        for (size_t b = 0; b < kLevels[g]; b++) open.insert({f, g, a, b});
  Random random(3);
  std::vector<Levels> cases;
  while (!open.empty()) {
    std::vector<std::vector<size_t>> best_pairs;
    Levels best;
    for (int i = 0; i < 60; i++) {
      Levels c;
      for (size_t levels : kLevels)
        c.push_back(static_cast<size_t>(random.integer(0, static_cast<int64_t>(levels) - 1)));
      const auto& first = *open.begin();  // at least one is covered
      c[first[0]] = first[2];
      c[first[1]] = first[3];
      std::vector<std::vector<size_t>> pairs;
      for (size_t f = 0; f < c.size(); f++)
        for (size_t g = f + 1; g < c.size(); g++)
          if (open.count({f, g, c[f], c[g]}) != 0) pairs.push_back({f, g, c[f], c[g]});
      if (pairs.size() <= best_pairs.size()) continue;
      best_pairs = pairs;
      best = c;
    }
    for (const auto& pair : best_pairs) open.erase(pair);
    cases.push_back(best);
  }
  return cases;
}

/** One product under one plan; its bytes. */
class Run {
 public:
  explicit Run(const Levels& c)
      : form_(kForms[c[0]]),
        epilogue_(kEpilogues[c[8]]),
        shape_{kM[c[5]], kN[c[6]], kK[c[7]], false},
        target_{90, kMultiprocessors[c[4]], 227 * 1024} {
    plan_.tile = kRows[c[1]];
    plan_.cluster = kClusters[c[2]];
    plan_.k_per_split = round_up(cut(shape_.k, kSplits[c[3]]), hopper::kPanel);
    plan_.splits = static_cast<int>(cut(shape_.k, plan_.k_per_split));
    plan_.group = 2;
    const auto [m, n, k, fp32] = shape_;
    Random random(static_cast<uint64_t>(m * 31 + n * 7 + k));
    const bool a_along = a_sum_major(form_), b_along = b_sum_major(form_);
    a_ = std::make_unique<Buffer>(DType::BF16, a_along ? std::vector{m, k} : std::vector{k, m}, random.normal(m * k));
    b_ = std::make_unique<Buffer>(DType::BF16, b_along ? std::vector{n, k} : std::vector{k, n}, random.normal(n * k));
    const bool sliced = plan_.splits > 1;
    half_ = !sliced && epilogue_ <= Epilogue::HalfInPlace;
    if (!sliced && epilogue_ != Epilogue::Half && epilogue_ != Epilogue::Float)
      addend_ = std::make_unique<Buffer>(half_ ? DType::BF16 : DType::F32, std::vector{m, n}, random.normal(m * n));
    const Values a = a_->get(), b = b_->get();
    want_ = std::make_unique<Reference>(
        m, n, k, [&](int64_t i, int64_t p) { return a[static_cast<size_t>(a_along ? i * k + p : p * m + i)]; },
        [&](int64_t p, int64_t j) { return b[static_cast<size_t>(b_along ? j * k + p : p * n + j)]; });
  }

  std::vector<unsigned char> operator()() const {
    const auto [m, n, k, fp32] = shape_;
    const bool in_place = epilogue_ == Epilogue::HalfInPlace || epilogue_ == Epilogue::FloatAdd;
    Buffer c(half_ ? DType::BF16 : DType::F32, {plan_.splits * m, n});
    if (addend_ && in_place) c.set(addend_->get());
    const Buffer skip(DType::I32, {4}, Values(4, epilogue_ == Epilogue::FloatSkip ? 1.0 : 0.0));
    DeviceOperands device({*a_, *b_, c, addend_ ? addend_->tensor() : kAbsent, skip});
    const auto& on = device.tensors();
    Output out{on[2].data, nullptr, nullptr, m, n, n, m * n, half_, true};
    if (addend_) {
      out.addend = in_place ? on[2].data : on[3].data;
      if (!half_) out.skip = on[4].as<int32_t>();
    }
    const auto ld = [&](size_t i) { return on[i].shape[1]; };
    const Product<cuda::bf16> product{form_,
                                      shape_,
                                      {static_cast<const cuda::bf16*>(on[0].data), ld(0)},
                                      {static_cast<const cuda::bf16*>(on[1].data), ld(1)},
                                      out};
    cuda::Context context{test_stream(), target_, nullptr, nullptr, nullptr, nullptr, nullptr};
    {
      const Watch watch(describe());
      hopper::launch_product(product, plan_, out, context);
      test_stream().synchronize();
    }
    device.download();
    check_result(c);
    return joined({&c});
  }

  std::string describe() const {
    static const char* const kNames[] = {"forward", "dgrad", "wgrad"};
    std::ostringstream text;
    text << kNames[static_cast<int>(form_)] << " " << shape_.m << " x " << shape_.n << " x " << shape_.k << ", row "
         << plan_.tile << ", cluster " << plan_.cluster << ", " << plan_.splits << " parts, epilogue "
         << static_cast<int>(epilogue_) << ", " << target_.multiprocessors << " multiprocessors";
    return text.str();
  }

 private:
  void check_result(const Buffer& c) const {
    Values got = c.get();
    const size_t size = static_cast<size_t>(shape_.m * shape_.n);
    for (size_t at = size; at < got.size(); at++) got[at % size] += got[at];  // slices
    got.resize(size);
    const bool adds = addend_ && epilogue_ != Epilogue::FloatSkip;
    check_product(got, c.tensor().dtype, *want_, shape_.k, adds ? addend_->get() : Values{});
    c.check_guards();
  }

  Form form_;
  Epilogue epilogue_;
  Shape shape_;
  hopper::Plan plan_;
  cuda::Target target_;
  bool half_;
  std::unique_ptr<Buffer> a_, b_, addend_;
  std::unique_ptr<Reference> want_;
};

}  // namespace

TEST("every pair of form, tile, cluster, cut, epilogue and ragged shape is right, the same bits on every schedule") {
  if (!hopper::supported(device_target())) return;  // another GPU
  for (const Levels& c : pairwise()) {
    const Run run(c);
    try {
      same_bits_on_every_schedule([&] { return run(); });
    } catch (const std::exception& e) {
      throw Failure(run.describe() + ": " + e.what());
    }
  }
}

TEST_MAIN()
