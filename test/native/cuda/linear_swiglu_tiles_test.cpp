#include "native/cuda/kernels/hopper_matmul.h"
#include "native/cuda/kernels/matmul_swiglu.h"
#include "test/native/cuda/matmul_reference.h"

// Products fused with SwiGLU and its gradient under plans that the cost model might never choose for such shapes: every
// tile of both tables, alone and in a cluster, ragged in every direction, gate and up kept or not, in place and not.
// The two kernels apart say what the bits are; test/native/cuda/linear_swiglu_test.cpp holds those against float64.
namespace {

using namespace check;
using namespace cuda::matmul;
namespace hopper = cuda::matmul::hopper;

struct Case {
  int64_t m, ffn, k;
  int multiprocessors;
};
/** A few steps of the sum and more of them than any ring has slots; rows, columns and sums that end within a tile. */
const std::vector<Case> kCases = {{200, 136, 328, 3}, {128, 128, 64, 2}, {40, 72, 40, 2}, {392, 264, 72, 4}};

using Bytes = std::vector<unsigned char>;

/** One kernel under one plan: what it leaves in gate and up, and in its result. */
class Run {
 public:
  Run(Fusion fusion, const Case& c)
      : fusion_(fusion),
        case_(c),
        target_{90, c.multiprocessors, 227 * 1024},
        shape_{c.m, fusion == Fusion::kSwiglu ? 2 * c.ffn : c.ffn, c.k, false},
        random_(static_cast<uint64_t>(c.m * 31 + c.ffn * 7 + c.k)),
        a_(DType::BF16, {c.m, c.k}, random_.normal(c.m * c.k)),
        b_(DType::BF16, forward() ? std::vector{2 * c.ffn, c.k} : std::vector{c.k, c.ffn},
           random_.normal(shape_.n * c.k)),
        gate_up_(DType::BF16, {c.m, 2 * c.ffn}, random_.normal(c.m * 2 * c.ffn)) {}

  bool forward() const { return fusion_ == Fusion::kSwiglu; }

  /** The product alone by launch(product, context), then the op that follows; the sum must be whole. */
  template <class Launch>
  Bytes apart(Launch launch) const {
    const Buffer between(DType::BF16, {case_.m, shape_.n});
    DeviceOperands device({a_, b_, between});
    const auto& on = device.tensors();
    const Output out{on[2].data, nullptr, nullptr, case_.m, shape_.n, shape_.n, 0, true, true};
    cuda::Context context = context_on(test_stream());
    {
      const Watch watch("the product of " + sizes());
      launch(Product<cuda::bf16>{forward() ? Form::kForward : Form::kDgrad, shape_, matrix(on[0]), matrix(on[1]), out},
             context);
      test_stream().synchronize();
    }
    device.download();
    return behind(between);
  }

  /** By ops that fuse nothing, mma.sync's, whose bits do not depend on the tile: of an fp32 master of the same values.
   */
  Bytes apart_as_ops() const {
    const Buffer weight(DType::F32, {b_.tensor().shape[0], b_.tensor().shape[1]}, b_.get());
    const Buffer between(DType::BF16, {case_.m, shape_.n});
    on_device(80, 2, [&] {
      if (forward())
        run_op<ops::Linear>({a_, weight, kAbsent, between}, {});
      else
        run_op<ops::LinearDgrad>({a_, weight, kAbsent, between}, {});
    });
    return behind(between);
  }

  /** `variant` 0: gate and up kept, or the gradient beside them; 1: not kept, or in place. */
  template <class Launch>
  Bytes fused(int variant, Launch launch) const {
    const Buffer gate_up(DType::BF16, {case_.m, 2 * case_.ffn}), result(DType::BF16, result_shape());
    const Buffer& wide = forward() ? gate_up : gate_up_;
    const Buffer taken(DType::BF16, {case_.m, 2 * case_.ffn}, gate_up_.get());
    DeviceOperands device({a_, b_, forward() || variant == 0 ? wide : taken, result});
    const auto& on = device.tensors();
    auto* both = static_cast<cuda::bf16*>(on[2].data);
    auto* made = static_cast<cuda::bf16*>(on[3].data);
    SwigluTensors t{both, made, case_.m, case_.ffn};
    if (variant == 1 && forward()) t.gate_up = nullptr;
    if (variant == 1 && !forward()) t.result = both;
    cuda::Context context = context_on(test_stream());
    {
      const Watch watch(std::string(forward() ? "SwiGLU" : "its gradient") + " in the product of " + sizes());
      launch(shape_, matrix(on[0]), matrix(on[1]), t, context);
      test_stream().synchronize();
    }
    device.download();
    if (!forward()) return joined({variant == 0 ? &result : &taken});
    return variant == 0 ? joined({&gate_up, &result}) : joined({&result});
  }

