#include <cuda.h>
#include <cudaTypedefs.h>

#include <cstdlib>
#include <cstring>

#include "native/emulator/fault.h"
#include "native/emulator/runtime.h"
#include "native/emulator/tensor_map.h"

namespace thalweg::emulator {

namespace {

int number_of(const char* variable, int otherwise) {
  const char* text = std::getenv(variable);
  return text == nullptr || *text == '\0' ? otherwise : std::atoi(text);
}

constexpr size_t kGuard = 512;  // between allocations, and their alignment

}  // namespace

const DeviceShape& device_shape() {
  static const DeviceShape shape = [] {
    return DeviceShape{90, number_of("THALWEG_EMULATED_MULTIPROCESSORS", 4), number_of("THALWEG_EMULATED_SEED", 1),
                       size_t{227} << 10, size_t{16} << 30};
  }();
  return shape;
}

Runtime& runtime() {
  static auto* const all = new Runtime;  // never destroyed: exit handlers of others may still call
  return *all;
}

cudaError_t finish(cudaError_t status) {
  if (status != cudaSuccess) runtime().last = status;
  return status;
}

cudaError_t guarded(const std::function<cudaError_t()>& body) {
  const std::lock_guard lock(runtime().mutex);
  if (!runtime().broken.empty()) return finish(cudaErrorLaunchFailure);
  try {
    return finish(body());
  } catch (const std::exception& wrong) {
    runtime().broken = wrong.what();
    for (auto& stream : runtime().streams) stream->work.clear();
    return finish(cudaErrorLaunchFailure);
  }
}

void check_device(const void* start, size_t bytes, const char* what) {
  const auto address = reinterpret_cast<uint64_t>(start);
  if (runtime().memory.find(address, bytes) == nullptr)
    fault(what, ": ", bytes, " bytes at ", start, " are not device memory: ", runtime().memory.nearest(address));
}

}  // namespace thalweg::emulator

using namespace thalweg::emulator;

