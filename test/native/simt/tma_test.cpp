#include "native/cuda/ptx/tma.h"

#include "test/native/simt/support.h"

using namespace check;
using namespace thalweg::cuda;

namespace {

struct BoxShared {
  cuda::bf16 box[64 * 64];
  uint64_t full;
};

/** Copies a box into shared memory and, without touching it, out again: any swizzle must undo itself. The box goes to
 * where it came from, or to the tensor's start when that lies before it: stores start inside. */
void through_kernel(TensorMap from, TensorMap to, int x, int y, int bytes) {
  auto& s = shared_memory<BoxShared>();
  if (threadIdx.x == 0) {
    mbarrier_init(&s.full, 1);
    mbarrier_init_fence();
    mbarrier_arrive_expect(&s.full, static_cast<uint32_t>(bytes));
    tma_load_2d(s.box, from, &s.full, x, y);
    mbarrier_wait(&s.full, 0);
    tma_store_2d(to, s.box, x < 0 ? 0 : x, y < 0 ? 0 : y);
    bulk_commit();
    bulk_wait_read<0>();
  }
}

/** Stores a box, or adds one of fp32, at x, y. */
template <bool Add>
void store_kernel(TensorMap to, int x, int y) {
  auto& s = shared_memory<BoxShared>();
  for (int i = 0; i < 64 * 64 / 8; i++) store_for_async(s.box + 8 * i, Vector<cuda::bf16, 8>{});
  fence_proxy_async();
  if (threadIdx.x != 0) return;
  if (Add)
    tma_store_add_2d(to, s.box, x, y);
  else
    tma_store_2d(to, s.box, x, y);
  bulk_commit();
  bulk_wait<0>();
}

/** Adds `count` numbers to as many. */
void add_kernel(float* to, const float* terms, uint32_t count) {
  auto& s = shared_memory<BoxShared>();
  auto* shared = reinterpret_cast<float*>(s.box);
  for (uint32_t i = 0; i < count; i += 4) store_for_async(shared + i, load<4>(terms + i));
  fence_proxy_async();
  bulk_store_add(to, shared, count * 4);
  bulk_commit();
  bulk_wait<0>();
}

/** Writes where each 16-byte chunk of row r, chunk c of the box lies. */
void places_kernel(TensorMap from, cuda::bf16* out, int bytes) {
  auto& s = shared_memory<BoxShared>();
  if (threadIdx.x == 0) {
    mbarrier_init(&s.full, 1);
    mbarrier_init_fence();
    mbarrier_arrive_expect(&s.full, static_cast<uint32_t>(bytes));
    tma_load_2d(s.box, from, &s.full, 0, 0);
  }
  sync_threads();
  mbarrier_wait(&s.full, 0);
  for (int i = static_cast<int>(threadIdx.x); i < bytes / 2; i += kWarp) out[i] = s.box[i];
}

TensorBox box_of(const void* base, uint64_t inner, uint64_t outer, uint32_t columns, uint32_t rows,
                 BoxSwizzle swizzle) {
  TensorBox box;
  box.base = base;
  box.size[0] = inner;
  box.size[1] = outer;
  box.stride[1] = inner * 2;
  box.box[0] = columns;
  box.box[1] = rows;
  box.swizzle = swizzle;
  return box;
}

/** Blocks of a cluster: block 0 loads half a tile for both by multicast, each block loads its own; all sum both. */
enum class ClusterBug { None, NoClusterSync, LeavesEarly, BarrierOfOneOnly };

struct ClusterShared {
  cuda::bf16 shared_tile[64 * 8], own_tile[64 * 8];
  uint64_t full, empty;
  float sum;
};

template <ClusterBug Bug>
void cluster_kernel(TensorMap common, TensorMap own, float* out) {
  auto& s = shared_memory<ClusterShared>();
  const uint32_t rank = cluster_rank();
  if (threadIdx.x == 0) {
    mbarrier_init(&s.full, 1);
    mbarrier_init(&s.empty, 2);
    mbarrier_init_fence();
  }
  if (Bug == ClusterBug::NoClusterSync)
    sync_threads();
  else
    cluster_sync();
  if (threadIdx.x == 0) {
    mbarrier_arrive_expect(&s.full, 2 * 64 * 8 * 2);
    if (rank == 0)
      tma_load_2d_multicast(s.shared_tile, common, &s.full, 0, 0, Bug == ClusterBug::BarrierOfOneOnly ? 1 : 3);
    tma_load_2d(s.own_tile, own, &s.full, 0, static_cast<int>(rank) * 8);
  }
  mbarrier_wait(&s.full, 0);
  if (threadIdx.x == 0) {
    s.sum = 0;
    for (int i = 0; i < 64 * 8; i++) s.sum += to_float(s.shared_tile[i]) + to_float(s.own_tile[i]);
    mbarrier_arrive_remote(&s.empty, 0);
    mbarrier_arrive_remote(&s.empty, 1);
    mbarrier_wait(&s.empty, 0);
    out[rank] = s.sum + *map_shared(&s.sum, 1 - rank);
  }
  if (Bug != ClusterBug::LeavesEarly) cluster_sync();
}

template <ClusterBug Bug>
std::string run_cluster() {
  Random random(8);
  const auto common = bf16_values(random.normal(64 * 8)), own = bf16_values(random.normal(64 * 16));
  double want = 0;
  for (double v : doubles(common)) want += 2 * v;
  for (double v : doubles(own)) want += v;
  std::vector<float> out(2, NAN);
  launch(simt_stream(), cluster_kernel<Bug>, {{2, 1, 1}, 32, 2, sizeof(ClusterShared)},
         make_tensor_map(box_of(common.data(), 64, 8, 64, 8, BoxSwizzle::B128)),
         make_tensor_map(box_of(own.data(), 64, 16, 64, 8, BoxSwizzle::B128)), out.data());
  for (float v : out)
    if (!(std::fabs(v - want) < 1e-2)) return "sum " + std::to_string(v) + ", expected " + std::to_string(want);
  return "";
}

}  // namespace

