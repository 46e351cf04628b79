#include <chrono>
#include <cstring>
#include <thread>

#include "native/base/memory.h"
#include "test/native/command.h"

// GFLOP/s of the three products at the shapes of the example models: linear_bench [path] [threads] [filter].
// One line per shape and form: median and best of the samples, each at least kSampleSeconds long.
namespace {

using namespace check;
using cpu::Orientation;

constexpr int kSamples = 7;
constexpr double kSampleSeconds = 0.02;

struct Shape {
  const char* model;
  int64_t rows, n, k;
};
const Shape kShapes[] = {
    {"tiny", 1024, 192, 64},   {"tiny", 1024, 336, 64},    {"tiny", 1024, 256, 64},   {"10m", 2048, 768, 256},
    {"10m", 2048, 256, 256},   {"10m", 2048, 1408, 256},   {"10m", 2048, 256, 704},   {"10m", 512, 8192, 256},
    {"124m", 1024, 2304, 768}, {"124m", 1024, 768, 768},   {"124m", 1024, 4096, 768}, {"124m", 1024, 768, 2048},
    {"124m", 256, 50257, 768}, {"124m", 1024, 50257, 768},
};

double seconds() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

/** Both packed copies of one weight, where the path wants them. */
class Packings : public cpu::PackedTable {
 public:
  Packings(const cpu::Kernels& kernels, const Tensor& weight, DType act) : act_(act) {
    const int64_t n = weight.shape[0], k = weight.shape[1];
    for (Orientation o : {Orientation::Forward, Orientation::Dgrad}) {
      const size_t bytes = kernels.packed_weight_bytes(n, k, act, o);
      if (bytes == 0) continue;
      auto& copy = copies_[static_cast<int>(o)];
      copy = Arena(bytes, "packed weight");
      kernels.pack_weight_rows(weight.as<float>(), n, k, 0, n, {o, act, copy.data()});
    }
  }
  const void* find(const void*, Orientation o, DType act) const override {
    return act == act_ ? copies_[static_cast<int>(o)].data() : nullptr;
  }
  int all(const void*, cpu::Packed*) const override { return 0; }

 private:
  DType act_;
  Arena copies_[2];
};

template <class Call>
void measure(const char* form, const Shape& s, DType act, Call call) {
  call();
  const double begin = seconds();
  call();
  const int repeats = std::max(1, static_cast<int>(kSampleSeconds / (seconds() - begin)));
  std::vector<double> rates;
  for (int i = 0; i < kSamples; i++) {
    const double start = seconds();
    for (int r = 0; r < repeats; r++) call();
    rates.push_back(2e-9 * static_cast<double>(s.rows * s.n * s.k) * repeats / (seconds() - start));
  }
  std::sort(rates.begin(), rates.end());
  std::printf("%-5s %-7s %-4s rows %5lld n %6lld k %5lld  %8.1f GFLOP/s (best %.1f)\n", s.model, form, dtype_name(act),
              static_cast<long long>(s.rows), static_cast<long long>(s.n), static_cast<long long>(s.k),
              rates[kSamples / 2], rates.back());
  std::fflush(stdout);
}

/** Small values that differ: denormals and zeros would flatter nobody, but constants would hide nothing either. */
Tensor filled(const Arena& memory, DType dtype, int64_t rows, int64_t cols) {
  Tensor t{memory.data(), dtype, 2, {rows, cols, 0, 0}};
  for (int64_t i = 0; i < t.numel(); i++) {
    const float value = static_cast<float>(i * 37 % 101) / 50.0f - 1.0f;
    if (dtype == DType::F32)
      t.as<float>()[i] = value;
    else
      t.as<bf16>()[i] = bf16_of(value);
  }
  return t;
}

void bench(const cpu::Kernels& kernels, ThreadPool& pool, const Shape& s, DType act) {
  const size_t size = dtype_size(act);
  const Arena x_memory(s.rows * s.k * size, "x"), y_memory(s.rows * s.n * size, "y");
  const Arena w_memory(s.n * s.k * 4, "weight"), dw_memory(s.n * s.k * 4, "dweight");
  const Tensor x = filled(x_memory, act, s.rows, s.k), y = filled(y_memory, act, s.rows, s.n);
  const Tensor w = filled(w_memory, DType::F32, s.n, s.k), dw = filled(dw_memory, DType::F32, s.n, s.k);
  const Packings packings(kernels, w, act);
  const Setting setting;
  const auto play = [&](const char* form, auto p, auto kernel, auto workspace) {
    const Arena room(workspace(p, pool.threads()) + 64, "workspace");
    cpu::Context ctx{pool, setting.scalars.data(), setting.integers.data(), room.data(), &packings};
    measure(form, s, act, [&] { kernel(p, ctx); });
  };
  play("forward", ops::Linear{x, w, kAbsent, y, s.rows, s.k, s.n}, kernels.linear, kernels.linear_workspace);
  play("dgrad", ops::LinearDgrad{y, w, kAbsent, x, s.rows, s.n, s.k}, kernels.linear_dgrad,
       kernels.linear_dgrad_workspace);
  play("wgrad", ops::LinearWgrad{x, y, dw, ops::kAdd, s.rows, s.k, s.n}, kernels.linear_wgrad,
       kernels.linear_wgrad_workspace);
}

}  // namespace

int main(int argc, char** argv) {
  Isa isa = selected_isa();
  if (argc > 1)
    for (Isa one : available_paths())
      if (std::strcmp(isa_name(one), argv[1]) == 0) isa = one;
  ThreadPool pool(argc > 2 ? std::atoi(argv[2]) : available_cpus());
  const char* filter = argc > 3 ? argv[3] : "";
  std::printf("path %s, threads %d\n", isa_name(isa), pool.threads());
  for (const Shape& s : kShapes)
    for (DType act : {DType::F32, DType::BF16})
      if ((std::string(s.model) + " " + dtype_name(act)).find(filter) != std::string::npos)
        bench(cpu::kernels_for(isa), pool, s, act);
}
