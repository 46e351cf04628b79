// Time of the kernels around the matrix products, at the shapes of a 10M and a 124M LLaMA step: best of several runs,
// bytes that must move, and their rate. Usage: rowwise_bench [threads] [op name]. One thread is timed by its own CPU
// clock, so that a busy machine disturbs it less; more threads by the wall clock.
#include <time.h>

#include <cstdio>
#include <cstring>

#include "test/native/command.h"
#include "test/native/reference.h"

using namespace check;

namespace {

int threads = 2;
const char* only = nullptr;

double now() {
  timespec t;
  clock_gettime(threads == 1 ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC, &t);
  return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

template <class Body>
double best_seconds(Body body) {
  double best = 1e9, spent = 0;
  for (int i = 0; i < 200 && (i < 5 || spent < 0.4); i++) {
    const double start = now();
    body();
    const double s = now() - start;
    if (i > 0) best = std::min(best, s);
    spent += s;
  }
  return best;
}

/** Memory filled with something harmless for any op. */
Buffer filled(DType dtype, std::vector<int64_t> shape) {
  Buffer b(dtype, std::move(shape));
  const int64_t n = b.tensor().numel();
  for (int64_t i = 0; i < n; i++) {
    const float x = static_cast<float>((i * 2654435761u) % 1000) / 500.0f - 1.0f;
    if (dtype == DType::F32) b.tensor().as<float>()[i] = x;
    if (dtype == DType::BF16) b.tensor().as<bf16>()[i] = bf16_of(x);
    if (dtype == DType::I32) b.tensor().as<int32_t>()[i] = static_cast<int32_t>((i * 40503) % 8000);
  }
  return b;
}

template <class Params>
void bench(const char* shape, double bytes, const std::vector<Tensor>& operands, const std::vector<double>& attributes,
           const Setting& setting = {}) {
  if (only != nullptr && std::strcmp(only, Params::kName) != 0) return;
  const Isa isa = selected_isa();
  const Params p = Params::decode({Params::kName, "bench", operands, attributes});
  const auto [kernel, workspace] = entry_of(cpu::kernels_for(isa), p);
  const Buffer room(DType::F32, {static_cast<int64_t>(workspace(p, threads) / 4 + 1)});
  cpu::Context context{pool_of(threads), setting.scalars.data(), setting.integers.data(),
                       static_cast<std::byte*>(room.tensor().data), nullptr};
  const double s = best_seconds([&] { kernel(p, context); });
  std::printf("%-18s %-26s %8.3f ms  %7.1f MB  %6.1f GB/s\n", Params::kName, shape, s * 1e3, bytes / 1e6,
              bytes / s / 1e9);
}

void bench_model(const char* name, int64_t rows, int64_t dim, int64_t ffn, int64_t vocab, int64_t heads, DType act) {
  const double size = act == DType::BF16 ? 2 : 4;
  const auto label = [&](int64_t a, int64_t b) {
    static char text[64];
    std::snprintf(text, sizeof text, "%s %s %ldx%ld", name, dtype_name(act), static_cast<long>(a),
                  static_cast<long>(b));
    return text;
  };
  Setting setting;
  setting.scalars[ops::kScalarLossScale] = 1e-6f;
  const double element = static_cast<double>(rows * dim) * size;
  {
    const Buffer x = filled(act, {rows, dim}), y = filled(act, {rows, dim}), w = filled(DType::F32, {dim});
    const Buffer rstd = filled(DType::F32, {rows}), addend = filled(act, {rows, dim}), dw = filled(DType::F32, {dim});
    bench<ops::Rmsnorm>(label(rows, dim), 2 * element, {x, w, y, rstd}, {1e-5});
    bench<ops::RmsnormBackward>(label(rows, dim), 4 * element, {x, w, rstd, y, addend, y, dw}, {0});
  }
  {
    const Buffer x = filled(act, {rows, 3 * dim}), table = filled(DType::F32, {1024, dim / heads});
    bench<ops::Rope>(label(rows, 3 * dim), 4 * element, {x, table, x},
                     {256, double(heads), double(heads), double(dim / heads), 0});
  }
  {
    const Buffer x = filled(act, {rows, 2 * ffn}), y = filled(act, {rows, ffn}), dx = filled(act, {rows, 2 * ffn});
    bench<ops::Swiglu>(label(rows, ffn), 3 * size * rows * ffn, {x, y}, {double(ffn)});
    bench<ops::SwigluBackward>(label(rows, ffn), 5 * size * rows * ffn, {x, y, dx}, {double(ffn)});
  }
  {
    const Buffer logits = filled(act, {rows, vocab}), targets = filled(DType::I32, {rows});
    const Buffer loss(DType::F32, {rows}), lse(DType::F32, {rows});
    const double bytes = size * rows * vocab;
    bench<ops::Classifier>(label(rows, vocab), 2 * bytes, {logits, targets, loss, lse, logits}, {double(vocab), 0},
                           setting);
    bench<ops::Classifier>(label(rows, vocab), bytes, {logits, targets, loss, lse, kAbsent}, {double(vocab), 0},
                           setting);
  }
  {
    const Buffer tokens = filled(DType::I32, {rows}), w = filled(DType::F32, {vocab, dim}),
                 y = filled(act, {rows, dim});
    bench<ops::Embedding>(label(rows, dim), element * (1 + 4 / size), {tokens, w, y}, {}, setting);
    bench<ops::EmbeddingBackward>(label(vocab, dim), 4.0 * vocab * dim + element, {tokens, y, w}, {0}, setting);
    bench<ops::EmbeddingBackward>(label(rows, dim), element * (1 + 8 / size), {tokens, y, w}, {1}, setting);
  }
}

void bench_optimizer(const char* name, int64_t n) {
  const Buffer grad = filled(DType::F32, {n}), param = filled(DType::F32, {n}), m = filled(DType::F32, {n});
  const Buffer v(DType::F32, {n}, Values(static_cast<size_t>(n), 0.25)), norm(DType::F32, {1}, {1.0});
  const Buffer status(DType::I32, {1}, {0}), loss(DType::F32, {1}, {1.0});
  Setting setting;
  setting.scalars = {1e-6f, 0.9f, 0.95f, 1e-8f, 1.1f, 1.1f, 0.1f, 1.0f, 1.0f};
  bench<ops::GradNorm>(name, 4.0 * n, {grad, loss, norm, status}, {});
  bench<ops::Adamw>(name, 28.0 * n, {grad, norm, status, param, m, v}, {1, 1}, setting);
  bench<ops::Copy>(name, 8.0 * n, {grad, param}, {});
  bench<ops::Axpy>(name, 12.0 * n, {grad, param}, {1e-3}, setting);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc > 1) threads = std::atoi(argv[1]);
  if (argc > 2) only = argv[2];
  std::printf("%s, %d threads\n", isa_name(selected_isa()), threads);
  for (DType act : {DType::BF16, DType::F32}) {
    bench_model("10m", 2048, 256, 704, 8192, 4, act);
    bench_model("124m", 1024, 768, 2048, 50257, 12, act);
  }
  bench_optimizer("10.6M", 10600000);
  bench_optimizer("38.6M", 38600000);
}
