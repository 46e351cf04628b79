#pragma once
#include <cstdint>

namespace thalweg::simt {

/**
 * One step of synchronisation that the machine leaves out, or does wrongly, wherever a kernel asks for it. A test sets
 * it to see that it would notice a kernel without that step; the kernel's source stays as it is.
 */
struct Sabotage {
  enum class Kind : uint8_t {
    None,
    MbarrierWait,    // does not wait
    MbarrierParity,  // waits for the other parity
    MbarrierArrive,  // does not arrive
    NamedBarrier,    // neither waits nor arrives
    BarrierFence,    // no fence after mbarriers are initialised
    ProxyFence,      // does not show writes to the asynchronous proxy
    ProductFence,    // no wgmma.fence
    ProductWait,     // does not wait for products
    StoreRead,       // does not wait until bulk stores have read
    StoreWritten,    // waits only until they have read
    Turn,            // does not wait for its turn among blocks
    Fill,            // memory is not filled before the kernel
  };
  Kind kind = Kind::None;
  int which = 0;  // mbarriers: in the order in which a block initialises them; named barriers: number; waits: groups

  bool hits(Kind asked) const { return kind == asked; }
  bool hits(Kind asked, int one) const { return kind == asked && which == one; }
};

inline thread_local Sabotage sabotage;

}  // namespace thalweg::simt
