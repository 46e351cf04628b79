#include <bit>

#include "native/emulator/warp.h"

/** Barriers of a block (bar, barrier.cta) and of a cluster (barrier.cluster). */
namespace thalweg::emulator {

void Block::arrive(Warp& warp, uint32_t index, uint32_t threads) {
  if (index >= barriers.size()) fault("barrier ", index, " of a block that has 16");
  if (threads % 32 != 0) fault("barrier ", index, " for ", threads, " threads, which are not whole warps");
  const auto all = static_cast<uint32_t>(warps.size()) * 32;
  if (threads > all) fault("barrier ", index, " for ", threads, " threads in a block of ", all);
  if (threads == all) threads = 0;
  NamedBarrier& barrier = barriers[index];
  if (barrier.warps != 0 && barrier.expected != threads) {
    const auto count = [&](uint32_t n) { return n ? n : all; };
    fault("comes to barrier ", index, " for ", count(threads), " threads; others came to it for ",
          count(barrier.expected));
  }
  if (barrier.warps >> warp.number & 1) {
    fault("comes to barrier ", index, " again before those it came with have gone on");
  }
  barrier.expected = threads;
  barrier.warps |= 1u << warp.number;
  check_barrier(barrier);
}

void Block::check_barrier(NamedBarrier& barrier) {
  if (barrier.warps == 0) return;
  if (barrier.expected == 0) {
    for (const Warp& w : warps) {
      if (w.live != 0 && !(barrier.warps >> w.number & 1)) return;
    }
  } else if (std::popcount(barrier.warps) * 32u < barrier.expected) {
    return;
  }
  if (proxies) {
    std::vector<uint32_t> met;
    for (uint32_t w = 0; w < warps.size(); w++) {
      if (barrier.warps >> w & 1) met.push_back(w);
    }
    proxies->meet(met);
  }
  barrier.warps = 0;
  barrier.expected = 0;
  barrier.generation++;
  warps[0].launch->progress++;
}

void Cluster::arrive(Warp& warp) {
  if (warp.cluster_must_wait) fault("comes to the cluster's barrier again without having waited for it");
  warp.cluster_must_wait = true;
  warp.cluster_arrival = phase + 1;
  check_phase();
}

void Cluster::check_phase() {
  uint32_t arrived = 0;
  for (const auto& block : blocks) {
    for (const Warp& w : block->warps) {
      if (w.live != 0 && w.cluster_arrival != phase + 1) return;
      arrived += w.live != 0;
    }
  }
  if (arrived == 0) return;
  for (const auto& block : blocks) {
    if (!block->proxies) continue;
    std::vector<uint32_t> all;
    for (const Warp& w : block->warps) all.push_back(w.number);
    block->proxies->meet(all);
  }
  phase++;
  blocks[0]->warps[0].launch->progress++;
}

}  // namespace thalweg::emulator
