#pragma once
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "native/base/error.h"
#include "native/simt/fiber.h"
#include "native/simt/schedule.h"

/**
 * A GPU on the host, for tests: it runs a kernel's own source, every thread a fiber. Lanes of a warp meet at
 * collectives (shuffles, mma, ldmatrix): each leaves its arguments, the last to come does the work for all.
 * Asynchronous units (TMA, cp.async, wgmma) act when a Schedule says. Shared memory starts as NaN. A wrong kernel gives
 * wrong numbers, Error KERNEL_FAULT with the place, or a report of who waits for what.
 */
namespace thalweg::simt {

struct Dim3 {
  unsigned x = 1, y = 1, z = 1;
  unsigned count() const { return x * y * z; }
};

struct LaunchShape {
  Dim3 grid, block, cluster;
  size_t shared_bytes = 0;
};

constexpr unsigned kWarpSize = 32;
constexpr unsigned kMaxThreads = 1024;
constexpr int kNamedBarriers = 16;

class Machine;
struct Cta;
struct Warp;
struct Thread;

/** Stops the launch: Error KERNEL_FAULT, which says which thread of which block stood where. */
template <class... P>
[[noreturn]] void fault(const P&... parts);

inline bool same_name(const char* a, const char* b) { return a == b || std::string_view(a) == b; }

/** Where a group of `members` threads meets. The first to come names the operation; the others must agree. */
struct Rendezvous {
  const char* what = nullptr;
  uint64_t parameter = 0;
  unsigned count = 0;
  std::array<void*, kWarpSize * 4> slots{};  // a warp or a warpgroup
};

struct NamedBarrier {
  unsigned expected = 0, arrived = 0;
  uint32_t phase = 0;
};

/** Bulk copies out of shared memory that one thread started: how many groups are committed, which are done. */
struct BulkGroups {
  uint64_t committed = 0;
  std::vector<int> reading{0}, writing{0};  // operations that have not read, or written; an index is a group's number
};

/** cp.async of one thread: operations not yet done, with the group each belongs to. */
struct CopyGroups {
  struct Operation {
    void* to;
    const void* from;
    uint32_t bytes, source_bytes;
    uint64_t group;
  };
  uint64_t committed = 0;
  std::vector<Operation> operations;
};

/** Bytes of shared memory a thread wrote that the asynchronous proxy has not been shown yet. */
struct Unfenced {
  struct Range {
    uint32_t at, bytes;
  };
  std::vector<Range> ranges;
  std::vector<uint64_t*> barriers;  // mbarriers it initialised
};

struct Thread {
  Fiber fiber;
  Dim3 index;
  unsigned linear = 0, lane = 0;
  Warp* warp = nullptr;
  Cta* cta = nullptr;
  bool done = false;
  const char* waiting_for = nullptr;
  bool (*ready)(void*) = nullptr;  // what a polling thread waits for
  void* ready_argument = nullptr;
  uint32_t cluster_phase = 0;  // of the cluster's barrier when this thread arrived
  CopyGroups copies;
  BulkGroups bulk;
  Unfenced unfenced;
};

struct Warp {
  std::array<Thread*, kWarpSize> lanes{};
  unsigned size = 0;     // lanes in use
  uint32_t ready = 0;    // lanes that can go on
  uint32_t polling = 0;  // lanes that wait for a condition
  unsigned rotation = 0;
  Rendezvous meeting;
};

/** One warpgroup's queue to the tensor cores. */
struct Warpgroup {
  struct Product {
    std::function<void()> run;
    uint64_t group;
  };
  Rendezvous meeting;
  std::vector<Product> queue;
  uint64_t committed = 0;
  bool fenced = false;
  unsigned registers = 0;  // per thread
};

struct Cluster;

struct Cta {
  Dim3 index;
  unsigned rank = 0;  // in its cluster
  Cluster* cluster = nullptr;
  std::vector<std::byte> memory, proxy_memory;
  std::byte* shared = nullptr;  // what threads see, 1024-byte aligned
  std::byte* proxy = nullptr;   // what the asynchronous proxy sees
  size_t shared_bytes = 0;
  std::vector<Thread> threads;
  std::vector<size_t> stacks;
  std::vector<Warp> warps;
  std::vector<Warpgroup> warpgroups;
  std::array<NamedBarrier, kNamedBarriers> barriers;
  std::vector<const uint64_t*> mbarriers;  // in the order of their initialisation
  unsigned live = 0;
  unsigned free_registers = 0;  // given back by setmaxnreg
  bool retired() const { return live == 0; }
};

struct Cluster {
  std::vector<std::unique_ptr<Cta>> ctas;
  unsigned arrived = 0;
  uint32_t phase = 0;
  unsigned live = 0;
};

/** The thread whose code runs now. */
inline thread_local Thread* current = nullptr;

class Machine {
 public:
  /** Clusters run at a time: kernels that wait for other blocks need them side by side. */
  Machine(const LaunchShape& shape, const Schedule& schedule, unsigned resident, std::function<void()> body);
  ~Machine();
  /** Runs the grid to its end. Errors: KERNEL_FAULT. */
  void run();

