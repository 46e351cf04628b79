#pragma once
#include <cuda_runtime_api.h>

#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

#include "native/emulator/machine.h"
#include "native/emulator/memory.h"
#include "native/emulator/module.h"

/**
 * A stand-in for the CUDA runtime (libcudart): the functions that native/cuda/runtime_cuda.cu and nvcc's registration
 * call, over the emulator. One device. Work is queued, as late as the documentation allows: a stream plays what it
 * holds when something waits for it, so that a copy from pinned memory reads what is there then.
 */
namespace thalweg::emulator {

struct KernelHandle {
  std::shared_ptr<const Module> module;
  const Kernel* kernel = nullptr;
  std::string name;
  size_t shared_allowed = 48 * 1024;  // cudaFuncAttributeMaxDynamicSharedMemorySize raises it
};

struct Work {
  const char* what;
  std::function<void()> act;
};

struct StreamQueue {
  std::deque<Work> work;
  bool capturing = false;
  std::vector<Work> captured;
};

/** What the process knows of its one device; every function of the API holds the mutex. */
struct Runtime {
  std::recursive_mutex mutex;
  GlobalMemory memory;
  std::unordered_map<const void*, KernelHandle> kernels;  // by the host's stub
  std::unordered_map<const void*, size_t> allocations;    // device memory: user pointer -> bytes
  std::unordered_map<const void*, size_t> pinned;
  std::vector<std::unique_ptr<StreamQueue>> streams;
  size_t allocated_bytes = 0;
  uint64_t launches = 0;
  std::string broken;  // what a kernel did wrong: from then on every call fails, as after an illegal address
  cudaError_t last = cudaSuccess;
};

Runtime& runtime();

/** Notes the status for cudaGetLastError and gives it back. */
cudaError_t finish(cudaError_t status);
/** body(), which gives a status; what it throws breaks the device. */
cudaError_t guarded(const std::function<cudaError_t()>& body);
/** Faults unless all bytes are device memory. */
void check_device(const void* start, size_t bytes, const char* what);
/** Plays what the stream holds. */
void drain(StreamQueue& stream);
void drain_all();
/** Queues work, or records it while the stream is captured. */
void enqueue(cudaStream_t stream, Work work);

/** An H100 with few multiprocessors, or as many as THALWEG_EMULATED_MULTIPROCESSORS says. Each launch is played under
 * another schedule, drawn from THALWEG_EMULATED_SEED. */
struct DeviceShape {
  int capability, multiprocessors, seed;
  size_t shared_per_block, memory_bytes;
};
const DeviceShape& device_shape();

}  // namespace thalweg::emulator
