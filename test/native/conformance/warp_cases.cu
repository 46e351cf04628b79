#include "native/cuda/ptx/copy_async.h"
#include "native/cuda/ptx/math.h"
#include "native/cuda/ptx/mma.h"
#include "native/cuda/reduce.h"
#include "test/native/conformance/case.h"

namespace conformance {

namespace {

using namespace cuda;
using Bf16 = cuda::bf16;

const GridShape kWarpShape{{1, 1, 1}, 32, 1, 8192};

__global__ void pack_kernel(const float* x, uint32_t* out) {
  out[threadIdx.x] = pack_bf16(x[2 * threadIdx.x], x[2 * threadIdx.x + 1]);
}

template <int Function>
__global__ void math_kernel(const float* x, uint32_t* out) {
  const float v = x[threadIdx.x];
  const float y = Function == 0 ? exp2_fast(v) : Function == 1 ? log2_fast(fabsf(v)) : reciprocal_fast(v);
  out[threadIdx.x] = bits_of_float(y);
}

__global__ void shuffle_kernel(uint32_t* out) {
  const int lane = lane_index();
  const auto value = static_cast<uint32_t>(lane * 7 + 3);
  uint32_t* row = out + lane * 8;
  row[0] = shuffle_xor(value, 5);
  row[1] = shuffle_xor(value, 1, 4);
  row[2] = shuffle_down(value, 3);
  row[3] = shuffle_up(value, 6);
  row[4] = shuffle_from(value, (lane * 5) % 32);
  row[5] = shuffle_from(value, 2, 8);
  row[6] = warp_ballot(lane % 3 == 0);
  row[7] = static_cast<uint32_t>(count_bits(value));
}

__global__ void sums_kernel(uint32_t* out) {
  auto& scratch = shared_memory<double[4]>();
  const auto i = static_cast<int>(threadIdx.x);
  const double sum = block_sum<128>(1.0 / (i + 1), scratch);
  out[i] = bits_of_float(static_cast<float>(sum));
}

__global__ void copy_kernel(const uint32_t* x, uint32_t* out) {
  auto& shared = shared_memory<uint32_t[128]>();
  const int lane = lane_index();
  copy_async_16(shared + lane * 4, x + lane * 4, static_cast<uint32_t>(lane % 5 * 4));
  copy_async_commit();
  copy_async_wait<0>();
  sync_warp();
  for (int i = 0; i < 4; i++) out[i * 32 + lane] = shared[i * 32 + lane];
}

/** Which element of a 32x8 tile comes to which register. */
template <bool Transposed>
__global__ void load_matrix_kernel(const uint32_t* x, uint32_t* out) {
  auto& shared = shared_memory<uint32_t[128]>();
  const int lane = lane_index();
  for (int i = 0; i < 4; i++) shared[i * 32 + lane] = x[i * 32 + lane];
  sync_warp();
  uint32_t r[4];
  if (Transposed)
    load_matrix_x4_transposed(r, shared + lane * 4);
  else
    load_matrix_x4(r, shared + lane * 4);
  for (int i = 0; i < 4; i++) out[i * 32 + lane] = r[i];
}

__global__ void mma_kernel(const uint32_t* x, uint32_t* out) {
  const int lane = lane_index();
  const uint32_t a[4] = {x[lane], x[32 + lane], x[64 + lane], x[96 + lane]};
  float d[4] = {1, 2, 3, 4};
  mma_m16n8k16(d, a, x[128 + lane], x[160 + lane]);
  for (int i = 0; i < 4; i++) out[i * 32 + lane] = bits_of_float(d[i]);
}

__global__ void named_barrier_kernel(uint32_t* out) {
  auto& shared = shared_memory<uint32_t[128]>();
  const auto i = static_cast<int>(threadIdx.x);
  if (i < 64) {
    shared[i] = static_cast<uint32_t>(i * i);
    named_barrier_arrive<2, 128>();
    out[i] = 0;
  } else {
    named_barrier_sync<2, 128>();
    out[i] = shared[i - 64];
  }
}

float host_float(uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, 4);
  return value;
}

std::vector<float> hard_floats(size_t count) {
  std::vector<float> x;
  for (size_t i = 0; i < count; i++) x.push_back(host_float(word(i)));
  const uint32_t chosen[] = {
      0x3F808000, 0x3F818000, 0x3F807FFF, 0x3F808001, 0x7F7FFFFF, 0x7F800000,
      0xFF800000, 0x7FC00000, 0x00000000, 0x80000000, 0x00000001, 0x00008000};  // ties, limits, NaN, subnormal
  for (size_t i = 0; i < std::size(chosen); i++) x[i] = host_float(chosen[i]);
  return x;
}

/** Results that are exact on both sides: zero, infinity, one; no subnormal, which the GPU takes for zero. */
std::vector<float> extreme_floats() {
  const float inf = INFINITY;
  std::vector<float> x{-inf, inf, 0.0f, -0.0f, -300.0f, 300.0f};
  x.resize(32, -inf);
  return x;
}

std::vector<float> moderate_floats(size_t count) {
  std::vector<float> x;
  for (size_t i = 0; i < count; i++) x.push_back((static_cast<float>(word(i) % 200001) - 100000.0f) / 5000.0f + 1e-3f);
  return x;
}

std::vector<uint32_t> words_of(size_t count, uint64_t salt) {
  std::vector<uint32_t> out;
  for (size_t i = 0; i < count; i++) out.push_back(word(salt * 7919 + i));
  return out;
}

std::vector<uint32_t> pairs_of(const std::vector<uint16_t>& halves) {
  std::vector<uint32_t> out(halves.size() / 2);
  std::memcpy(out.data(), halves.data(), halves.size() * 2);
  return out;
}

template <class T, class Kernel>
void add(const char* name, double tolerance, size_t words, GridShape shape, std::vector<T> input, Kernel kernel,
         int capability = 80) {
  cases().push_back({name, capability, tolerance, [=](Stream& stream) {
                       const OnDevice<T> x(stream, input);
                       return collect(stream, words, kernel, shape, static_cast<const T*>(x.data()));
                     }});
}

}  // namespace

