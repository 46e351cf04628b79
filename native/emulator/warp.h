#pragma once
#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "native/emulator/copies.h"
#include "native/emulator/fault.h"
#include "native/emulator/machine.h"
#include "native/emulator/matrix_units.h"
#include "native/emulator/program.h"

/** The state of a launch: warps, their blocks and clusters. */
namespace thalweg::emulator {

struct Block;
struct Cluster;
struct Launch;

/** What some lanes of a warp wait for. */
struct Wait {
  enum class Kind : uint8_t { Nothing, Lanes, Barrier, Mbarrier, ClusterBarrier, Registers, Products };
  Kind kind = Kind::Nothing;
  uint32_t lanes = 0;       // Lanes: those that must come to this instruction
  uint32_t barrier = 0;     // Barrier: its number
  uint64_t generation = 0;  // Barrier, ClusterBarrier: the one that must be over; Products: the group
  const std::byte* mbarrier = nullptr;
  uint32_t parity = 0;
  uint32_t registers = 0;  // of a thread
};

/** Lanes of a warp at the same instruction. */
struct Group {
  uint32_t pc = 0, lanes = 0;
  bool yielded = false;  // spins or had its turn: others first
  Wait wait;
};

/** A wgmma that its warp has not waited for. */
struct PendingProduct {
  WgmmaOp op{};
  const Instruction* instruction = nullptr;
  uint64_t group = 0, number = 0;  // of the warp's groups, of its products
  bool computed = false, complete = false;
};

class Warp {
 public:
  const uint32_t* bases[3] = {};   // by the two upper bits of a Ref
  uint32_t* predicates = nullptr;  // a lane's bit in each
  uint32_t* defined = nullptr;     // the lanes that have written it
  uint32_t pc = 0, active = 0;     // of the group that runs
  uint32_t stop = ~0u;             // at this instruction or behind it another group's turn comes
  int64_t budget = 0;              // instructions until others have a turn
  uint32_t live = 0;               // lanes that have not exited
  Block* block = nullptr;
  Launch* launch = nullptr;
  uint32_t number = 0;        // in the block
  std::vector<Group> others;  // the groups that do not run
  uint32_t now = 0;           // the instruction that is being played, for messages
  bool spins = false;         // let others go first: other warps too

  // wgmma; by unit of the register file
  uint64_t groups_committed = 0, groups_done = 0, fences = 0;
  uint64_t newest_product = 0;       // the group of the last wgmma
  std::vector<uint64_t> last_group;  // the group of the last product on it
  std::vector<uint64_t> touched;     // the count of fences when an ordinary instruction last touched it, plus 1
  std::vector<PendingProduct> products;
  uint64_t products_issued = 0;
  uint32_t registers = 0;        // a thread's, by setmaxnreg
  uint64_t cluster_arrival = 0;  // the phase it arrived for, plus 1
  bool cluster_must_wait = false;

  uint32_t* registers_at(Ref r) { return const_cast<uint32_t*>(bases[0]) + static_cast<size_t>(r) * kUnit; }
  uint32_t thread(uint32_t lane) const { return number * 32 + lane; }

  /** Plays until the budget is used or no group can run. Returns the number of instructions. */
  uint64_t run(int64_t quantum);
  /** Whether all four warps of the warpgroup have committed that many groups. */
  bool warpgroup_committed(uint64_t groups) const;
  /** Whether some group can run. */
  bool ready();

  // For handlers that change the flow of control; the running group's pc is already behind the instruction.
  /** Ends the turn; the instruction will be played again when `wait` is over. */
  void wait_and_repeat(const Wait& wait);
  /** Ends the turn; goes on behind the instruction when `wait` is over. */
  void wait_behind(const Wait& wait);
  /** Ends the turn and lets others go first. */
  void yield();
  /** True when all of `lanes` that live are in the mask; else the running group waits for the others here, and false.
   */
  bool together(uint32_t mask, uint32_t lanes);
  /** The lanes of `taken` go on at target, the rest where it is. */
  void branch(uint32_t taken, uint32_t target);
  void exit(uint32_t lanes);

 private:
  void leave_group(const Wait& wait, bool yielded);
  bool take_group();
  bool over(Group& group);
};

/** bar.sync's and bar.arrive's: one of the 16 of a block. */
struct NamedBarrier {
  uint32_t expected = 0;  // threads; 0: all of the block
  uint32_t warps = 0;     // arrived, a bit each
  uint64_t generation = 0;
};

struct Block {
  Cluster* cluster = nullptr;
  uint32_t rank = 0;  // in the cluster
  std::array<uint32_t, 3> index{};
  uint32_t number = 0;  // in the grid, x fastest
  uint32_t live_warps = 0;
  std::byte* shared = nullptr;
  uint32_t shared_bytes = 0;
  std::optional<ProxyState> proxies;
  std::array<NamedBarrier, 16> barriers;
  std::vector<Warp> warps;
  uint32_t free_registers = 0;  // given away by setmaxnreg.dec
  std::unique_ptr<uint32_t, void (*)(void*)> registers{nullptr, nullptr};
  std::unique_ptr<std::byte, void (*)(void*)> shared_memory{nullptr, nullptr};
  std::vector<uint32_t> predicates;

  /** A warp comes to a barrier for `threads` threads (0: the whole block). */
  void arrive(Warp& warp, uint32_t barrier, uint32_t threads);
  /** Ends a barrier when all it waits for have come; after arrivals and exits. */
  void check_barrier(NamedBarrier& barrier);
};

struct Cluster {
  std::vector<std::unique_ptr<Block>> blocks;
  std::optional<Copies> copies;
  uint64_t phase = 0;  // of barrier.cluster
  uint32_t live_blocks = 0;

  void arrive(Warp& warp);
  /** Ends the phase when every warp that lives has arrived. */
  void check_phase();
};

struct Launch {
  const Kernel& kernel;
  const Program& program;
  const LaunchShape& shape;
  GlobalMemory& memory;
  const Schedule& schedule;
  std::mt19937_64 random;
  std::byte* parameters = nullptr;  // aligned to 128
  uint64_t progress = 0;            // grows with what other warps could wait for
  uint32_t registers = 0;           // of a thread at the start
  // The allocation last hit.
  uint64_t known_start = 1, known_end = 0;

  /** Faults unless [address, address + bytes) may be accessed; `what` is "reads" or "writes". */
  void check(uint64_t address, uint64_t bytes, const char* what) {
    if (address >= known_start && address <= known_end && bytes <= known_end - address) [[likely]]
      return;
    look_up(address, bytes, what);
  }
  bool covers(uint64_t lowest, uint64_t highest, uint64_t bytes) const {
    return lowest >= known_start && highest <= known_end && bytes <= known_end - highest;
  }

 private:
  void look_up(uint64_t address, uint64_t bytes, const char* what);
};

/** What every warp of the clusters waits for, for a launch that cannot go on. */
std::string waiting(const std::vector<std::unique_ptr<Cluster>>& clusters);

}  // namespace thalweg::emulator
