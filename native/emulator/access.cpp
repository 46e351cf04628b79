#include "native/emulator/access.h"

#include <ios>

namespace thalweg::emulator {

void Launch::look_up(uint64_t address, uint64_t bytes, const char* what) {
  const auto start = reinterpret_cast<uint64_t>(parameters);
  if (address >= start && address - start < kernel.parameter_bytes &&
      bytes <= kernel.parameter_bytes - (address - start) && what[0] == 'r') {
    return;
  }
  const GlobalMemory::Allocation* a = memory.find(address, bytes);
  if (!a) {
    const bool shared = (address & kSharedWindow) != 0 && address >> 62 == 1;
    fault(what, " ", bytes, " bytes at global address 0x", std::hex, address, std::dec, ", which is ",
          shared             ? "a generic address of shared memory"
          : address == ~0ull ? "what an undefined register holds"
                             : memory.nearest(address));
  }
  known_start = a->start;
  known_end = a->start + a->bytes;
}

void fault_alignment(const Reach& reach, uint32_t mask, uint32_t bytes, const char* what) {
  each_lane(mask, [&](uint32_t l) {
    if (reach.at[l] % bytes == 0) return;
    fault("lane ", l, ": an access of ", bytes, " bytes at ", what, " address 0x", std::hex, reach.at[l],
          ", which is not aligned to them");
  });
  fault("misaligned");
}

namespace {

/** A lane's access to shared memory by its window address. */
uint64_t shared_place(Warp& w, uint32_t lane, uint64_t at, uint32_t bytes, bool writes) {
  Block* block = w.block;
  uint64_t offset = at;
  if (at >= uint64_t{1} << kRankShift) {
    const uint64_t rank = (at >> kRankShift) - 1;
    if (rank >= block->cluster->blocks.size()) {
      fault("lane ", lane, ": shared address 0x", std::hex, at,
            at == 0xFFFFFFFF ? " (what an undefined register holds)" : "", " is of no block of the cluster");
    }
    block = block->cluster->blocks[rank].get();
    offset = at & ((1u << kRankShift) - 1);
    if (block->live_warps == 0)
      fault("lane ", lane, " accesses shared memory of block ", rank, " of the cluster, which has exited");
  }
  if (offset + bytes > block->shared_bytes) {
    fault("lane ", lane, writes ? " writes " : " reads ", bytes, " bytes at shared address ", offset,
          ", but the block has ", block->shared_bytes, " bytes");
  }
  if (block->proxies) {
    const bool own = block == w.block;
    const uint32_t thread = own ? w.thread(lane) : ProxyState::kRemoteThread;
    if (writes)
      block->proxies->ordinary_write(thread, static_cast<uint32_t>(offset), bytes);
    else
      block->proxies->ordinary_read(thread, static_cast<uint32_t>(offset), bytes);
  }
  return reinterpret_cast<uint64_t>(block->shared) + offset;
}

}  // namespace

void reach_shared(Warp& w, uint32_t mask, Reach& reach, uint32_t bytes, bool writes) {
  const Extent e = extent(reach);
  if (e.all & (bytes - 1)) fault_alignment(reach, mask, bytes, "shared");
  Block& block = *w.block;
  if (e.highest + bytes <= block.shared_bytes) {
    if (block.proxies) {
      ProxyState& proxies = *block.proxies;
      if (writes) {
        each_lane(mask,
                  [&](uint32_t l) { proxies.ordinary_write(w.thread(l), static_cast<uint32_t>(reach.at[l]), bytes); });
      } else {
        each_lane(mask,
                  [&](uint32_t l) { proxies.ordinary_read(w.thread(l), static_cast<uint32_t>(reach.at[l]), bytes); });
      }
    }
    const auto base = reinterpret_cast<uint64_t>(block.shared);
    for (uint64_t& at : reach.at) at += base;
    return;
  }
  each_lane(mask, [&](uint32_t l) { reach.at[l] = shared_place(w, l, reach.at[l], bytes, writes); });
}

void reach_generic(Warp& w, uint32_t mask, Reach& reach, uint32_t bytes, bool writes) {
  if (extent(reach).all & (bytes - 1)) fault_alignment(reach, mask, bytes, "generic");
  each_lane(mask, [&](uint32_t l) {
    const uint64_t at = reach.at[l];
    if (at >> 32 == kSharedWindow >> 32)
      reach.at[l] = shared_place(w, l, at & 0xFFFFFFFFu, bytes, writes);
    else
      w.launch->check(at, bytes, writes ? "writes" : "reads");
  });
}

void reach_param(Warp& w, uint32_t mask, Reach& reach, uint32_t bytes) {
  const Extent e = extent(reach);
  if (e.all & (bytes - 1)) fault_alignment(reach, mask, bytes, "parameter");
  if (e.highest + bytes > w.launch->kernel.parameter_bytes || e.highest + bytes < bytes) {
    fault("reads ", bytes, " bytes at parameter address ", e.highest, ", but there are ",
          w.launch->kernel.parameter_bytes);
  }
  const auto base = reinterpret_cast<uint64_t>(w.launch->parameters);
  for (uint64_t& at : reach.at) at += base;
}

}  // namespace thalweg::emulator
