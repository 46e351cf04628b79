#include "native/cuda/ptx/mma.h"
#include "native/cuda/ptx/turn.h"
#include "native/cuda/ptx/wgmma.h"
#include "native/cuda/tensor_map.h"
#include "test/native/conformance/case.h"

namespace conformance {

namespace {

using namespace cuda;
using Bf16 = cuda::bf16;

struct BoxShared {
  Bf16 box[64 * 64];
  uint64_t full;
};

DEVICE void wait_for_box(BoxShared& s, uint32_t bytes, const TensorMap& map, int x, int y) {
  if (threadIdx.x == 0) {
    mbarrier_init(&s.full, 1);
    mbarrier_init_fence();
    mbarrier_arrive_expect(&s.full, bytes);
    tma_load_2d(s.box, map, &s.full, x, y);
  }
  sync_threads();
  mbarrier_wait(&s.full, 0);
}

/** Where the elements of a box lie in shared memory. */
__global__ void load_box_kernel(const __grid_constant__ TensorMap map, int x, int y, uint32_t bytes, uint32_t* out) {
  auto& s = shared_memory<BoxShared>();
  wait_for_box(s, bytes, map, x, y);
  for (uint32_t i = threadIdx.x; i < bytes / 2; i += 32) out[i] = s.box[i].bits;
}

/** A box in and out again; the host looks at the tensor stored to. */
__global__ void store_box_kernel(const __grid_constant__ TensorMap from, const __grid_constant__ TensorMap to, int x,
                                 int y, uint32_t bytes, uint32_t* out) {
  auto& s = shared_memory<BoxShared>();
  wait_for_box(s, bytes, from, x, y);
  if (threadIdx.x == 0) {
    tma_store_2d(to, s.box, x, y);
    bulk_commit();
    bulk_wait_read<0>();
    out[0] = 1;
  }
}

/** The same with four axes; the box's rows are 128 bytes, more than the tensor's. */
__global__ void box_4d_kernel(const __grid_constant__ TensorMap from, const __grid_constant__ TensorMap to, int head,
                              int row, uint32_t* out) {
  auto& s = shared_memory<BoxShared>();
  if (threadIdx.x == 0) {
    mbarrier_init(&s.full, 1);
    mbarrier_init_fence();
    mbarrier_arrive_expect(&s.full, 64 * 16 * 2);
    tma_load_4d(s.box, from, &s.full, 0, head, row, 1);
  }
  sync_threads();
  mbarrier_wait(&s.full, 0);
  for (uint32_t i = threadIdx.x; i < 64 * 16; i += 32) out[i] = s.box[i].bits;
  if (threadIdx.x == 0) {
    tma_store_4d(to, s.box, 0, head, row, 1);
    bulk_commit();
    bulk_wait<0>();
  }
}

struct RunShared {
  float run[64];
  uint64_t full;
};

/** Dense bytes in, out, and added. */
__global__ void run_kernel(const float* from, float* to, float* sum, uint32_t* out) {
  auto& s = shared_memory<RunShared>();
  if (threadIdx.x == 0) {
    mbarrier_init(&s.full, 1);
    mbarrier_init_fence();
    mbarrier_arrive_expect(&s.full, 256);
    bulk_load(s.run, from, 256, &s.full);
  }
  sync_threads();
  mbarrier_wait(&s.full, 0);
  out[threadIdx.x] = bits_of_float(s.run[threadIdx.x]);
  if (threadIdx.x == 0) {
    bulk_store(to, s.run, 128);
    bulk_store_add(sum, s.run, 256);
    bulk_commit();
    bulk_wait<0>();
  }
}

/** Blocks write one after the other, each what the one before left and its own number. */
__global__ void turn_kernel(int* counter, uint32_t* out) {
  if (threadIdx.x != 0) return;
  const int turn = static_cast<int>(blockIdx.x);
  wait_for_turn(counter, turn);
  out[turn] = (turn == 0 ? 1 : out[turn - 1]) * 3 + static_cast<uint32_t>(turn);
  pass_turn(counter, turn);
}

struct AddShared {
  float box[32 * 8];
};

__global__ void add_box_kernel(const __grid_constant__ TensorMap to, uint32_t* out) {
  auto& s = shared_memory<AddShared>();
  for (int i = 0; i < 2; i++) {
    const int at = (static_cast<int>(threadIdx.x) * 2 + i) * 4;
    store_for_async(s.box + at, Vector<float, 4>{{static_cast<float>(at), 1.0f, 2.0f, -3.0f}});
  }
  fence_proxy_async();
  sync_threads();
  if (threadIdx.x == 0) {
    tma_store_add_2d(to, s.box, 0, 0);
    bulk_commit();
    bulk_wait_read<0>();
    out[0] = 1;
  }
}

__global__ void store_matrix_kernel(const uint32_t* x, uint32_t* out) {
  auto& shared = shared_memory<uint32_t[256]>();
  const int lane = lane_index();
  const uint32_t r[4] = {x[lane], x[32 + lane], x[64 + lane], x[96 + lane]};
  store_matrix_x4(shared + lane * 4, r);
  store_matrix_x4_transposed(shared + 128 + lane * 4, r);
  sync_warp();
  for (int i = 0; i < 8; i++) out[i * 32 + lane] = shared[i * 32 + lane];
}

struct ClusterShared {
  Bf16 tile[64 * 8];
  uint64_t full, met;
  uint32_t word;
};

/** Block 0 multicasts a tile, blocks arrive at each other's barriers and read each other's memory. */
__global__ void cluster_kernel(const __grid_constant__ TensorMap map, uint32_t* out) {
  auto& s = shared_memory<ClusterShared>();
  const uint32_t rank = cluster_rank();
  if (threadIdx.x == 0) {
    mbarrier_init(&s.full, 1);
    mbarrier_init(&s.met, 2);
    mbarrier_init_fence();
    s.word = 100 + rank;
  }
  cluster_sync();
  if (threadIdx.x == 0) {
    mbarrier_arrive_expect(&s.full, 64 * 8 * 2);
    if (rank == 0) tma_load_2d_multicast(s.tile, map, &s.full, 0, 0, 3);
    mbarrier_arrive_remote(&s.met, 0);
    mbarrier_arrive_remote(&s.met, 1);
  }
  mbarrier_wait(&s.full, 0);
  mbarrier_wait(&s.met, 0);
  uint32_t* row = out + rank * 513;
  for (uint32_t i = threadIdx.x; i < 512; i += 32) row[i] = s.tile[i].bits;
  if (threadIdx.x == 0) row[512] = *map_shared(&s.word, 1 - rank);
  cluster_sync();
}

template <int N>
struct ProductShared {
  static constexpr int kPanels = (N + 63) / 64;
  Bf16 a[64 * 64];
  Bf16 b[kPanels * 64 * 64];
  uint64_t full;
};

/** D [64, N] = A [64, 64] B [64, N]: two K-steps of 16 from shared memory, then, A from registers, a third. */
template <int N, int AMn, int BMn>
__global__ void __launch_bounds__(128, 1)
    product_kernel(const __grid_constant__ TensorMap a, const __grid_constant__ TensorMap b, uint32_t* out) {
  auto& s = shared_memory<ProductShared<N>>();
  const auto thread = static_cast<int>(threadIdx.x);
  if (thread == 0) {
    mbarrier_init(&s.full, 1);
    mbarrier_init_fence();
    mbarrier_arrive_expect(&s.full, (1 + s.kPanels) * 64 * 64 * 2);
    tma_load_2d(s.a, a, &s.full, 0, 0);
    for (int panel = 0; panel < s.kPanels; panel++)
      tma_load_2d(s.b + panel * 64 * 64, b, &s.full, BMn ? panel * 64 : 0, BMn ? 0 : panel * 64);
  }
  sync_threads();
  mbarrier_wait(&s.full, 0);
  float d[N / 2];
  const uint32_t a0 = shared_address(s.a), b0 = shared_address(s.b);
  const auto pair = static_cast<uint32_t>(0x3F803F80 + (thread % 4) * 0x00800000);  // 1 and 1, 2, 4, 8
  const uint32_t fragment[4] = {pair, pair, pair, pair};
  wgmma_fence();  // after the fragment was written: its registers enter the last product
  UNROLL
  for (uint32_t i = 0; i < 2; i++) {
    const uint64_t left = AMn ? matrix_descriptor(a0 + i * 2048, 8192, 1024) : matrix_descriptor(a0 + i * 32, 16, 1024);
    const uint64_t right =
        BMn ? matrix_descriptor(b0 + i * 2048, 8192, 1024) : matrix_descriptor(b0 + i * 32, 16, 1024);
    Wgmma<N, AMn, BMn>::shared(d, left, right, i > 0);
  }
  Wgmma<N, 0, BMn>::registers(
      d, fragment, BMn ? matrix_descriptor(b0 + 2 * 2048, 8192, 1024) : matrix_descriptor(b0 + 2 * 32, 16, 1024), 1);
  wgmma_commit();
  wgmma_wait<0>();
  UNROLL
  for (int i = 0; i < N / 2; i++) out[i * 128 + thread] = bits_of_float(d[i]);
}

/** Registers move from one warpgroup to another and the block goes on. */
__global__ void __launch_bounds__(384, 1) registers_kernel(uint32_t* out) {
  if (threadIdx.x < 128) {
    release_registers<40>();
    out[threadIdx.x] = 1;
  } else {
    claim_registers<232>();
    out[threadIdx.x] = 2;
  }
}

TensorMap map_of(const void* base, uint64_t inner, uint64_t outer, uint32_t columns, uint32_t rows, BoxSwizzle swizzle,
                 uint32_t element_bytes = 2) {
  TensorBox box;
  box.base = base;
  box.size[0] = inner;
  box.size[1] = outer;
  box.stride[1] = inner * element_bytes;
  box.box[0] = columns;
  box.box[1] = rows;
  box.element_bytes = element_bytes;
  box.swizzle = swizzle;
  return make_tensor_map(box);
}

std::vector<uint16_t> numbered(size_t count) {
  std::vector<uint16_t> out;
  for (size_t i = 0; i < count; i++) out.push_back(static_cast<uint16_t>(i + 1));
  return out;
}

Words as_words(Stream& stream, const void* device, size_t bytes) {
  Words words(bytes / 4);
  stream.download(words.data(), device, bytes);
  return words;
}

void add_box_cases() {
  struct Kind {
    const char* name;
    BoxSwizzle swizzle;
    uint32_t columns;
  };
  for (const Kind kind : {Kind{"none", BoxSwizzle::None, 64},
                          {"32 bytes", BoxSwizzle::B32, 16},
                          {"64 bytes", BoxSwizzle::B64, 32},
                          {"128 bytes", BoxSwizzle::B128, 64}})
    for (int y : {0, 24, -3}) {
      const std::string name = std::string("swizzle ") + kind.name + ", row " + std::to_string(y);
      const int x = y == 24 ? 40 : 0;
      const uint32_t bytes = kind.columns * 32 * 2;
      cases().push_back({"TMA load, " + name, 90, 0, [=](Stream& stream) {
                           const OnDevice<uint16_t> t(stream, numbered(72 * 40));
                           return collect(stream, bytes / 2, load_box_kernel, {{1, 1, 1}, 32, 1, sizeof(BoxShared)},
                                          map_of(t.data(), 72, 40, kind.columns, 32, kind.swizzle), x, y, bytes);
                         }});
      cases().push_back(
          {"TMA store, " + name, 90, 0, [=](Stream& stream) {
             const OnDevice<uint16_t> t(stream, numbered(72 * 40)), to(stream, std::vector<uint16_t>(72 * 40, 0x4242));
             const auto map = [&](const void* base) { return map_of(base, 72, 40, kind.columns, 32, kind.swizzle); };
             collect(stream, 1, store_box_kernel, {{1, 1, 1}, 32, 1, sizeof(BoxShared)}, map(t.data()), map(to.data()),
                     x, y, bytes);
             return as_words(stream, to.data(), 72 * 40 * 2);
           }});
    }
  cases().push_back({"TMA add of fp32", 90, 0, [](Stream& stream) {
                       const OnDevice<float> to(stream, std::vector<float>(32 * 6, 0.5f));
                       collect(stream, 1, add_box_kernel, {{1, 1, 1}, 32, 1, sizeof(AddShared)},
                               map_of(to.data(), 32, 6, 32, 8, BoxSwizzle::None, 4));
                       return as_words(stream, to.data(), 32 * 6 * 4);
                     }});
}

void add_bulk_cases() {
  for (int row : {0, 8, 16})
    for (int out : {0, 1})  // what came, and what was stored
      cases().push_back(
          {"TMA, four axes, row " + std::to_string(row) + (out == 0 ? ", load" : ", store"), 90, 0,
           [=](Stream& stream) {
             constexpr uint32_t kColumns = 48, kHeads = 3, kRows = 20, kSequences = 2;
             constexpr size_t kCount = kColumns * kHeads * kRows * kSequences;
             const OnDevice<uint16_t> t(stream, numbered(kCount)), to(stream, std::vector<uint16_t>(kCount, 0x4242));
             const auto map = [](const void* base) {
               TensorBox box;
               box.base = base;
               box.rank = 4;
               box.size[0] = kColumns, box.size[1] = kHeads, box.size[2] = kRows, box.size[3] = kSequences;
               box.stride[1] = kColumns * 2, box.stride[2] = box.stride[1] * kHeads;
               box.stride[3] = box.stride[2] * kRows;
               box.box[0] = 64, box.box[2] = 16;
               return make_tensor_map(box);
             };
             const Words came = collect(stream, 64 * 16, box_4d_kernel, {{1, 1, 1}, 32, 1, sizeof(BoxShared)},
                                        map(t.data()), map(to.data()), 1, row);
             return out == 0 ? came : as_words(stream, to.data(), kCount * 2);
           }});
  for (int which : {0, 1, 2})
    cases().push_back({std::string("bulk copy, ") + (which == 0   ? "in"
                                                     : which == 1 ? "out"
                                                                  : "added"),
                       90, 0, [=](Stream& stream) {
                         std::vector<float> values;
                         for (int i = 0; i < 64; i++) values.push_back(static_cast<float>(i - 20));
                         const OnDevice<float> from(stream, values), to(stream, std::vector<float>(64, 0.5f)),
                             sum(stream, std::vector<float>(64, 0.5f));
                         const Words came = collect(stream, 32, run_kernel, {{1, 1, 1}, 32, 1, sizeof(RunShared)},
                                                    static_cast<const float*>(from.data()), to.data(), sum.data());
                         return which == 0 ? came : as_words(stream, which == 1 ? to.data() : sum.data(), 256);
                       }});
  cases().push_back({"turns among blocks", 90, 0, [](Stream& stream) {
                       const OnDevice<int> counter(stream, std::vector<int>(1, 0));
                       return collect(stream, 8, turn_kernel, {{8, 1, 1}, 32, 1, 0}, counter.data());
                     }});
}

template <int N, int AMn, int BMn>
void add_product() {
  const std::string name =
      "wgmma n" + std::to_string(N) + (AMn ? ", A MN-major" : ", A K-major") + (BMn ? ", B MN-major" : ", B K-major");
  cases().push_back(
      {name, 90, 0, [](Stream& stream) {
         const OnDevice<uint16_t> a(stream, small_integers(64 * 64, 5)), b(stream, small_integers(N * 64, 6));
         const TensorMap right = map_of(b.data(), BMn ? N : 64, BMn ? 64 : N, 64, 64, BoxSwizzle::B128);
         return collect(stream, N / 2 * 128, product_kernel<N, AMn, BMn>, {{1, 1, 1}, 128, 1, sizeof(ProductShared<N>)},
                        map_of(a.data(), 64, 64, 64, 64, BoxSwizzle::B128), right);
       }});
}

}  // namespace

void add_hopper_cases() {
  add_box_cases();
  add_bulk_cases();
  add_product<48, 0, 1>();
  add_product<48, 0, 0>();
  add_product<64, 0, 0>();
  add_product<128, 0, 1>();
  add_product<128, 1, 0>();
  add_product<192, 0, 1>();
  add_product<256, 0, 0>();
  add_product<256, 1, 1>();
  cases().push_back({"stmatrix", 90, 0, [](Stream& stream) {
                       std::vector<uint32_t> input;
                       for (uint64_t i = 0; i < 128; i++) input.push_back(word(i));
                       const OnDevice<uint32_t> x(stream, input);
                       return collect(stream, 256, store_matrix_kernel, {{1, 1, 1}, 32, 1, 1024},
                                      static_cast<const uint32_t*>(x.data()));
                     }});
  cases().push_back({"clusters: multicast, remote arrival, mapped memory", 90, 0, [](Stream& stream) {
                       const OnDevice<uint16_t> t(stream, numbered(64 * 8));
                       return collect(stream, 2 * 513, cluster_kernel, {{2, 1, 1}, 32, 2, sizeof(ClusterShared)},
                                      map_of(t.data(), 64, 8, 64, 8, BoxSwizzle::B128));
                     }});
  cases().push_back({"setmaxnreg", 90, 0, [](Stream& s) {
                       return collect(s, 384, registers_kernel, {{1, 1, 1}, 384, 1, 0});
                     }});
}

}  // namespace conformance