TEST("a box goes through shared memory unchanged in every swizzle, clipped at the edges") {
  Random random(6);
  for (auto [swizzle, columns] :
       {std::pair{BoxSwizzle::None, 64}, {BoxSwizzle::B32, 16}, {BoxSwizzle::B64, 32}, {BoxSwizzle::B128, 64}})
    for (auto [x, y] : {std::pair{0, 0}, {40, 24}, {-8, -3}}) {
      const auto from = bf16_values(random.normal(72 * 40));
      must_be_right([&, x = x, y = y, swizzle = swizzle, columns = columns]() -> std::string {
        std::vector<cuda::bf16> to(72 * 40, {0x4242});
        const auto box = [&](const auto& values) {
          return make_tensor_map(box_of(values.data(), 72, 40, static_cast<uint32_t>(columns), 32, swizzle));
        };
        launch(simt_stream(), through_kernel, {{1, 1, 1}, 32, 1, sizeof(BoxShared)}, box(from), box(to), x, y,
               columns * 32 * 2);
        for (int r = 0; r < 40; r++)
          for (int c = 0; c < 72; c++) {
            // Element (r, c) came from (r, c) too, or from as far before the start as the box began.
            const int row = r + std::min(y, 0), column = c + std::min(x, 0);
            const bool inside = row >= y && row < y + 32 && column >= x && column < x + columns;
            const auto at = static_cast<size_t>(r * 72 + c);
            const uint16_t came = row < 0 || column < 0 ? 0 : from[static_cast<size_t>(row * 72 + column)].bits;
            if (to[at].bits != (inside ? came : 0x4242)) return "element " + std::to_string(at);
          }
        return "";
      });
    }
}

