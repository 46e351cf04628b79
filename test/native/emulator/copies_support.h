#pragma once
#include <algorithm>
#include <memory>

#include "native/emulator/copies.h"
#include "native/emulator/mbarrier.h"
#include "native/emulator/tensor_map.h"
#include "test/native/emulator/support.h"

/** A cluster's shared memory and its copies. */
namespace check {

using thalweg::emulator::Copies;
using thalweg::emulator::CopyTiming;
using thalweg::emulator::Issuer;
using thalweg::emulator::ProxyState;

struct Cluster {
  std::vector<std::unique_ptr<Shared>> shared;
  std::vector<std::unique_ptr<ProxyState>> proxies;
  std::vector<std::pair<uint64_t, uint64_t>> allocations;  // address, bytes
  std::unique_ptr<Copies> copies;
  std::mt19937_64 random = random_of(99);

  explicit Cluster(CopyTiming timing, size_t bytes = 32 * 1024, int blocks = 1) {
    std::vector<thalweg::emulator::SharedMemory> memories;
    for (int i = 0; i < blocks; i++) {
      shared.push_back(std::make_unique<Shared>(bytes));
      proxies.push_back(std::make_unique<ProxyState>(bytes, 128));
      memories.push_back({shared.back()->data(), bytes, proxies.back().get()});
    }
    copies = std::make_unique<Copies>(
        memories,
        [this](uint64_t address, uint64_t size, bool write) {
          for (const auto& [start, length] : allocations)
            if (address >= start && address + size <= start + length) return;
          thalweg::emulator::fault(write ? "writes" : "reads", " outside of global memory");
        },
        timing);
  }
  template <class T>
  uint64_t global(std::vector<T>& data) {
    allocations.emplace_back(reinterpret_cast<uint64_t>(data.data()), data.size() * sizeof(T));
    return allocations.back().first;
  }
  std::byte* at(uint32_t offset, uint32_t rank = 0) { return shared[rank]->data() + offset; }
  /** An mbarrier of one arrival that has come and `bytes` that have not. */
  void barrier(uint32_t offset, uint32_t bytes, uint32_t rank = 0) {
    thalweg::emulator::mbarrier_init(at(offset, rank), 1);
    proxies[rank]->barrier_init(0, offset);
    proxies[rank]->barrier_fence(0);
    thalweg::emulator::mbarrier_expect(at(offset, rank), bytes);
    thalweg::emulator::mbarrier_arrive(at(offset, rank), 1);
  }
  bool over(uint32_t offset, uint32_t rank = 0) { return thalweg::emulator::mbarrier_phase_over(at(offset, rank), 0); }
  void drain() {
    while (copies->step(random, true)) {
    }
  }
};

/** The 128 bytes of a tensor map. */
struct alignas(64) Map {
  std::byte bytes[128];
  Map(int type, const void* address, std::vector<uint64_t> sizes, std::vector<uint64_t> strides,
      std::vector<uint32_t> box, int swizzle, std::vector<uint32_t> steps = {1, 1, 1, 1, 1}) {
    std::string why;
    thalweg::emulator::encode_tensor_map(bytes, type, static_cast<uint32_t>(sizes.size()), address, sizes.data(),
                                         strides.data(), box.data(), steps.data(), 0, swizzle, 0, 0, &why);
    CHECK(why.empty(), why);
  }
};
constexpr int kFloat32 = 7, kBfloat16 = 9;

/** Memory aligned as cudaMalloc's. */
template <class T>
struct Global {
  std::vector<T> store;
  T* data;
  size_t count;
  explicit Global(Cluster& cluster, size_t n) : store(n + 256 / sizeof(T)), count(n) {
    const auto address = reinterpret_cast<uintptr_t>(store.data());
    data = store.data() + (256 - address % 256) % 256 / sizeof(T);
    cluster.allocations.emplace_back(reinterpret_cast<uint64_t>(data), n * sizeof(T));
  }
  uint64_t address(size_t i = 0) const { return reinterpret_cast<uint64_t>(data + i); }
};

}  // namespace check
