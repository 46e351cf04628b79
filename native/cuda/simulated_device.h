#pragma once
#include "native/cuda/runtime.h"
#include "native/simt/schedule.h"

namespace thalweg::cuda {

/** The device that the SIMT machine plays: set before a launch, read at each. */
struct SimulatedDevice {
  Target target{90, 2, 227 * 1024};
  simt::Schedule schedule;
  unsigned resident = 2;  // clusters at a time
  size_t memory_bytes = size_t{8} << 30;
};

/** Of this thread. Without a word from a test: environment THALWEG_SIMT_SCHEDULE (0 to 35), THALWEG_SIMT_SEED,
 * THALWEG_SIMT_CAPABILITY (80, 86, 89, 90, 100, 120). Errors: BAD_OPTION. */
SimulatedDevice& simulated_device();

/** Bytes of device memory that are taken now, by all threads. */
size_t simulated_memory_taken();

/** Bytes of shared memory a block may ask for on a GPU of this capability (CUDA programming guide, table of technical
 * specifications). */
size_t shared_limit_of(int capability);

}  // namespace thalweg::cuda
