#include <map>
#include <sstream>

#include "native/emulator/mbarrier.h"
#include "native/emulator/warp.h"

/** Who waits for what. */
namespace thalweg::emulator {
namespace {

std::string described(const MbarrierState& state) {
  std::ostringstream out;
  if (!state.valid) return "which is not initialised";
  out << "now in a phase of parity " << state.parity << " with " << state.pending << " of " << state.expected
      << " arrivals and " << state.bytes << " bytes to come";
  return out.str();
}

std::string what_for(const Warp& w, const Group& g) {
  std::ostringstream out;
  const Wait& wait = g.wait;
  switch (wait.kind) {
    case Wait::Kind::Nothing:
      out << "run";
      break;
    case Wait::Kind::Lanes:
      out << "wait for lanes 0x" << std::hex << (wait.lanes & w.live & ~g.lanes) << std::dec << " to come there";
      break;
    case Wait::Kind::Barrier: {
      const NamedBarrier& b = w.block->barriers[wait.barrier];
      out << "wait for barrier " << wait.barrier << ", to which "
          << static_cast<size_t>(__builtin_popcount(b.warps)) * 32 << " of "
          << (b.expected ? b.expected : w.block->live_warps * 32) << " threads have come";
      break;
    }
    case Wait::Kind::Mbarrier:
      out << "wait for the phase of parity " << wait.parity << " of the mbarrier at shared address "
          << wait.mbarrier - w.block->shared << ", " << described(mbarrier_state(wait.mbarrier));
      break;
    case Wait::Kind::ClusterBarrier:
      out << "wait for the cluster's barrier";
      break;
    case Wait::Kind::Products:
      out << "wait for the other warps of the warpgroup to commit wgmma group " << wait.generation - 1;
      break;
    case Wait::Kind::Registers:
      out << "wait for " << wait.registers << " registers; the block's pool has " << w.block->free_registers;
      break;
  }
  return out.str();
}

}  // namespace

std::string waiting(const std::vector<std::unique_ptr<Cluster>>& clusters) {
  std::ostringstream out;
  size_t lines = 0;
  for (const auto& cluster : clusters) {
    for (const auto& block : cluster->blocks) {
      std::map<std::string, std::string> warps;  // by what they wait for
      for (const Warp& w : block->warps) {
        std::vector<Group> groups = w.others;
        if (w.active) groups.push_back({w.pc, w.active, false, {}});
        for (const Group& g : groups) {
          const bool behind = g.wait.kind == Wait::Kind::Barrier || g.wait.kind == Wait::Kind::ClusterBarrier;
          const Instruction& i = w.launch->program.code[g.pc - behind];
          std::ostringstream key;
          key << what_for(w, g) << " (line " << i.line << ")";
          std::string& list = warps[key.str()];
          list += (list.empty() ? "" : ", ") + std::to_string(w.number);
          if (g.lanes != w.live) {
            std::ostringstream lanes;
            lanes << " (lanes 0x" << std::hex << g.lanes << ")";
            list += lanes.str();
          }
        }
      }
      for (const auto& [what, who] : warps) {
        if (++lines > 24) return out.str() + "\n  ...";
        out << "\n  block (" << block->index[0] << ", " << block->index[1] << ", " << block->index[2] << "), warps "
            << who << ": " << what;
      }
    }
  }
  return out.str();
}

}  // namespace thalweg::emulator
