#include "native/simt/barriers.h"

#include <cstring>

#include "native/simt/machine.h"
#include "native/simt/sabotage.h"

namespace thalweg::simt {

namespace {

NamedBarrier& arrive_named(int id, unsigned threads) {
  if (id < 0 || id >= kNamedBarriers) fault("named barrier ", id, ", expected 0 to ", kNamedBarriers - 1);
  if (threads == 0 || threads % kWarpSize != 0)
    fault("named barrier ", id, " of ", threads, " threads, expected whole warps");
  NamedBarrier& barrier = current->cta->barriers[static_cast<size_t>(id)];
  if (barrier.arrived == 0) barrier.expected = threads;
  if (barrier.expected != threads)
    fault("named barrier ", id, " of ", threads, " threads, but others came to it with ", barrier.expected);
  if (++barrier.arrived == threads) {
    barrier.arrived = 0;
    barrier.phase++;
  }
  return barrier;
}

constexpr unsigned kFresh = 0x2A5B;   // initialised, not yet fenced for other proxies and blocks
constexpr unsigned kShared = 0x35C9;  // fenced

struct Mbarrier {
  int64_t bytes : 24;
  uint64_t pending : 12;
  uint64_t arrivals : 12;
  uint64_t phase : 1;
  uint64_t magic : 15;
};
static_assert(sizeof(Mbarrier) == 8);

Mbarrier& object(uint64_t* place, bool foreign) {
  if (reinterpret_cast<uintptr_t>(place) % 8 != 0) fault("an mbarrier that is not 8-byte aligned");
  auto& barrier = *reinterpret_cast<Mbarrier*>(place);
  if (barrier.magic != (kFresh) && barrier.magic != (kShared)) fault("an mbarrier was used before it was initialised");
  if (foreign && barrier.magic != (kShared))
    fault("an mbarrier was used by TMA or another block without fence.mbarrier_init after its initialisation");
  return barrier;
}

void settle(Mbarrier& barrier) {
  if (barrier.pending != 0 || barrier.bytes != 0) return;
  barrier.phase ^= 1;
  barrier.pending = barrier.arrivals;
}

void arrive(Mbarrier& barrier, unsigned count) {
  if (barrier.pending < count)
    fault("an mbarrier of ", static_cast<unsigned>(barrier.arrivals), " arrivals got more in one phase");
  barrier.pending -= count;
}

/** Whether a test wants this done wrongly to this mbarrier of the current block. */
bool is_hit(Sabotage::Kind kind, const uint64_t* place) {
  if (!sabotage.hits(kind)) return false;
  const auto& all = current->cta->mbarriers;
  return sabotage.which < static_cast<int>(all.size()) && all[static_cast<size_t>(sabotage.which)] == place;
}

bool is_foreign(const uint64_t* place) {
  const auto* p = reinterpret_cast<const std::byte*>(place);
  const Cta& own = *current->cta;
  return p < own.shared || p >= own.shared + own.shared_bytes;
}

}  // namespace

void named_barrier_sync(int id, unsigned threads) {
  if (sabotage.hits(Sabotage::Kind::NamedBarrier, id)) return;
  NamedBarrier& barrier = current->cta->barriers[static_cast<size_t>(id) % kNamedBarriers];
  const uint32_t phase = barrier.phase;
  arrive_named(id, threads);
  static const char* const kNames[kNamedBarriers] = {
      "__syncthreads",    "named barrier 1",  "named barrier 2",  "named barrier 3",
      "named barrier 4",  "named barrier 5",  "named barrier 6",  "named barrier 7",
      "named barrier 8",  "named barrier 9",  "named barrier 10", "named barrier 11",
      "named barrier 12", "named barrier 13", "named barrier 14", "named barrier 15"};
  wait_for(kNames[id], [&barrier, phase] { return barrier.phase != phase; });
}

void named_barrier_arrive(int id, unsigned threads) {
  if (!sabotage.hits(Sabotage::Kind::NamedBarrier, id)) arrive_named(id, threads);
}

void sync_threads() { named_barrier_sync(0, static_cast<unsigned>(current->cta->threads.size())); }

void sync_warp() {
  meet_warp("__syncwarp", 0, nullptr, [](void**) {});
}

void mbarrier_init(uint64_t* place, unsigned arrivals) {
  shared_at(*current->cta, shared_address(place), 8);
  if (arrivals == 0 || arrivals > 4095) fault("an mbarrier of ", arrivals, " arrivals, expected 1 to 4095");
  auto& barrier = *reinterpret_cast<Mbarrier*>(place);
  barrier.magic = kFresh;
  barrier.phase = 0;
  barrier.bytes = 0;
  barrier.arrivals = arrivals;
  barrier.pending = arrivals;
  current->unfenced.barriers.push_back(place);
  current->cta->mbarriers.push_back(place);
}

void mbarrier_init_fence() {
  if (sabotage.hits(Sabotage::Kind::BarrierFence)) return;
  for (uint64_t* place : current->unfenced.barriers) reinterpret_cast<Mbarrier*>(place)->magic = kShared;
  current->unfenced.barriers.clear();
}

void mbarrier_arrive(uint64_t* place, unsigned count) {
  if (is_hit(Sabotage::Kind::MbarrierArrive, place)) return;
  const bool foreign = is_foreign(place);
  if (foreign) shared_at(*current->cta, shared_address(place), 8);  // refuses blocks that have exited
  Mbarrier& barrier = object(place, foreign);
  arrive(barrier, count);
  settle(barrier);
}

void mbarrier_expect_bytes(uint64_t* place, uint32_t bytes, bool arrives) {
  Mbarrier& barrier = object(place, is_foreign(place));
  barrier.bytes += bytes;
  if (arrives) arrive(barrier, 1);
  settle(barrier);
}

void mbarrier_complete_bytes(uint64_t* place, uint32_t bytes) {
  Mbarrier& barrier = object(place, true);
  barrier.bytes -= bytes;
  settle(barrier);
}

bool mbarrier_test(uint64_t* place, unsigned parity) { return object(place, false).phase != (parity & 1); }

void mbarrier_wait(uint64_t* place, unsigned parity) {
  object(place, false);
  if (is_hit(Sabotage::Kind::MbarrierWait, place)) return;
  if (is_hit(Sabotage::Kind::MbarrierParity, place)) parity ^= 1;
  wait_for(parity ? "an mbarrier (parity 1)" : "an mbarrier (parity 0)",
           [place, parity] { return reinterpret_cast<Mbarrier*>(place)->phase != (parity & 1); });
}

unsigned cluster_rank() { return current->cta->rank; }
unsigned cluster_size() { return static_cast<unsigned>(current->cta->cluster->ctas.size()); }

void cluster_arrive() {
  Cluster& cluster = *current->cta->cluster;
  const auto threads = static_cast<unsigned>(current->cta->threads.size()) * cluster_size();
  current->cluster_phase = cluster.phase;
  if (++cluster.arrived == threads) {
    cluster.arrived = 0;
    cluster.phase++;
  }
}

void cluster_wait() {
  Cluster& cluster = *current->cta->cluster;
  const uint32_t phase = current->cluster_phase;
  wait_for("the barrier of the cluster", [&cluster, phase] { return cluster.phase != phase; });
}

void* map_shared(const void* pointer, unsigned rank) {
  Cta& own = *current->cta;
  if (rank >= own.cluster->ctas.size()) fault("block ", rank, " of a cluster of ", own.cluster->ctas.size());
  Cta& other = *own.cluster->ctas[rank];
  if (other.retired()) fault("shared memory of block ", rank, " of the cluster used after that block exited");
  const auto offset = static_cast<const std::byte*>(pointer) - own.shared;
  if (offset < 0 || static_cast<size_t>(offset) >= own.shared_bytes)
    fault("map_shared of a pointer that is not into shared memory");
  return other.shared + offset;
}

int take_ticket(int* counter) {
  if (machine->random() % 4 == 0) machine->yield();
  return (*counter)++;
}

void wait_for_turn(const int* counter, int turn) {
  if (sabotage.hits(Sabotage::Kind::Turn)) return;
  wait_for("a turn among blocks", [counter, turn] { return *counter == turn; });
}

void pass_turn(int* counter, int turn) {
  if (*counter != turn && !sabotage.hits(Sabotage::Kind::Turn))
    fault("turn ", turn, " was passed on, but it is turn ", *counter);
  *counter = turn + 1;
}

void set_max_registers(unsigned registers, bool increase) {
  if (registers % 8 != 0 || registers < 24 || registers > 256)
    fault("setmaxnreg ", registers, ", expected a multiple of 8 from 24 to 256");
  meet_warpgroup("setmaxnreg", registers, nullptr, [&](Warpgroup& group, void**) {
    if (increase ? registers < group.registers : registers > group.registers)
      fault("setmaxnreg.", increase ? "inc" : "dec", " to ", registers, " from ", group.registers);
    if (!increase) {
      current->cta->free_registers += 128 * (group.registers - registers);
      group.registers = registers;
    }
  });
  if (!increase) return;
  Cta& cta = *current->cta;
  Warpgroup& group = cta.warpgroups[current->linear / 128];
  wait_for("registers (setmaxnreg.inc)", [&cta, &group, registers] {
    if (group.registers >= registers) return true;
    const unsigned wanted = 128 * (registers - group.registers);
    if (cta.free_registers < wanted) return false;
    cta.free_registers -= wanted;
    group.registers = registers;
    return true;
  });
}

}  // namespace thalweg::simt
