#pragma once
#include "native/cuda/ptx/mma.h"
#include "native/cuda/ptx/tma.h"
#include "native/cuda/ptx/wgmma.h"
#include "test/native/simt/support.h"

/**
 * A small warp-specialised matrix product as Hopper kernels are built, with bugs to choose from: TMA loads into a ring
 * of stages, two consumer warpgroups of wgmma, a swizzled epilogue through stmatrix and a TMA store. D [M, N] = op(A)
 * op(B).
 */
namespace check {

enum class GemmBug {
  None,
  NoEmptyWait,        // a stage is filled again while it is read
  WrongParity,        // the producer waits for a phase that never ends
  NoFullWait,         // products of a stage that has not arrived
  SwappedOffsets,     // LBO and SBO of the MN-major descriptor exchanged
  EarlyRelease,       // the stage is given back before wgmma has read it
  StagingReused,      // the epilogue's buffer is written before the last store read it
  NoEpilogueSwizzle,  // stmatrix rows not where the tensor map's swizzle expects them
  NoProxyFence,       // generic writes not shown to the asynchronous proxy
  NoWgmmaFence,
  NoInitFence,
  TooFewBytes,      // expect_tx counts only A
  NoFinalWait,      // the block exits while its store still reads shared memory
  GreedyRegisters,  // more registers claimed than were released: 384 * 168, not the multiprocessor's 65,536
  NoBarrier,        // the store starts before all warps wrote
};

constexpr int kGemmM = 128, kGemmN = 128, kGemmK = 64, kGemmStages = 3;

struct GemmShared {
  cuda::bf16 a[kGemmStages][kGemmM * kGemmK];
  cuda::bf16 b[kGemmStages][kGemmN * kGemmK];
  cuda::bf16 d[kGemmM * kGemmN];
  uint64_t full[kGemmStages], empty[kGemmStages];
};

struct GemmRing {
  int stage = 0;
  uint32_t phase = 0;
  void advance() {
    if (++stage == kGemmStages) {
      stage = 0;
      phase ^= 1;
    }
  }
};

template <int AMn, int BMn, GemmBug Bug>
void produce(GemmShared& s, const cuda::TensorMap& a, const cuda::TensorMap& b, int tiles, int tiles_n, int blocks) {
  using namespace cuda;
  GemmRing ring;
  for (int t = static_cast<int>(blockIdx.x); t < tiles; t += static_cast<int>(gridDim.x)) {
    const int m0 = t / tiles_n * kGemmM, n0 = t % tiles_n * kGemmN;
    for (int k = 0; k < blocks; k++, ring.advance()) {
      if (Bug != GemmBug::NoEmptyWait)
        mbarrier_wait(&s.empty[ring.stage], ring.phase ^ (Bug == GemmBug::WrongParity ? 0 : 1));
      const uint32_t bytes = (kGemmM + (Bug == GemmBug::TooFewBytes ? 0 : kGemmN)) * kGemmK * 2;
      mbarrier_arrive_expect(&s.full[ring.stage], bytes);
      for (int h = 0; h < (AMn ? kGemmM / 64 : 1); h++) {
        cuda::bf16* to = s.a[ring.stage] + h * 64 * kGemmK;
        AMn ? tma_load_2d(to, a, &s.full[ring.stage], m0 + h * 64, k * kGemmK)
            : tma_load_2d(to, a, &s.full[ring.stage], k * kGemmK, m0);
      }
      for (int h = 0; h < (BMn ? kGemmN / 64 : 1); h++) {
        cuda::bf16* to = s.b[ring.stage] + h * 64 * kGemmK;
        BMn ? tma_load_2d(to, b, &s.full[ring.stage], n0 + h * 64, k * kGemmK)
            : tma_load_2d(to, b, &s.full[ring.stage], k * kGemmK, n0);
      }
    }
  }
}

template <GemmBug Bug>
void store_tile(GemmShared& s, const float (&acc)[64], const cuda::TensorMap& d, int group, int m0, int n0) {
  using namespace cuda;
  const int thread = static_cast<int>(threadIdx.x) % 128, lane = thread % 32, warp = thread / 32;
  const auto meet = [&] { group == 0 ? named_barrier_sync<1, 128>() : named_barrier_sync<2, 128>(); };
  if (Bug != GemmBug::StagingReused && thread == 0) bulk_wait_read<0>();
  meet();
  for (int j = 0; j < 8; j++) {
    const int row = group * 64 + warp * 16 + lane % 16, column = j * 16 + lane / 16 * 8;
    const int half = column / 64, chunk = column % 64 / 8;
    const uint32_t pairs[4] = {pack_bf16(acc[j * 8], acc[j * 8 + 1]), pack_bf16(acc[j * 8 + 2], acc[j * 8 + 3]),
                               pack_bf16(acc[j * 8 + 4], acc[j * 8 + 5]), pack_bf16(acc[j * 8 + 6], acc[j * 8 + 7])};
    const int place = Bug == GemmBug::NoEpilogueSwizzle ? chunk : chunk ^ row % 8;
    store_matrix_x4(s.d + half * kGemmM * 64 + row * 64 + place * 8, pairs);
  }
  if (Bug != GemmBug::NoProxyFence) fence_proxy_async();
  if (Bug != GemmBug::NoBarrier) meet();
  if (thread != 0) return;
  for (int h = 0; h < 2; h++) tma_store_2d(d, s.d + h * kGemmM * 64 + group * 64 * 64, n0 + h * 64, m0 + group * 64);
  bulk_commit();
}

template <int AMn, int BMn, GemmBug Bug>
void consume(GemmShared& s, const cuda::TensorMap& d, int tiles, int tiles_n, int blocks) {
  using namespace cuda;
  const int group = static_cast<int>(threadIdx.x) / 128 - 1, thread = static_cast<int>(threadIdx.x) % 128;
  GemmRing ring;
  float acc[64];
  for (int t = static_cast<int>(blockIdx.x); t < tiles; t += static_cast<int>(gridDim.x)) {
    for (int k = 0; k < blocks; k++, ring.advance()) {
      if (Bug != GemmBug::NoFullWait) mbarrier_wait(&s.full[ring.stage], ring.phase);
      if (Bug != GemmBug::NoWgmmaFence) wgmma_fence();
      const uint32_t a0 =
          shared_address(s.a[ring.stage]) + static_cast<uint32_t>(group) * 64 * (AMn ? kGemmK * 2 : 128);
      const uint32_t b0 = shared_address(s.b[ring.stage]);
      constexpr bool kSwap = Bug == GemmBug::SwappedOffsets;
      for (uint32_t i = 0; i < kGemmK / 16; i++) {
        const uint64_t a =
            AMn ? matrix_descriptor(a0 + i * 2048, kGemmK * 128, 1024) : matrix_descriptor(a0 + i * 32, 16, 1024);
        const uint64_t b =
            BMn ? matrix_descriptor(b0 + i * 2048, kSwap ? 1024 : kGemmK * 128, kSwap ? kGemmK * 128 : 1024)
                : matrix_descriptor(b0 + i * 32, 16, 1024);
        Wgmma<128, AMn, BMn>::shared(acc, a, b, k > 0 || i > 0);
      }
      wgmma_commit();
      if (Bug == GemmBug::EarlyRelease && thread == 0) mbarrier_arrive(&s.empty[ring.stage]);
      wgmma_wait<0>();
      if (Bug != GemmBug::EarlyRelease && thread == 0) mbarrier_arrive(&s.empty[ring.stage]);
    }
    store_tile<Bug>(s, acc, d, group, t / tiles_n * kGemmM, t % tiles_n * kGemmN);
  }
  if (Bug != GemmBug::NoFinalWait && thread == 0) bulk_wait_read<0>();
}

template <int AMn, int BMn, GemmBug Bug>
void hopper_gemm(cuda::TensorMap a, cuda::TensorMap b, cuda::TensorMap d, int m, int n, int k) {
  using namespace cuda;
  auto& s = shared_memory<GemmShared>();
  const int tiles_n = (n + kGemmN - 1) / kGemmN, tiles = (m + kGemmM - 1) / kGemmM * tiles_n,
            blocks = (k + kGemmK - 1) / kGemmK;
  if (threadIdx.x == 0) {
    for (int i = 0; i < kGemmStages; i++) {
      mbarrier_init(&s.full[i], 1);
      mbarrier_init(&s.empty[i], 2);
    }
    if (Bug != GemmBug::NoInitFence) mbarrier_init_fence();
  }
  sync_threads();
  if (threadIdx.x < 128) {
    release_registers<Bug == GemmBug::GreedyRegisters ? 32 : 40>();
    if (threadIdx.x == 0) produce<AMn, BMn, Bug>(s, a, b, tiles, tiles_n, blocks);
  } else {
    claim_registers<Bug == GemmBug::GreedyRegisters ? 240 : 232>();
    consume<AMn, BMn, Bug>(s, d, tiles, tiles_n, blocks);
  }
}

/** One product on random operands; returns what is wrong with it. */
template <int AMn, int BMn, GemmBug Bug>
std::string run_gemm(int m, int n, int k, unsigned blocks) {
  Random random(11);
  const auto a = bf16_values(random.normal(m * k)), b = bf16_values(random.normal(n * k));
  std::vector<cuda::bf16> d(static_cast<size_t>(m * n), {0x7FFF});
  const auto map = [](const std::vector<cuda::bf16>& values, int inner, int outer, uint32_t rows) {
    cuda::TensorBox box;
    box.base = values.data();
    box.size[0] = static_cast<uint64_t>(inner);
    box.size[1] = static_cast<uint64_t>(outer);
    box.stride[1] = static_cast<uint64_t>(inner) * 2;
    box.box[0] = 64;
    box.box[1] = rows;
    return cuda::make_tensor_map(box);
  };
  cuda::GridShape shape{{blocks, 1, 1}, 384, 1, sizeof(GemmShared)};
  launch(simt_stream(), hopper_gemm<AMn, BMn, Bug>, shape, map(a, AMn ? m : k, AMn ? k : m, AMn ? 64 : kGemmM),
         map(b, BMn ? n : k, BMn ? k : n, BMn ? 64 : kGemmN), map(d, n, m, 64), m, n, k);
  const Values a64 = doubles(a), b64 = doubles(b);
  Values want;
  for (int i = 0; i < m; i++)
    for (int j = 0; j < n; j++) {
      double sum = 0;
      for (int x = 0; x < k; x++)
        sum += a64[static_cast<size_t>(AMn ? x * m + i : i * k + x)] *
               b64[static_cast<size_t>(BMn ? x * n + j : j * k + x)];
      want.push_back(sum);
    }
  const double error = relative_error(doubles(d), want);
  return error < 4e-3 ? "" : "relative error " + std::to_string(error);  // one rounding to bf16: 2^-9 at most
}

}  // namespace check
