#include "native/cuda/ptx/mma.h"
#include "native/cuda/ptx/tma.h"
#include "native/cuda/ptx/wgmma.h"
#include "test/native/conformance/box.h"

namespace conformance {

namespace {

using namespace cuda;
using Bf16 = cuda::bf16;

__global__ void store_matrix_kernel(const uint32_t* x, uint32_t* out) {
  auto& shared = shared_memory<uint32_t[256]>();
  const int lane = lane_index();
  const uint32_t r[4] = {x[lane], x[32 + lane], x[64 + lane], x[96 + lane]};
  store_matrix_x4(shared + lane * 4, r);
  store_matrix_x4_transposed(shared + 128 + lane * 4, r);
  sync_warp();
  for (int i = 0; i < 8; i++) out[i * 32 + lane] = shared[i * 32 + lane];
}

/** Panels lie 64 rows of 128 bytes apart, or `Apart` times as many: the descriptor's leading offset. */
template <int N, int Apart>
struct ProductShared {
  static constexpr int kPanels = (N + 63) / 64;
  Bf16 a[64 * 64];
  Bf16 b[kPanels * Apart * 64 * 64];
  uint64_t full;
};

/** D [64, N] = A [64, 64] B [64, N]: three K-steps of 16 from shared memory, then, A from registers, a fourth. */
template <int N, int AMn, int BMn, int Apart>
__global__ void __launch_bounds__(128, 1)
    product_kernel(const __grid_constant__ TensorMap a, const __grid_constant__ TensorMap b, uint32_t* out) {
  auto& s = shared_memory<ProductShared<N, Apart>>();
  const auto thread = static_cast<int>(threadIdx.x);
  if (thread == 0) {
    mbarrier_init(&s.full, 1);
    mbarrier_init_fence();
    mbarrier_arrive_expect(&s.full, (1 + s.kPanels) * 64 * 64 * 2);
    tma_load_2d(s.a, a, &s.full, 0, 0);
    for (int panel = 0; panel < s.kPanels; panel++)
      tma_load_2d(s.b + panel * Apart * 64 * 64, b, &s.full, BMn ? panel * 64 : 0, BMn ? 0 : panel * 64);
  }
  sync_threads();
  mbarrier_wait(&s.full, 0);
  float d[N / 2];
  constexpr uint32_t kLeading = Apart * 8192;
  const uint32_t a0 = shared_address(s.a), b0 = shared_address(s.b);
  const auto pair = static_cast<uint32_t>(0x3F803F80 + (thread % 4) * 0x00800000);  // 1 and 1, 2, 4, 8
  const uint32_t fragment[4] = {pair, pair, pair, pair};
  wgmma_fence();
  UNROLL
  for (uint32_t i = 0; i < 3; i++) {
    const uint64_t left = AMn ? matrix_descriptor(a0 + i * 2048, 8192, 1024) : matrix_descriptor(a0 + i * 32, 16, 1024);
    const uint64_t right =
        BMn ? matrix_descriptor(b0 + i * 2048, kLeading, 1024) : matrix_descriptor(b0 + i * 32, 16, 1024);
    Wgmma<N, AMn, BMn>::shared(d, left, right, i > 0);
  }
  wgmma_fence();  // the fragment's registers were written
  Wgmma<N, 0, BMn>::registers(
      d, fragment, BMn ? matrix_descriptor(b0 + 3 * 2048, kLeading, 1024) : matrix_descriptor(b0 + 3 * 32, 16, 1024),
      1);
  wgmma_commit();
  wgmma_wait<0>();
  UNROLL
  for (int i = 0; i < N / 2; i++) out[i * 128 + thread] = bits_of_float(d[i]);
}

/** Registers move from one warpgroup to the others, all that the block has, and the block goes on. */
template <int Threads, int Left, int Claimed>
__global__ void __launch_bounds__(Threads, 1) registers_kernel(uint32_t* out) {
  if (threadIdx.x < 128) {
    release_registers<Left>();
    out[threadIdx.x] = 1;
  } else {
    claim_registers<Claimed>();
    out[threadIdx.x] = 2;
  }
}

/** Swizzled tiles and descriptors count on it. */
__global__ void alignment_kernel(uint32_t* out) {
  out[threadIdx.x] = shared_address(&shared_memory<uint32_t[256]>()) % 1024;
}

template <int N, int AMn, int BMn, int Apart = 1>
void add_product() {
  const std::string name = "wgmma n" + std::to_string(N) + (AMn ? ", A MN-major" : ", A K-major") +
                           (BMn ? ", B MN-major" : ", B K-major") + (Apart > 1 ? ", panels apart" : "");
  cases().push_back({name, 90, 0, [](Stream& stream) {
                       const OnDevice<uint16_t> a(stream, small_integers(64 * 64, 5)),
                           b(stream, small_integers(N * 64, 6));
                       const TensorMap right = map_of(b.data(), BMn ? N : 64, BMn ? 64 : N, 64, 64, BoxSwizzle::B128);
                       return collect(stream, N / 2 * 128, product_kernel<N, AMn, BMn, Apart>,
                                      {{1, 1, 1}, 128, 1, sizeof(ProductShared<N, Apart>)},
                                      map_of(a.data(), 64, 64, 64, 64, BoxSwizzle::B128), right);
                     }});
}

/** Every width and pair of majors that a kernel of ours multiplies. */
void add_products() {
  add_product<48, 0, 1>();
  add_product<48, 1, 1>();
  add_product<64, 0, 0>();
  add_product<64, 0, 1>();
  add_product<64, 1, 1>();
  add_product<128, 0, 0>();
  add_product<128, 0, 1>();
  add_product<128, 0, 1, 2>();
  add_product<128, 1, 1>();
  add_product<192, 0, 0>();
  add_product<192, 0, 1>();
  add_product<192, 1, 1>();
  add_product<256, 0, 0>();
  add_product<256, 0, 1>();
  add_product<256, 1, 1>();
  add_product<48, 0, 0>();
  add_product<128, 1, 0>();
}

template <int Threads, int Left, int Claimed>
void add_registers() {
  const std::string name = "setmaxnreg, " + std::to_string(Threads) + " threads, " + std::to_string(Left) + " and " +
                           std::to_string(Claimed);
  cases().push_back({name, 90, 0, [](Stream& s) {
                       return collect(s, Threads, registers_kernel<Threads, Left, Claimed>, {{1, 1, 1}, Threads, 1, 0});
                     }});
}

}  // namespace

/** wgmma, and what its kernels need beside it. */
void add_product_cases() {
  cases().push_back({"shared memory begins at a multiple of 1024", 90, 0, [](Stream& s) {
                       return collect(s, 32, alignment_kernel, {{1, 1, 1}, 32, 1, 1024});
                     }});
  add_products();
  cases().push_back({"stmatrix", 90, 0, [](Stream& stream) {
                       std::vector<uint32_t> input;
                       for (uint64_t i = 0; i < 128; i++) input.push_back(word(i));
                       const OnDevice<uint32_t> x(stream, input);
                       return collect(stream, 256, store_matrix_kernel, {{1, 1, 1}, 32, 1, 1024},
                                      static_cast<const uint32_t*>(x.data()));
                     }});
  add_registers<384, 40, 232>();
  add_registers<384, 24, 240>();
  add_registers<512, 32, 160>();
}

}  // namespace conformance
