#pragma once
#include <memory>

#include "native/engine/backend.h"

namespace thalweg::cuda {

/** The GPU `ordinal` (or the SIMT machine, as this library was built). Error NO_DEVICE when there is none. */
std::unique_ptr<engine::Backend> make_backend(int ordinal);

/** What a Module would take on that device beside its persistent tensors; allocates nothing. */
engine::MemoryPlan plan_memory(const engine::Layout& layout, const std::vector<engine::Program>& programs, int ordinal);

}  // namespace thalweg::cuda
