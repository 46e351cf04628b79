#include "native/cuda/ptx/turn.h"
#include "test/native/conformance/box.h"

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

struct TurnShared {
  float terms[128];
};

/** Blocks add to the same numbers in turns, and the order shows in the bits. There are more blocks than a GPU holds at
 * a time: those that run must be those that begin. */
__global__ void add_in_turns_kernel(float* sums, int* counter, uint32_t* out) {
  auto& s = shared_memory<TurnShared>();
  const int turn = static_cast<int>(blockIdx.x), first = static_cast<int>(threadIdx.x) * 4;
  Vector<float, 4> terms;
  for (int i = 0; i < 4; i++)
    terms[i] = static_cast<float>((turn % 2 == 0 ? 1 : -1) * (1 + (turn * 37 + (first + i) * 11) % 101)) / 7.0f;
  store_for_async(s.terms + first, terms);
  fence_proxy_async();
  sync_warp();
  if (threadIdx.x != 0) return;
  wait_for_turn(counter, turn);
  if (turn == 0)
    bulk_store(sums, s.terms, sizeof s.terms);
  else
    bulk_store_add(sums, s.terms, sizeof s.terms);
  bulk_commit();
  bulk_wait<0>();
  pass_turn(counter, turn);
  out[turn] = 1;
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

struct HalvesShared {
  Bf16 tile[64 * 16];
  uint64_t full;
};

/** Each block multicasts half of a tile to both; the other's half may come before this block expects it. */
__global__ void halves_kernel(const __grid_constant__ TensorMap map, uint32_t* out) {
  auto& s = shared_memory<HalvesShared>();
  const uint32_t rank = cluster_rank();
  if (threadIdx.x == 0) {
    mbarrier_init(&s.full, 1);
    mbarrier_init_fence();
  }
  cluster_sync();
  if (threadIdx.x == 0) {
    tma_load_2d_multicast(s.tile + rank * 64 * 8, map, &s.full, 0, static_cast<int>(rank) * 8, 3);
    mbarrier_arrive_expect(&s.full, sizeof s.tile);
  }
  mbarrier_wait(&s.full, 0);
  for (uint32_t i = threadIdx.x; i < 1024; i += 32) out[rank * 1024 + i] = s.tile[i].bits;
  sync_warp();
  cluster_sync();
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
    // Inside, over each edge, and boxes with nothing inside: all their bytes must come too.
    for (const auto& [x, y] : {std::pair{0, 0}, {40, 24}, {0, -3}, {0, 64}, {128, 0}}) {
      const std::string name =
          std::string("swizzle ") + kind.name + ", row " + std::to_string(y) + ", column " + std::to_string(x);
      const uint32_t bytes = kind.columns * 32 * 2;
      cases().push_back({"TMA load, " + name, 90, 0, [=, x = x, y = y](Stream& stream) {
                           const OnDevice<uint16_t> t(stream, numbered(72 * 40));
                           return collect(stream, bytes / 2, load_box_kernel, {{1, 1, 1}, 32, 1, sizeof(BoxShared)},
                                          map_of(t.data(), 72, 40, kind.columns, 32, kind.swizzle), x, y, bytes);
                         }});
      if (y < 0) continue;  // stores start inside the tensor
      cases().push_back(
          {"TMA store, " + name, 90, 0, [=, x = x, y = y](Stream& stream) {
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
  for (int row : {0, 8, 16, 32})
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
  cases().push_back(
      {"bulk additions in turns, more blocks than run at a time", 90, 0, [](Stream& stream) {
         constexpr unsigned kBlocks = 300;
         constexpr size_t kAlone = 200 * 1024;  // of shared memory: one block a multiprocessor
         const OnDevice<int> counter(stream, std::vector<int>(1, 0));
         const OnDevice<float> sums(stream, std::vector<float>(128, 0.0f));
         collect(stream, kBlocks, add_in_turns_kernel, {{kBlocks, 1, 1}, 32, 1, kAlone}, sums.data(), counter.data());
         return as_words(stream, sums.data(), 128 * 4);
       }});
}

void add_cluster_cases() {
  cases().push_back({"clusters: multicast, remote arrival, mapped memory", 90, 0, [](Stream& stream) {
                       const OnDevice<uint16_t> t(stream, numbered(64 * 8));
                       return collect(stream, 2 * 513, cluster_kernel, {{2, 1, 1}, 32, 2, sizeof(ClusterShared)},
                                      map_of(t.data(), 64, 8, 64, 8, BoxSwizzle::B128));
                     }});
  cases().push_back({"clusters: each block multicasts half", 90, 0, [](Stream& stream) {
                       const OnDevice<uint16_t> t(stream, numbered(64 * 16));
                       return collect(stream, 2 * 1024, halves_kernel, {{2, 1, 1}, 32, 2, sizeof(HalvesShared)},
                                      map_of(t.data(), 64, 16, 64, 8, BoxSwizzle::B128));
                     }});
}

}  // namespace

/** TMA, bulk copies, turns, clusters. */
void add_copy_cases() {
  add_box_cases();
  add_bulk_cases();
  add_cluster_cases();
}

}  // namespace conformance
