// Times attention and its gradient at given shapes: attention_bench [batch seq heads kvHeads headDim [threads]].
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <vector>

#include "native/base/cpu_features.h"
#include "native/base/memory.h"
#include "native/cpu/kernels.h"
#include "native/ops/step_inputs.h"

using namespace thalweg;

namespace {

struct Setting {
  int64_t batch, seq, heads, kv_heads, dim;
};

Tensor tensor(Arena& memory, DType type, int64_t rows, int64_t width, bool random) {
  Tensor t;
  t.dtype = type, t.rank = 2, t.shape[0] = rows, t.shape[1] = width;
  memory = Arena(t.bytes(), "bench");
  t.data = memory.data();
  std::mt19937 engine(1);
  std::normal_distribution<float> normal;
  for (int64_t i = 0; random && i < rows * width; i++) {
    const float x = normal(engine);
    uint32_t bits;
    std::memcpy(&bits, &x, 4);
    if (type == DType::BF16)
      t.as<uint16_t>()[i] = static_cast<uint16_t>(bits >> 16);
    else
      t.as<float>()[i] = x;
  }
  return t;
}

/** Median seconds of one play, after one to warm up. */
template <class Params>
double seconds(void (*kernel)(const Params&, cpu::Context&), size_t (*size)(const Params&, int), const Params& p,
               ThreadPool& pool) {
  Arena memory(size(p, pool.threads()) + 64, "workspace");
  const std::vector<float> scalars(ops::kScalarCount);
  const std::vector<int32_t> integers(ops::kIntegerCount);
  cpu::Context ctx{pool, scalars.data(), integers.data(), memory.data(), nullptr};
  std::vector<double> times;
  for (int i = 0; i < 16; i++) {
    const auto start = std::chrono::steady_clock::now();
    kernel(p, ctx);
    times.push_back(std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  }
  std::nth_element(times.begin() + 1, times.begin() + 8, times.end());
  return times[8];
}

void bench(const Setting& s, DType act, Isa isa, ThreadPool& pool) {
  const auto& k = cpu::kernels_for(isa);
  const int64_t rows = s.batch * s.seq, width = (s.heads + 2 * s.kv_heads) * s.dim;
  Arena memory[5];
  ops::Attention f;
  f.qkv = tensor(memory[0], act, rows, width, true), f.y = tensor(memory[1], act, rows, s.heads * s.dim, false);
  f.lse = tensor(memory[2], DType::F32, rows, s.heads, false);
  f.seq = s.seq, f.heads = s.heads, f.kv_heads = s.kv_heads, f.head_dim = s.dim, f.rows = rows;
  f.scale = 1.0f / __builtin_sqrtf(static_cast<float>(s.dim));
  ops::AttentionBackward b;
  b.qkv = f.qkv, b.y = f.y, b.lse = f.lse, b.dy = tensor(memory[3], act, rows, s.heads * s.dim, true);
  b.dqkv = tensor(memory[4], act, rows, width, false);
  b.seq = s.seq, b.heads = s.heads, b.kv_heads = s.kv_heads, b.head_dim = s.dim, b.scale = f.scale, b.rows = rows;
  const double forward = seconds(k.attention, k.attention_workspace, f, pool);
  const double backward = seconds(k.attention_backward, k.attention_backward_workspace, b, pool);
  const double flops =
      4.0 * static_cast<double>(s.batch * s.heads * s.dim) * static_cast<double>(s.seq * (s.seq + 1) / 2);
  std::printf(
      "%-8s %-4s b%-2lld t%-5lld h%lld/%lld d%-3lld  forward %8.3f ms %6.0f GFLOP/s   backward %8.3f ms %6.0f "
      "GFLOP/s\n",
      isa_name(isa), dtype_name(act), static_cast<long long>(s.batch), static_cast<long long>(s.seq),
      static_cast<long long>(s.heads), static_cast<long long>(s.kv_heads), static_cast<long long>(s.dim), forward * 1e3,
      flops / forward * 1e-9, backward * 1e3, 2.5 * flops / backward * 1e-9);
  std::fflush(stdout);
}

}  // namespace

int main(int argc, char** argv) {
  std::vector<Setting> settings = {
      {8, 256, 4, 4, 64}, {4, 256, 12, 12, 64}, {1, 4096, 12, 12, 64}, {4, 512, 20, 20, 48}, {2, 512, 16, 4, 128}};
  const auto number = [&](int i) { return std::atoll(argv[i]); };
  if (argc > 5) settings = {{number(1), number(2), number(3), number(4), number(5)}};
  ThreadPool pool(argc > 6 ? std::atoi(argv[6]) : available_cpus());
  for (Isa isa : {Isa::Amx, Isa::Avx512, Isa::Avx2, Isa::Portable}) {
    if (isa > selected_isa()) continue;
    for (const Setting& s : settings)
      for (DType act : {DType::BF16, DType::F32}) bench(s, act, isa, pool);
  }
}
