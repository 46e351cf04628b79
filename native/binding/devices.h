#pragma once
#include <memory>
#include <string>
#include <vector>

#include "native/engine/backend.h"

namespace thalweg::binding {

/** The kinds of device this build has: cpu, and cuda or simt (the CUDA kernels on the host, for tests). */
const std::vector<std::string>& device_kinds();

/** `device` is a kind, or "auto": a GPU where this build and this machine have one, else the CPU. `threads` is for the
 * CPU. Errors: NO_DEVICE. */
std::unique_ptr<engine::Backend> make_backend(const std::string& device, int threads);

/** What a Module would take on that device beside its persistent tensors. */
engine::MemoryPlan plan_memory(const std::string& device, const engine::Layout& layout,
                               const std::vector<engine::Program>& programs, int threads);

}  // namespace thalweg::binding