extern "C" {

const char* cudaGetErrorName(cudaError_t error) {
  switch (error) {
    case cudaSuccess:
      return "cudaSuccess";
    case cudaErrorInvalidValue:
      return "cudaErrorInvalidValue";
    case cudaErrorMemoryAllocation:
      return "cudaErrorMemoryAllocation";
    case cudaErrorInvalidDevice:
      return "cudaErrorInvalidDevice";
    case cudaErrorInvalidDeviceFunction:
      return "cudaErrorInvalidDeviceFunction";
    case cudaErrorInvalidConfiguration:
      return "cudaErrorInvalidConfiguration";
    case cudaErrorInvalidResourceHandle:
      return "cudaErrorInvalidResourceHandle";
    case cudaErrorLaunchFailure:
      return "cudaErrorLaunchFailure";
    case cudaErrorLaunchOutOfResources:
      return "cudaErrorLaunchOutOfResources";
    case cudaErrorNotReady:
      return "cudaErrorNotReady";
    case cudaErrorNotSupported:
      return "cudaErrorNotSupported";
    case cudaErrorStreamCaptureUnsupported:
      return "cudaErrorStreamCaptureUnsupported";
    default:
      return "an error the emulator never gives";
  }
}

const char* cudaGetErrorString(cudaError_t error) {
  return error == cudaErrorLaunchFailure ? runtime().broken.c_str() : cudaGetErrorName(error);
}

/** Errors of a broken device stay; others are taken back. */
cudaError_t cudaGetLastError() {
  const std::lock_guard lock(runtime().mutex);
  const cudaError_t last = runtime().last;
  if (runtime().broken.empty()) runtime().last = cudaSuccess;
  return last;
}

cudaError_t cudaGetDeviceCount(int* count) {
  *count = 1;
  return cudaSuccess;
}
cudaError_t cudaSetDevice(int ordinal) { return finish(ordinal == 0 ? cudaSuccess : cudaErrorInvalidDevice); }
cudaError_t cudaDriverGetVersion(int* version) {
  *version = CUDART_VERSION;
  return cudaSuccess;
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int ordinal) {
  if (ordinal != 0) return finish(cudaErrorInvalidDevice);
  std::memset(properties, 0, sizeof(*properties));
  std::strncpy(properties->name, "PTX emulator", sizeof(properties->name) - 1);
  properties->major = device_shape().capability / 10;
  properties->minor = device_shape().capability % 10;
  properties->multiProcessorCount = device_shape().multiprocessors;
  properties->sharedMemPerBlock = 48 * 1024;
  properties->sharedMemPerBlockOptin = device_shape().shared_per_block;
  properties->totalGlobalMem = device_shape().memory_bytes;
  properties->warpSize = 32;
  return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int ordinal) {
  if (ordinal != 0) return finish(cudaErrorInvalidDevice);
  switch (attribute) {
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
      *value = static_cast<int>(device_shape().shared_per_block);
      break;
    case cudaDevAttrMultiProcessorCount:
      *value = device_shape().multiprocessors;
      break;
    case cudaDevAttrComputeCapabilityMajor:
      *value = device_shape().capability / 10;
      break;
    case cudaDevAttrComputeCapabilityMinor:
      *value = device_shape().capability % 10;
      break;
    default:
      return finish(cudaErrorInvalidValue);
  }
  return cudaSuccess;
}

cudaError_t cudaMemGetInfo(size_t* available, size_t* total) {
  const std::lock_guard lock(runtime().mutex);
  *total = device_shape().memory_bytes;
  *available = *total - runtime().allocated_bytes;
  return cudaSuccess;
}

/** Filled with 0xFF, which reads as NaN. */
cudaError_t cudaMalloc(void** pointer, size_t bytes) {
  return guarded([&] {
    Runtime& all = runtime();
    if (bytes > device_shape().memory_bytes - all.allocated_bytes) return cudaErrorMemoryAllocation;
    void* memory = std::aligned_alloc(kGuard, (bytes + 2 * kGuard - 1) / kGuard * kGuard);
    if (memory == nullptr) return cudaErrorMemoryAllocation;
    std::memset(memory, 0xFF, bytes);
    all.memory.add(memory, bytes, "device memory of " + std::to_string(bytes) + " bytes");
    all.allocations[memory] = bytes;
    all.allocated_bytes += bytes;
    *pointer = memory;
    return cudaSuccess;
  });
}

/** Waits for all streams, as cudaFree does. */
cudaError_t cudaFree(void* pointer) {
  if (pointer == nullptr) return cudaSuccess;
  const std::lock_guard lock(runtime().mutex);
  const cudaError_t status = guarded([] {
    drain_all();
    return cudaSuccess;
  });
  const auto found = runtime().allocations.find(pointer);
  if (found == runtime().allocations.end()) return finish(cudaErrorInvalidValue);
  runtime().memory.remove(pointer);
  runtime().allocated_bytes -= found->second;
  runtime().allocations.erase(found);
  std::free(pointer);
  return status;
}

cudaError_t cudaMallocHost(void** pointer, size_t bytes) {
  return guarded([&] {
    *pointer = std::aligned_alloc(kGuard, (bytes + kGuard - 1) / kGuard * kGuard);
    if (*pointer == nullptr) return cudaErrorMemoryAllocation;
    runtime().pinned[*pointer] = bytes;
    return cudaSuccess;
  });
}

cudaError_t cudaFreeHost(void* pointer) {
  if (pointer == nullptr) return cudaSuccess;
  const cudaError_t status = guarded([] {
    drain_all();
    return cudaSuccess;
  });
  const std::lock_guard lock(runtime().mutex);
  if (runtime().pinned.erase(pointer) == 0) return finish(cudaErrorInvalidValue);
  std::free(pointer);
  return status;
}

static CUresult encode_tiled(CUtensorMap* map, CUtensorMapDataType type, cuuint32_t rank, void* address,
                             const cuuint64_t* sizes, const cuuint64_t* strides, const cuuint32_t* box,
                             const cuuint32_t* element_strides, CUtensorMapInterleave interleave,
                             CUtensorMapSwizzle swizzle, CUtensorMapL2promotion promotion,
                             CUtensorMapFloatOOBfill fill) {
  return static_cast<CUresult>(encode_tensor_map(
      map, static_cast<int>(type), rank, address, sizes, strides, box, element_strides, static_cast<int>(interleave),
      static_cast<int>(swizzle), static_cast<int>(promotion), static_cast<int>(fill)));
}

cudaError_t cudaGetDriverEntryPointByVersion(const char* symbol, void** entry, unsigned int, unsigned long long,
                                             cudaDriverEntryPointQueryResult* found) {
  const bool known = std::strcmp(symbol, "cuTensorMapEncodeTiled") == 0;
  const PFN_cuTensorMapEncodeTiled_v12000 encode = encode_tiled;
  *entry = known ? reinterpret_cast<void*>(encode) : nullptr;
  if (found != nullptr) *found = known ? cudaDriverEntryPointSuccess : cudaDriverEntryPointSymbolNotFound;
  return cudaSuccess;
}

}  // extern "C"