 private:
  std::string sizes() const {
    return std::to_string(case_.m) + " x " + std::to_string(shape_.n) + " x " + std::to_string(case_.k);
  }
  static Matrix<cuda::bf16> matrix(const Tensor& t) { return {static_cast<const cuda::bf16*>(t.data), t.shape[1]}; }
  cuda::Context context_on(cuda::Stream& stream) const {
    return {stream, target_, nullptr, nullptr, nullptr, nullptr, nullptr};
  }
  /** The op that follows the product. */
  Bytes behind(const Buffer& between) const {
    const Buffer result(DType::BF16, result_shape());
    if (forward()) {
      run_op<ops::Swiglu>({between, result}, {double(case_.ffn)});
      return joined({&between, &result});
    }
    run_op<ops::SwigluBackward>({gate_up_, between, result}, {double(case_.ffn)});
    return joined({&result});
  }
  std::vector<int64_t> result_shape() const { return {case_.m, forward() ? case_.ffn : 2 * case_.ffn}; }

  Fusion fusion_;
  Case case_;
  cuda::Target target_;
  Shape shape_;
  Random random_;
  Buffer a_, b_, gate_up_;
};

/** launch(...) for both fusions and variants, against apart(run): of the first case, and of another for each plan. */
template <class Apart, class Launch>
void same_as_apart(const std::string& name, int plan, Apart apart, Launch launch) {
  for (Fusion fusion : {Fusion::kSwiglu, Fusion::kSwigluGradient})
    for (size_t which : {size_t{0}, 1 + static_cast<size_t>(plan) % (kCases.size() - 1)}) {
      const Case& c = kCases[which];
      const Run run(fusion, c);
      const Bytes want = apart(run);
      for (int variant : {0, 1}) {
        const Bytes expected = variant == 1 && run.forward()
                                   ? Bytes(want.end() - 2 * static_cast<ptrdiff_t>(c.m * c.ffn), want.end())
                                   : want;
        try {
          on_every_schedule([&] {
            const Bytes got = run.fused(
                variant, [&](const Shape& s, const Matrix<cuda::bf16>& a, const Matrix<cuda::bf16>& b,
                             const SwigluTensors& t, cuda::Context& ctx) { launch(fusion, s, a, b, t, ctx); });
            CHECK(got == expected, "other bits than the kernels apart");
          });
        } catch (const std::exception& e) {
          std::ostringstream text;
          text << name << ", " << (run.forward() ? "forward " : "gradient ") << c.m << " x " << c.ffn << " x " << c.k
               << ", variant " << variant << ": " << e.what();
          throw Failure(text.str());
        }
      }
    }
}

}  // namespace

TEST("every wgmma tile, alone and in a cluster, gives the bits of the two kernels apart on every schedule") {
  if (!hopper::supported(device_target())) return;  // another GPU
  for (int row = 0; row < hopper::kTileCount; row++)
    for (int cluster : {1, 2}) {
      hopper::Plan plan;
      plan.tile = row;
      plan.cluster = cluster;
      plan.group = 2;
      const auto apart = [](const Run& run) {
        return run.apart([](const Product<cuda::bf16>& p, cuda::Context& ctx) {
          hopper::Plan plain;
          plain.k_per_split = round_up(p.shape.k, hopper::kPanel);
          hopper::launch_product(p, plain, p.out, ctx);
        });
      };
      const auto fused = [&](Fusion f, const Shape& s, const Matrix<cuda::bf16>& a, const Matrix<cuda::bf16>& b,
                             const SwigluTensors& t, cuda::Context& ctx) {
        plan.k_per_split = round_up(s.k, hopper::kPanel);
        hopper::launch_swiglu(f, s, a, b, plan, t, ctx);
      };
      same_as_apart("row " + std::to_string(row) + ", cluster " + std::to_string(cluster), 2 * row + cluster, apart,
                    fused);
    }
}

TEST("every mma.sync tile gives the bits of the two kernels apart on every schedule") {
  for (int row = 0; row < kTileCount; row++) {
    if (kTiles[row].kind != Kind::kTensorCores) continue;
    Plan plan;
    plan.tile = row;
    plan.group = 2;
    const auto fused = [&](Fusion f, const Shape& s, const Matrix<cuda::bf16>& a, const Matrix<cuda::bf16>& b,
                           const SwigluTensors& t, cuda::Context& ctx) {
      plan.k_per_split = round_up(s.k, kDepth);
      cuda::matmul::launch_swiglu(f, s, a, b, plan, t, ctx);
    };
    same_as_apart(
        "row " + std::to_string(row), row, [](const Run& run) { return run.apart_as_ops(); }, fused);
  }
}

TEST_MAIN()
