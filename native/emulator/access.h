#pragma once
#include <algorithm>

#include "native/emulator/lanes.h"

/** Addresses of a warp's lanes, checked and made host addresses. */
namespace thalweg::emulator {

enum class Space : uint8_t { Generic, Global, Shared, Param };

/** Host addresses of the lanes in the mask; of the others, some lane's that is. */
struct Reach {
  uint64_t at[32];
};

/** base + immediate of each lane; those not in the mask get the first one's. */
template <class A>
inline void add_up(const Warp& w, const Instruction& i, uint32_t mask, Reach& reach) {
  if (i.a == kNoRef) {
    for (uint64_t& at : reach.at) at = static_cast<A>(i.immediate);
    return;
  }
  const A* base = in<A>(w, i.a);
  const A offset = static_cast<A>(i.immediate);
  if (mask == ~0u) {
    for (uint32_t l = 0; l < 32; l++) reach.at[l] = static_cast<A>(base[l] + offset);
  } else {
    const uint64_t first = static_cast<A>(base[std::countr_zero(mask)] + offset);
    for (uint32_t l = 0; l < 32; l++) reach.at[l] = has(mask, l) ? static_cast<A>(base[l] + offset) : first;
  }
}

struct Extent {
  uint64_t lowest, highest, all;  // all: the bits that are set in some
};
inline Extent extent(const Reach& reach) {
  Extent e{reach.at[0], reach.at[0], 0};
  for (uint64_t at : reach.at) {
    e.lowest = std::min(e.lowest, at);
    e.highest = std::max(e.highest, at);
    e.all |= at;
  }
  return e;
}

[[noreturn]] void fault_alignment(const Reach& reach, uint32_t mask, uint32_t bytes, const char* what);
/** Shared memory: window addresses to host addresses; faults out of range and, with proxies, on what they forbid. */
void reach_shared(Warp& w, uint32_t mask, Reach& reach, uint32_t bytes, bool writes);
void reach_generic(Warp& w, uint32_t mask, Reach& reach, uint32_t bytes, bool writes);
void reach_param(Warp& w, uint32_t mask, Reach& reach, uint32_t bytes);

inline void reach_global(Warp& w, uint32_t mask, Reach& reach, uint32_t bytes, bool writes) {
  const Extent e = extent(reach);
  if (e.all & (bytes - 1)) [[unlikely]]
    fault_alignment(reach, mask, bytes, "global");
  if (w.launch->covers(e.lowest, e.highest, bytes)) [[likely]]
    return;
  each_lane(mask, [&](uint32_t l) { w.launch->check(reach.at[l], bytes, writes ? "writes" : "reads"); });
}

/** The host addresses of `bytes` per lane at [a + immediate]; option 32 says that the base has 32 bits. */
template <Space S>
inline void reach_lanes(Warp& w, const Instruction& i, uint32_t mask, Reach& reach, uint32_t bytes, bool writes) {
  if constexpr (S == Space::Shared) {
    if (i.option == 32)
      add_up<uint32_t>(w, i, mask, reach);
    else
      add_up<uint64_t>(w, i, mask, reach);
    reach_shared(w, mask, reach, bytes, writes);
  } else {
    if (i.option == 32)
      add_up<uint32_t>(w, i, mask, reach);
    else
      add_up<uint64_t>(w, i, mask, reach);
    if constexpr (S == Space::Global) reach_global(w, mask, reach, bytes, writes);
    if constexpr (S == Space::Generic) reach_generic(w, mask, reach, bytes, writes);
    if constexpr (S == Space::Param) reach_param(w, mask, reach, bytes);
  }
}

}  // namespace thalweg::emulator
