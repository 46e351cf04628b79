#pragma once
#include <array>
#include <cstdint>

#include "native/emulator/memory.h"
#include "native/emulator/module.h"
#include "native/emulator/schedule.h"

/** Plays launches: blocks, clusters and warps of a kernel, interleaved as a Schedule says. */
namespace thalweg::emulator {

struct LaunchShape {
  std::array<uint32_t, 3> grid{1, 1, 1}, block{1, 1, 1}, cluster{1, 1, 1};  // cluster in blocks
  uint32_t dynamic_shared_bytes = 0;
};

/** What a launch came to. */
struct Played {
  uint64_t warp_instructions = 0;
  uint64_t blocks = 0;
};

/**
 * Plays a launch to its end. arguments[i] points at the value of parameter i. Fails with KERNEL_FAULT, naming kernel,
 * PTX line, block, warp and schedule, for what the hardware would trap on, never end, or leave undefined.
 */
Played play(const Kernel& kernel, const LaunchShape& shape, void* const* arguments, GlobalMemory& memory,
            const Schedule& schedule);

}  // namespace thalweg::emulator
