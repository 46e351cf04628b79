#pragma once
#include <memory>

#include "native/engine/backend.h"

namespace thalweg::cpu {

/** The CPU, on the path selected_isa() with a team of `threads` (0 = every CPU this process may use). */
std::unique_ptr<engine::Backend> make_backend(int threads);

/** What a Module would take beside its persistent tensors; allocates nothing. */
engine::MemoryPlan plan_memory(const engine::Layout& layout, const std::vector<engine::Program>& programs, int threads);

}  // namespace thalweg::cpu
