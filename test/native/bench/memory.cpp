#include "test/native/bench/harness.h"

namespace bench {

namespace {

struct Sizes {
  int64_t rows, dim, ffn, heads, head_dim, vocab, parameters, copy;
};

/** One op on `sets` of operands made by make(set); bytes = what must be moved. */
template <class Params, class Make, class Enqueue>
void one(Device& device, const Options& options, const char* name, double bytes,
         std::vector<std::pair<std::string, int64_t>> fields, const std::vector<double>& attributes, Make make,
         Enqueue enqueue, size_t (*workspace)(const Params&, const cuda::Target&)) {
  const int sets = sets_for(options, bytes);
  std::vector<Params> params;
  for (int i = 0; i < sets; i++) params.push_back(Params::decode({Params::kName, "bench", make(), attributes}));
  Measurement m{"memory", name, std::move(fields), 0, bytes, {}, sets};
  m.enqueue = [&](int set, cuda::Context& ctx) { enqueue(params[static_cast<size_t>(set)], ctx); };
  run(device, options, workspace(params[0], device.properties().target), m);
  device.release();
}

}  // namespace

void memory_benchmarks(Device& device, const Options& options) {
  const Sizes s = options.tiny ? Sizes{8, 32, 48, 2, 16, 64, 1000, 4096}
                               : Sizes{16384, 2048, 8192, 16, 128, 32000, int64_t{1} << 28, int64_t{1} << 28};
  constexpr DType kAct = DType::BF16;
  const auto act = [&](int64_t rows, int64_t columns) {
    return tensor(device.normal(kAct, rows * columns), kAct, {rows, columns});
  };
  const auto f32 = [&](std::vector<int64_t> shape) {
    int64_t count = 1;
    for (int64_t n : shape) count *= n;
    return tensor(device.normal(DType::F32, count), DType::F32, shape);
  };
  const auto half_bytes = [](int64_t elements) { return 2.0 * static_cast<double>(elements); };
  const double words = 4.0 * static_cast<double>(s.copy), heads = static_cast<double>(s.heads),
               head_dim = static_cast<double>(s.head_dim);
  one<ops::Copy>(
      device, options, "copy", 2 * words, {{"elements", s.copy}}, {},
      [&] {
        return std::vector<Tensor>{f32({s.copy}), f32({s.copy})};
      },
      cuda::copy, cuda::copy_workspace);
  for (int64_t dim : options.tiny ? std::vector{s.dim} : std::vector<int64_t>{768, s.dim}) {
    one<ops::Rmsnorm>(
        device, options, "rmsnorm", half_bytes(2 * s.rows * dim), {{"rows", s.rows}, {"dim", dim}}, {1e-5},
        [&] {
          return std::vector<Tensor>{act(s.rows, dim), f32({dim}), act(s.rows, dim), f32({s.rows})};
        },
        cuda::rmsnorm, cuda::rmsnorm_workspace);
    one<ops::RmsnormBackward>(
        device, options, "rmsnorm backward with addend", half_bytes(4 * s.rows * dim), {{"rows", s.rows}, {"dim", dim}},
        {0},
        [&] {
          return std::vector<Tensor>{act(s.rows, dim), f32({dim}),       f32({s.rows}), act(s.rows, dim),
                                     act(s.rows, dim), act(s.rows, dim), f32({dim})};
        },
        cuda::rmsnorm_backward, cuda::rmsnorm_backward_workspace);
  }
  one<ops::Swiglu>(
      device, options, "swiglu", half_bytes(3 * s.rows * s.ffn), {{"rows", s.rows}, {"ffn", s.ffn}},
      {static_cast<double>(s.ffn)},
      [&] {
        return std::vector<Tensor>{act(s.rows, 2 * s.ffn), act(s.rows, s.ffn)};
      },
      cuda::swiglu, cuda::swiglu_workspace);
  one<ops::SwigluBackward>(
      device, options, "swiglu backward", half_bytes(5 * s.rows * s.ffn), {{"rows", s.rows}, {"ffn", s.ffn}},
      {static_cast<double>(s.ffn)},
      [&] {
        return std::vector<Tensor>{act(s.rows, 2 * s.ffn), act(s.rows, s.ffn), act(s.rows, 2 * s.ffn)};
      },
      cuda::swiglu_backward, cuda::swiglu_backward_workspace);
  const int64_t width = 3 * s.heads * s.head_dim, seq = options.tiny ? 4 : 4096;
  one<ops::Rope>(
      device, options, "rope", half_bytes(2 * s.rows * width),
      {{"rows", s.rows}, {"heads", s.heads}, {"headDim", s.head_dim}},
      {static_cast<double>(seq), heads, heads, head_dim, 0},
      [&] {
        return std::vector<Tensor>{act(s.rows, width), f32({seq, s.head_dim}), act(s.rows, width)};
      },
      cuda::rope, cuda::rope_workspace);
  const int64_t rows = options.tiny ? 8 : 4096;
  std::vector<int32_t> targets;
  for (int64_t i = 0; i < rows; i++) targets.push_back(static_cast<int32_t>(i * 7919 % s.vocab));
  one<ops::Classifier>(
      device, options, "classifier with gradient", half_bytes(2 * rows * s.vocab), {{"rows", rows}, {"vocab", s.vocab}},
      {static_cast<double>(s.vocab), 0},
      [&] {
        const Tensor logits = act(rows, s.vocab);
        return std::vector<Tensor>{logits, tensor(device.integers(targets), DType::I32, {rows}), f32({rows}),
                                   f32({rows}), logits};
      },
      cuda::classifier, cuda::classifier_workspace);
  one<ops::GradNorm>(
      device, options, "gradient norm", 4.0 * static_cast<double>(s.parameters), {{"parameters", s.parameters}}, {},
      [&] {
        return std::vector<Tensor>{f32({s.parameters}), f32({1}), f32({1}), tensor(device.zeros(4), DType::I32, {1})};
      },
      cuda::grad_norm, cuda::grad_norm_workspace);
  one<ops::Adamw>(
      device, options, "adamw", 28.0 * static_cast<double>(s.parameters), {{"parameters", s.parameters}}, {1, 1},
      [&] {
        return std::vector<Tensor>{
            f32({s.parameters}),
            f32({1}),
            tensor(device.zeros(4), DType::I32, {1}),
            f32({s.parameters}),
            f32({s.parameters}),
            tensor(device.zeros(static_cast<size_t>(s.parameters) * 4), DType::F32, {s.parameters})};
      },
      cuda::adamw, cuda::adamw_workspace);
}

}  // namespace bench
