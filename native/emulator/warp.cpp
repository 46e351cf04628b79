#include "native/emulator/warp.h"

#include <algorithm>

#include "native/emulator/mbarrier.h"

/**
 * Divergence: the lanes of a warp at the same instruction are a group. The group at the smallest instruction runs until
 * it comes to another group's (they are one from there on) or passes it; a group that waits, spins or has used its
 * turn lets the others go first. So lanes come together again behind what parted them, and every lane makes progress.
 */
namespace thalweg::emulator {

uint64_t Warp::run(int64_t quantum) {
  if (active == 0 && !take_group()) return 0;
  const Instruction* code = launch->program.code.data();
  uint64_t played = 0;
  for (budget = quantum; budget > 0; budget--) {
    if (pc >= stop) [[unlikely]] {
      leave_group({}, false);
      take_group();
    }
    const Instruction& i = code[pc];
    now = pc++;
    played++;
    const uint32_t guard = predicates[i.predicate], mask = active & (i.negated ? ~guard : guard);
    if (mask) i.execute(*this, i, mask);
  }
  if (active && !others.empty()) leave_group({}, true);
  return played;
}

bool Warp::ready() {
  if (active) return true;
  for (Group& g : others) {
    if (over(g)) return true;
  }
  return false;
}

bool Warp::warpgroup_committed(uint64_t groups) const {
  const uint32_t first = number / 4 * 4;
  for (uint32_t n = first; n < first + 4; n++) {
    if (block->warps[n].groups_committed < groups) return false;
  }
  return true;
}

bool Warp::over(Group& g) {
  const Wait& wait = g.wait;
  bool is_over = true;
  switch (wait.kind) {
    case Wait::Kind::Nothing:
      return true;
    case Wait::Kind::Lanes:
      is_over = (wait.lanes & live & ~g.lanes) == 0;
      break;
    case Wait::Kind::Barrier:
      is_over = block->barriers[wait.barrier].generation != wait.generation;
      break;
    case Wait::Kind::Mbarrier:
      is_over = mbarrier_phase_over(wait.mbarrier, wait.parity);
      break;
    case Wait::Kind::ClusterBarrier:
      is_over = block->cluster->phase > wait.generation;
      break;
    case Wait::Kind::Registers:
      is_over = block->free_registers >= wait.registers;
      break;
    case Wait::Kind::Products:
      is_over = warpgroup_committed(wait.generation);
      break;
  }
  if (is_over) g.wait = {};
  return is_over;
}

void Warp::leave_group(const Wait& wait, bool yielded) {
  if (wait.kind == Wait::Kind::Lanes) {
    for (Group& g : others) {
      if (g.wait.kind != Wait::Kind::Lanes || g.pc != pc || g.wait.lanes != wait.lanes) continue;
      g.lanes |= active;
      active = 0;
      return;
    }
  }
  others.push_back({pc, active, yielded, wait});
  active = 0;
}

bool Warp::take_group() {
  size_t best = others.size();
  for (const bool yielded : {false, true}) {
    for (size_t g = 0; g < others.size(); g++) {
      if (others[g].yielded != yielded || !over(others[g])) continue;
      if (best == others.size() || others[g].pc < others[best].pc) best = g;
    }
    if (best < others.size()) break;
  }
  if (best == others.size()) return false;
  if (others[best].yielded) {
    for (Group& g : others) g.yielded = false;
  }
  pc = others[best].pc;
  stop = ~0u;
  size_t kept = 0;
  for (const Group& g : others) {
    const bool free = g.wait.kind == Wait::Kind::Nothing;
    if (free && g.pc == pc) {
      active |= g.lanes;
      continue;
    }
    if (free && !g.yielded && g.pc > pc) stop = std::min(stop, g.pc);
    others[kept++] = g;
  }
  others.resize(kept);
  return true;
}

void Warp::wait_and_repeat(const Wait& wait) {
  pc = now;
  wait_behind(wait);
}

void Warp::wait_behind(const Wait& wait) {
  leave_group(wait, false);
  budget = 0;
}

void Warp::yield() {
  spins = true;
  budget = 0;  // with other groups, run parks this one behind them
}

bool Warp::together(uint32_t mask, uint32_t lanes) {
  const uint32_t wanted = lanes & live;
  if ((wanted & ~mask) == 0) return true;
  if ((wanted & ~active) == 0) {
    fault("a predicate leaves out lanes 0x", std::hex, wanted & ~mask, " of an instruction that all of 0x", wanted,
          " must play together");
  }
  Wait wait;
  wait.kind = Wait::Kind::Lanes;
  wait.lanes = lanes;
  wait_and_repeat(wait);
  return false;
}

void Warp::branch(uint32_t taken, uint32_t target) {
  const uint32_t rest = active & ~taken;
  if (rest == 0) {
    pc = target;
    return;
  }
  others.push_back({target, taken, false, {}});
  active = rest;
  stop = std::min(stop, target);
}

void Warp::exit(uint32_t lanes) {
  if (newest_product > groups_done) fault("exits while a wgmma is under way");
  live &= ~lanes;
  active &= ~lanes;
  launch->progress++;
  if (active == 0) budget = 0;
}

}  // namespace thalweg::emulator