  const LaunchShape& shape() const { return shape_; }
  const Schedule& schedule() const { return schedule_; }
  uint32_t random() { return static_cast<uint32_t>(random_()); }
  /** Hands work to an asynchronous unit. */
  void post(Timing timing, std::function<void()> work);
  /** Leaves the current thread until something makes it ready. */
  void park(const char* what);
  void wait_until(const char* what, bool (*ready)(void*), void* argument);
  /** The current thread lets others run. */
  void yield();

 private:
  struct Posted {
    int delay;
    std::function<void()> work;
  };

  static void thread_entry(void* thread);
  void admit();
  void retire_finished();
  std::unique_ptr<Cta> make_cta(Cluster& cluster, unsigned block, unsigned rank);
  std::vector<size_t> take_stacks(size_t count);
  Warp* pick();
  bool wake_polling(Warp& warp);
  void run_warp(Warp& warp);
  void leave();
  bool run_posted(bool now);
  [[noreturn]] void deadlock();

  LaunchShape shape_;
  Schedule schedule_;
  unsigned resident_;
  std::function<void()> body_;
  std::mt19937_64 random_;
  std::vector<std::unique_ptr<Cluster>> clusters_;
  std::vector<std::unique_ptr<Cluster>> retired_;  // posted work may still refer to them
  std::vector<Warp*> warps_;                       // of the resident clusters, in order of urgency
  std::vector<Posted> posted_;
  std::vector<size_t> free_stacks_;
  size_t stacks_made_ = 0;
  unsigned next_block_ = 0;
  unsigned picks_ = 0;
  Fiber scheduler_;
  std::string error_;
};

inline thread_local Machine* machine = nullptr;

/** Waits for a condition over things that other threads or units change. */
template <class Condition>
void wait_for(const char* what, Condition condition) {
  if (condition()) {
    if (machine->random() % 4 == 0) machine->yield();
    return;
  }
  machine->wait_until(
      what, [](void* c) { return (*static_cast<Condition*>(c))(); }, &condition);
}

std::string where(const Thread& thread);

template <class... P>
[[noreturn]] void fault(const P&... parts) {
  ::thalweg::fail("KERNEL_FAULT", current ? where(*current) + ": " : std::string(), parts...);
}

/** The current thread brings `argument` to a meeting of its warp; the last lane runs act(slots) for all. */
template <class Act>
void meet_warp(const char* what, uint64_t parameter, void* argument, Act&& act) {
  Thread& t = *current;
  Warp& warp = *t.warp;
  Rendezvous& meeting = warp.meeting;
  if (warp.size != kWarpSize) fault(what, " in a warp of ", warp.size, " lanes");
  if (meeting.count == 0) {
    meeting.what = what;
    meeting.parameter = parameter;
  } else if (!same_name(meeting.what, what) || meeting.parameter != parameter) {
    fault("lane ", t.lane, " came to ", what, " (", parameter, ") while others of its warp are at ", meeting.what, " (",
          meeting.parameter, "): the warp has diverged");
  }
  meeting.slots[t.lane] = argument;
  if (++meeting.count < kWarpSize) {
    machine->park(what);
    return;
  }
  act(meeting.slots.data());
  meeting.count = 0;
  warp.ready = ~uint32_t{0};
  if (machine->random() % 4 == 0) machine->yield();
}

/** The same for the 128 threads of a warpgroup. */
template <class Act>
void meet_warpgroup(const char* what, uint64_t parameter, void* argument, Act&& act) {
  Thread& t = *current;
  Cta& cta = *t.cta;
  if (cta.threads.size() % 128 != 0) fault(what, " in a block of ", cta.threads.size(), " threads");
  Warpgroup& group = cta.warpgroups[t.linear / 128];
  Rendezvous& meeting = group.meeting;
  if (meeting.count == 0) {
    meeting.what = what;
    meeting.parameter = parameter;
  } else if (!same_name(meeting.what, what) || meeting.parameter != parameter) {
    fault("thread came to ", what, " while others of its warpgroup are at ", meeting.what);
  }
  meeting.slots[t.linear % 128] = argument;
  if (++meeting.count < 128) {
    machine->park(what);
    return;
  }
  act(group, meeting.slots.data());
  meeting.count = 0;
  for (unsigned w = 0; w < 4; w++) cta.warps[t.linear / 128 * 4 + w].ready = ~uint32_t{0};
}

/** Address of shared memory as instructions see it; the window starts at 1024, as on sm_90. */
constexpr uint32_t kSharedBase = 1024;
uint32_t shared_address(const void* pointer);
/** The bytes at an address in the current block (generic view, or the asynchronous proxy's). */
std::byte* shared_at(Cta& cta, uint32_t address, size_t bytes);
std::byte* proxy_at(Cta& cta, uint32_t address, size_t bytes);

/** Says that the current thread wrote shared memory through the generic proxy. */
void note_shared_write(const void* pointer, uint32_t bytes);
void fence_proxy_async();

/** Runs a grid of `body` under a schedule. Errors: KERNEL_FAULT. */
void launch(const LaunchShape& shape, const Schedule& schedule, unsigned resident, std::function<void()> body);

}  // namespace thalweg::simt
