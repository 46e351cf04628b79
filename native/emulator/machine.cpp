#include "native/emulator/machine.h"

#include <cxxabi.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "native/base/error.h"
#include "native/emulator/block.h"
#include "native/emulator/warp.h"

namespace thalweg::emulator {
namespace {

/** Instructions without a store, an arrival or anything else that another warp could wait for. */
constexpr uint64_t kPatience = 20'000'000;
/** Turns of warps that only spin. */
constexpr uint64_t kSpinPatience = 100'000;
constexpr uint32_t kMostShared = 232448;  // 227 KiB

class Machine {
 public:
  Machine(Launch& launch) : launch_(launch), builder_(launch) {
    const auto& s = launch.shape;
    for (int n = 0; n < 3; n++) clusters_[n] = s.grid[n] / s.cluster[n];
    cluster_blocks_ = s.cluster[0] * s.cluster[1] * s.cluster[2];
    total_ = uint64_t{clusters_[0]} * clusters_[1] * clusters_[2];
  }

  Played play() {
    while (admit(), !resident_.empty()) {
      Warp* warp = pick();
      if (warp)
        turn(*warp);
      else if (!step_copies(true))
        fault("the launch can make no progress:", waiting(resident_));
    }
    played_.blocks = total_ * cluster_blocks_;
    return played_;
  }

  /** Where the fault was found. */
  std::string place() const {
    if (!playing_) return "";
    const Program& program = launch_.program;
    const auto& index = playing_->block->index;
    return ", line " + std::to_string(program.code[playing_->now].line) + " (" + program.opcodes[playing_->now] +
           "), block (" + std::to_string(index[0]) + ", " + std::to_string(index[1]) + ", " + std::to_string(index[2]) +
           "), warp " + std::to_string(playing_->number);
  }

 private:
  void admit() {
    const uint32_t limit = std::max(launch_.schedule.resident_blocks / cluster_blocks_, 1u);
    while (next_ < total_ && resident_.size() < limit) {
      resident_.push_back(builder_.cluster({static_cast<uint32_t>(next_ % clusters_[0]),
                                            static_cast<uint32_t>(next_ / clusters_[0] % clusters_[1]),
                                            static_cast<uint32_t>(next_ / clusters_[0] / clusters_[1])}));
      next_++;
      for (const auto& block : resident_.back()->blocks) {
        for (Warp& w : block->warps) warps_.push_back(&w);
      }
    }
  }

  Warp* pick() {
    const size_t count = warps_.size();
    const Order order = launch_.schedule.warps;
    const size_t start = order == Order::Random ? launch_.random() % count : 0;
    Warp* spinning = nullptr;
    for (size_t n = 0; n < count; n++) {
      Warp* w = warps_[order == Order::Last ? count - 1 - n : start + n < count ? start + n : start + n - count];
      if (w->spins) {
        if (!spinning && w->ready()) spinning = w;
      } else if (w->ready()) {
        return w;
      }
    }
    if (!spinning) return nullptr;
    // Only warps that spin: each in turn, and copies that are held back may act.
    if (++spin_turns_ % 64 == 0) step_copies(true);
    if (spin_turns_ > kSpinPatience && launch_.progress == progress_) {
      stuck("the launch can make no progress, some warps wait in a loop:");
    }
    for (Warp* w : warps_) w->spins = false;
    return spinning;
  }

  void turn(Warp& warp) {
    playing_ = &warp;
    warp.spins = false;
    const bool random = launch_.schedule.warps == Order::Random;
    const uint64_t ran = warp.run(random ? int64_t{16} << launch_.random() % 8 : 1 << 16);
    played_.warp_instructions += ran;
    if (!warp.spins) spin_turns_ = 0;
    if (launch_.progress != progress_) {
      progress_ = launch_.progress;
      idle_ = 0;
      spin_turns_ = 0;
    } else if ((idle_ += ran) > kPatience) {
      stuck("the launch has made no progress for a long time:");
    }
    if (warp.live == 0) leave(warp);
    if (launch_.schedule.copies == When::Sometime && launch_.random() % 2) step_copies(false);
  }

  /** A warp has exited. */
  void leave(Warp& warp) {
    Block& block = *warp.block;
    Cluster& cluster = *block.cluster;
    warps_.erase(std::find(warps_.begin(), warps_.end(), &warp));
    block.live_warps--;
    for (NamedBarrier& barrier : block.barriers) block.check_barrier(barrier);
    cluster.check_phase();
    if (block.live_warps != 0) return;
    cluster.copies->leave(block.rank);
    if (--cluster.live_blocks != 0) return;
    cluster.copies->finish();
    const auto it =
        std::find_if(resident_.begin(), resident_.end(), [&](const auto& c) { return c.get() == &cluster; });
    playing_ = nullptr;
    builder_.recycle(std::move(*it));
    resident_.erase(it);
  }