TEST("stores and additions of boxes start inside the tensor") {
  alignas(128) static float memory[64 * 64];
  TensorBox box = box_of(memory, 64, 64, 64, 32, BoxSwizzle::B128),
            sums = box_of(memory, 64, 64, 32, 32, BoxSwizzle::B128);
  sums.element_bytes = 4, sums.stride[1] = 256;
  const auto fault_of = [](auto kernel, const TensorBox& to, int x, int y) -> std::string {
    try {
      launch(simt_stream(), kernel, {{1, 1, 1}, 32, 1, sizeof(BoxShared)}, make_tensor_map(to), x, y);
    } catch (const Error& e) {
      return e.what();
    }
    return "";
  };
  CHECK(fault_of(store_kernel<false>, box, 8, 40).empty() && fault_of(store_kernel<true>, sums, 8, 40).empty());
  for (const auto& [x, y] : {std::pair{0, -1}, {-8, 0}}) {
    CHECK(fault_of(store_kernel<false>, box, x, y).find("expected 0 and up") != std::string::npos);
    CHECK(fault_of(store_kernel<true>, sums, x, y).find("expected 0 and up") != std::string::npos);
  }
}

TEST("bulk additions make zeros of subnormal numbers") {
  const std::vector<float> terms{1e-40f, -1e-39f, -1.4e-38f, 2.0f};
  std::vector<float> sums{0.0f, -0.0f, 1.5e-38f, -1e-41f};
  launch(simt_stream(), add_kernel, {{1, 1, 1}, 1, 1, sizeof(BoxShared)}, sums.data(), terms.data(), 4u);
  CHECK(sums[0] == 0 && sums[1] == 0 && std::signbit(sums[1]) && sums[2] == 0 && sums[3] == 2);
}

TEST("the 128-byte swizzle exchanges 16-byte chunks by the row's number modulo 8, and what is outside is zero") {
  std::vector<cuda::bf16> from(64 * 10);
  for (size_t i = 0; i < from.size(); i++) from[i].bits = static_cast<uint16_t>(i + 1);
  std::vector<cuda::bf16> out(64 * 16);
  launch(simt_stream(), places_kernel, {{1, 1, 1}, 32, 1, sizeof(BoxShared)},
         make_tensor_map(box_of(from.data(), 64, 10, 64, 16, BoxSwizzle::B128)), out.data(), 64 * 16 * 2);
  for (size_t r = 0; r < 16; r++)
    for (size_t c = 0; c < 64; c++) {
      const size_t place = r * 64 + ((c / 8) ^ (r % 8)) * 8 + c % 8;
      CHECK(out[place].bits == (r < 10 ? r * 64 + c + 1 : 0), "row ", r, " column ", c);
    }
}

TEST("blocks of a cluster share a multicast tile, arrive at each other's barriers and read each other's memory") {
  must_be_right(run_cluster<ClusterBug::None>);
  must_be_caught("no cluster barrier after the barriers' initialisation", run_cluster<ClusterBug::NoClusterSync>);
  must_be_caught("a block leaves while its memory is read", run_cluster<ClusterBug::LeavesEarly>);
  must_be_caught("a multicast that leaves a block out", run_cluster<ClusterBug::BarrierOfOneOnly>, "deadlock");
}

TEST("the tensor map builder refuses what the driver would refuse, and names the field") {
  alignas(128) static cuda::bf16 memory[64 * 64];
  const auto refused = [&](const char* text, auto change) {
    TensorBox box = box_of(memory, 64, 64, 64, 32, BoxSwizzle::B128);
    change(box);
    must_fail("BAD_TENSOR_MAP", text, [&] { make_tensor_map(box); });
  };
  make_tensor_map(box_of(memory, 64, 64, 64, 32, BoxSwizzle::B128));
  refused("rank 6", [](TensorBox& b) { b.rank = 6; });
  refused("base address", [](TensorBox& b) { b.base = memory + 1; });
  refused("stride[1] is 120", [](TensorBox& b) { b.stride[1] = 120; });
  refused("box[1] is 257", [](TensorBox& b) { b.box[1] = 257; });
  refused("box[0] is 8 bytes", [](TensorBox& b) { b.box[0] = 4; });
  refused("box[0] is 256 bytes", [](TensorBox& b) { b.box[0] = 128; });
  refused("size[0] is 0", [](TensorBox& b) { b.size[0] = 0; });
  refused("elements of 8 bytes", [](TensorBox& b) { b.element_bytes = 8; });
}

TEST_MAIN()