void add_warp_cases() {
  const GridShape wide{{1, 1, 1}, 128, 1, 8192};
  add("pack_bf16", 0, 128, wide, hard_floats(256), pack_kernel);
  add("exp2_fast", 5e-7, 128, wide, moderate_floats(128), math_kernel<0>);
  add("log2_fast", 1e-5, 128, wide, moderate_floats(128), math_kernel<1>);
  add("reciprocal_fast", 5e-7, 128, wide, moderate_floats(128), math_kernel<2>);
  add("exp2_fast, extremes", 0, 32, kWarpShape, extreme_floats(), math_kernel<0>);
  add("reciprocal_fast, extremes", 0, 32, kWarpShape, std::vector<float>(32, INFINITY), math_kernel<2>);
  cases().push_back(
      {"shuffles and votes", 80, 0, [](Stream& s) { return collect(s, 256, shuffle_kernel, kWarpShape); }});
  cases().push_back({"block sums", 80, 0, [=](Stream& s) { return collect(s, 128, sums_kernel, wide); }});
  cases().push_back({"named barriers", 80, 0, [=](Stream& s) { return collect(s, 128, named_barrier_kernel, wide); }});
  add("cp.async with zero fill", 0, 128, kWarpShape, words_of(128, 1), copy_kernel);
  add("ldmatrix", 0, 128, kWarpShape, words_of(128, 2), load_matrix_kernel<false>);
  add("ldmatrix.trans", 0, 128, kWarpShape, words_of(128, 3), load_matrix_kernel<true>);
  add("mma.m16n8k16", 0, 128, kWarpShape, pairs_of(small_integers(384, 4)), mma_kernel);
}

}  // namespace conformance