  [[noreturn]] void stuck(const char* how) {
    playing_ = nullptr;
    fault(how, waiting(resident_));
  }

  /** What goes wrong when a copy acts later is no warp's present instruction. */
  bool step_copies(bool must) {
    bool any = false;
    playing_ = nullptr;
    for (const auto& cluster : resident_)
      any |= !cluster->copies->idle() && cluster->copies->step(launch_.random, must);
    launch_.progress += any;
    return any;
  }

  Launch& launch_;
  BlockBuilder builder_;
  uint32_t clusters_[3] = {};
  uint32_t cluster_blocks_ = 1;
  uint64_t total_ = 0, next_ = 0;
  std::vector<std::unique_ptr<Cluster>> resident_;
  std::vector<Warp*> warps_;  // that live, in order of block and warp
  Warp* playing_ = nullptr;
  Played played_;
  uint64_t progress_ = ~uint64_t{0}, idle_ = 0, spin_turns_ = 0;
};

uint32_t product(const std::array<uint32_t, 3>& x) { return x[0] * x[1] * x[2]; }

void check_shape(const Kernel& kernel, const LaunchShape& s) {
  const uint32_t threads = product(s.block), cluster = product(s.cluster);
  if (threads == 0 || threads > kernel.thread_limit()) {
    fault("a block of ", threads, " threads; the kernel allows 1 to ", kernel.thread_limit());
  }
  if (kernel.required_threads[0] && kernel.required_threads != s.block) fault("a block that is not as .reqntid says");
  if (kernel.required_cluster[0] && kernel.required_cluster != s.cluster) {
    fault("a cluster that is not as .reqnctapercluster says");
  }
  if (cluster == 0 || cluster > 16) fault("a cluster of ", cluster, " blocks; 1 to 16 are possible");
  for (int n = 0; n < 3; n++) {
    if (s.grid[n] == 0 || s.grid[n] % s.cluster[n] != 0) {
      fault("a grid of ", s.grid[0], " x ", s.grid[1], " x ", s.grid[2], " blocks in clusters of ", s.cluster[0], " x ",
            s.cluster[1], " x ", s.cluster[2]);
    }
  }
  if (s.grid[1] > 65535 || s.grid[2] > 65535) fault("a grid of more than 65535 blocks in y or z");
  if (uint64_t{kernel.static_shared_bytes} + s.dynamic_shared_bytes > kMostShared) {
    fault(kernel.static_shared_bytes + s.dynamic_shared_bytes, " bytes of shared memory; at most ", kMostShared);
  }
}

std::string demangled(const std::string& name) {
  int status = 0;
  std::unique_ptr<char, void (*)(void*)> text(abi::__cxa_demangle(name.c_str(), nullptr, nullptr, &status), std::free);
  return text ? text.get() : name;
}

/** The largest multiple of 8 that the directives allow: registers of a thread, without ptxas to say how many it took.
 */
uint32_t launch_registers(const Kernel& kernel, const LaunchShape& shape) {
  if (kernel.max_registers) return kernel.max_registers / 8 * 8;
  const uint32_t threads = (product(kernel.max_threads[0] ? kernel.max_threads : shape.block) + 31) / 32 * 32;
  return std::min(65536 / std::max(kernel.min_blocks, 1u) / threads / 8 * 8, 248u);
}

}  // namespace

Played play(const Kernel& kernel, const LaunchShape& shape, void* const* arguments, GlobalMemory& memory,
            const Schedule& schedule) {
  const Program& program = kernel.program();
  Launch launch{kernel, program, shape, memory, schedule, std::mt19937_64(schedule.seed)};
  std::unique_ptr<std::byte, void (*)(void*)> parameters(
      static_cast<std::byte*>(std::aligned_alloc(128, (kernel.parameter_bytes / 128 + 1) * 128)), std::free);
  for (size_t n = 0; n < kernel.parameters.size(); n++) {
    std::memcpy(parameters.get() + kernel.parameters[n].offset, arguments[n], kernel.parameters[n].bytes);
  }
  launch.parameters = parameters.get();
  launch.registers = launch_registers(kernel, shape);
  std::optional<Machine> machine;
  try {
    check_shape(kernel, shape);
    machine.emplace(launch);
    return machine->play();
  } catch (const Fault& fault) {
    fail("KERNEL_FAULT", demangled(kernel.name), machine ? machine->place() : "", ": ", fault.what(), " [",
         schedule.describe(), "]");
  }
}

}  // namespace thalweg::emulator
