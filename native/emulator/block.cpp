#include "native/emulator/block.h"

#include <cstdlib>
#include <cstring>

#include "native/emulator/decoder.h"

namespace thalweg::emulator {
namespace {

template <class T>
std::unique_ptr<T, void (*)(void*)> aligned(size_t bytes, size_t alignment) {
  void* memory = std::aligned_alloc(alignment, (bytes / alignment + 1) * alignment);
  if (!memory) throw std::bad_alloc();
  return {static_cast<T*>(memory), std::free};
}

void set_all(uint32_t* specials, uint32_t which, uint32_t value) {
  for (uint32_t l = 0; l < 32; l++) specials[which * kUnit + l] = value;
}

}  // namespace

/** What stays the same for a warp's place in its block. */
void BlockBuilder::fill_fixed(Warp& w, uint32_t* specials) const {
  const auto& s = launch_.shape;
  const uint32_t threads = s.block[0] * s.block[1] * s.block[2];
  for (uint32_t l = 0; l < 32; l++) {
    const uint32_t thread = w.number * 32 + l;
    specials[kTidX * kUnit + l] = thread % s.block[0];
    specials[kTidY * kUnit + l] = thread / s.block[0] % s.block[1];
    specials[kTidZ * kUnit + l] = thread / s.block[0] / s.block[1];
    specials[kLaneid * kUnit + l] = l;
    const uint32_t eq = 1u << l, lt = eq - 1;
    specials[kLanemaskEq * kUnit + l] = eq;
    specials[kLanemaskLt * kUnit + l] = lt;
    specials[kLanemaskLe * kUnit + l] = lt | eq;
    specials[kLanemaskGt * kUnit + l] = ~(lt | eq);
    specials[kLanemaskGe * kUnit + l] = ~lt;
  }
  set_all(specials, kWarpid, w.number);
  set_all(specials, kNwarpid, (threads + 31) / 32);
  for (uint32_t n = 0; n < 3; n++) {
    set_all(specials, kNtidX + n, s.block[n]);
    set_all(specials, kNctaidX + n, s.grid[n]);
    set_all(specials, kNclusteridX + n, s.grid[n] / s.cluster[n]);
    set_all(specials, kClusterNctaidX + n, s.cluster[n]);
  }
  set_all(specials, kClusterNctarank, s.cluster[0] * s.cluster[1] * s.cluster[2]);
  set_all(specials, kNsmid, launch_.schedule.resident_blocks);
  set_all(specials, kDynamicSmemSize, s.dynamic_shared_bytes);
  set_all(specials, kTotalSmemSize, launch_.kernel.static_shared_bytes + s.dynamic_shared_bytes);
}

void BlockBuilder::fill(const Block& block, const std::array<uint32_t, 3>& local,
                        const std::array<uint32_t, 3>& cluster_index, uint32_t* specials) const {
  for (uint32_t n = 0; n < 3; n++) {
    set_all(specials, kCtaidX + n, block.index[n]);
    set_all(specials, kClusteridX + n, cluster_index[n]);
    set_all(specials, kClusterCtaidX + n, local[n]);
  }
  set_all(specials, kClusterCtarank, block.rank);
  set_all(specials, kSmid, block.number % launch_.schedule.resident_blocks);
}

std::unique_ptr<Block> BlockBuilder::allocate() const {
  const auto& s = launch_.shape;
  const Program& program = launch_.program;
  auto block = std::make_unique<Block>();
  const uint32_t threads = s.block[0] * s.block[1] * s.block[2], warps = (threads + 31) / 32;
  block->shared_bytes = launch_.kernel.static_shared_bytes + s.dynamic_shared_bytes;
  block->shared_memory = aligned<std::byte>(block->shared_bytes, 1024);
  block->shared = block->shared_memory.get();
  const size_t units = program.units + kSpecials;
  block->registers = aligned<uint32_t>(warps * units * kUnit * 4, 64);
  std::memset(block->registers.get(), 0xFF, warps * units * kUnit * 4);
  block->predicates.resize(size_t{warps} * program.predicates * 2);
  block->warps.resize(warps);
  for (uint32_t n = 0; n < warps; n++) {
    Warp& w = block->warps[n];
    w.block = block.get();
    w.launch = &launch_;
    w.number = n;
    uint32_t* registers = block->registers.get() + n * units * kUnit;
    w.bases[0] = registers;
    w.bases[1] = program.constants.data();
    w.bases[2] = registers + size_t{program.units} * kUnit;
    w.predicates = block->predicates.data() + size_t{n} * program.predicates * 2;
    w.defined = w.predicates + program.predicates;
    fill_fixed(w, registers + size_t{program.units} * kUnit);
  }
  return block;
}

void BlockBuilder::begin(Warp& w) const {
  const auto& s = launch_.shape;
  const Program& program = launch_.program;
  const uint32_t threads = s.block[0] * s.block[1] * s.block[2], first = w.number * 32;
  w.live = threads - first >= 32 ? ~0u : (1u << (threads - first)) - 1;
  w.active = w.live;
  w.pc = 0;
  w.stop = ~0u;
  w.others.clear();
  w.spins = false;
  w.registers = launch_.registers;
  w.cluster_arrival = 0;
  w.cluster_must_wait = false;
  w.groups_committed = w.groups_done = w.fences = w.newest_product = w.products_issued = 0;
  w.products.clear();
  if (program.wgmma) {
    w.last_group.assign(program.units, 0);
    w.touched.assign(program.units, 1);
  }
  std::fill_n(w.predicates, program.predicates, 0x55555555u);  // whichever way one is read, some lanes branch
  std::fill_n(w.defined, program.predicates, 0u);
  w.predicates[kFalse] = 0;
  w.predicates[kTrue] = w.defined[kFalse] = w.defined[kTrue] = ~0u;
  for (const auto& [from, end] : program.undefined) std::memset(w.registers_at(from), 0xFF, (end - from) * kUnit * 4);
}

void BlockBuilder::begin(Block& block, Cluster& cluster, uint32_t rank,
                         const std::array<uint32_t, 3>& cluster_index) const {
  const auto& s = launch_.shape;
  const std::array<uint32_t, 3> local{rank % s.cluster[0], rank / s.cluster[0] % s.cluster[1],
                                      rank / s.cluster[0] / s.cluster[1]};
  block.cluster = &cluster;
  block.rank = rank;
  for (size_t n = 0; n < 3; n++) block.index[n] = cluster_index[n] * s.cluster[n] + local[n];
  block.number = (block.index[2] * s.grid[1] + block.index[1]) * s.grid[0] + block.index[0];
  block.live_warps = static_cast<uint32_t>(block.warps.size());
  block.barriers = {};
  block.free_registers = 0;
  std::memset(block.shared, 0xFF, block.shared_bytes);
  block.proxies.reset();
  if (launch_.program.asynchronous) {
    block.proxies.emplace(block.shared_bytes, static_cast<uint32_t>(block.warps.size()) * 32);
  }
  for (Warp& w : block.warps) {
    begin(w);
    fill(block, local, cluster_index, const_cast<uint32_t*>(w.bases[2]));
  }
}

std::unique_ptr<Cluster> BlockBuilder::cluster(const std::array<uint32_t, 3>& index) {
  const auto& s = launch_.shape;
  auto cluster = std::make_unique<Cluster>();
  const uint32_t blocks = s.cluster[0] * s.cluster[1] * s.cluster[2];
  std::vector<SharedMemory> shared;
  for (uint32_t rank = 0; rank < blocks; rank++) {
    if (spare_.empty()) {
      cluster->blocks.push_back(allocate());
    } else {
      cluster->blocks.push_back(std::move(spare_.back()));
      spare_.pop_back();
    }
    Block& block = *cluster->blocks.back();
    begin(block, *cluster, rank, index);
    shared.push_back({block.shared, block.shared_bytes, block.proxies ? &*block.proxies : nullptr});
  }
  cluster->live_blocks = blocks;
  const CopyTiming timing = launch_.schedule.copies == When::AtOnce     ? CopyTiming::AtOnce
                            : launch_.schedule.copies == When::Sometime ? CopyTiming::Random
                                                                        : CopyTiming::Late;
  Launch& launch = launch_;
  cluster->copies.emplace(
      std::move(shared),
      [&launch](uint64_t address, uint64_t bytes, bool write) {
        launch.check(address, bytes, write ? "writes" : "reads");
      },
      timing);
  return cluster;
}

void BlockBuilder::recycle(std::unique_ptr<Cluster> cluster) {
  for (auto& block : cluster->blocks) spare_.push_back(std::move(block));
}

}  // namespace thalweg::emulator
