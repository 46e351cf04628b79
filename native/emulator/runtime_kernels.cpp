#include <random>

#include "native/emulator/fat_binary.h"
#include "native/emulator/fault.h"
#include "native/emulator/runtime.h"

namespace thalweg::emulator {

namespace {

/** What nvcc registers before main: fat binaries and, for each kernel, the host function that stands for it. PTX is
 * parsed when the first of a binary's kernels is asked for. */
struct FatBinary {
  const void* wrapper;
  std::shared_ptr<const Module> module;
};
struct Registered {
  FatBinary* binary;
  std::string name;
};
std::unordered_map<const void*, Registered>& registered() {
  static auto* all = new std::unordered_map<const void*, Registered>;
  return *all;
}

KernelHandle* find_kernel(const void* stub) {
  const auto found = registered().find(stub);
  if (found == registered().end()) return nullptr;
  KernelHandle& handle = runtime().kernels[stub];
  if (handle.kernel == nullptr) {
    FatBinary& binary = *found->second.binary;
    if (binary.module == nullptr)
      binary.module = parse_module(image_for(ptx_images(binary.wrapper), device_shape().capability).text);
    handle.module = binary.module;
    handle.name = found->second.name;
    handle.kernel = binary.module->kernel(handle.name);
    if (handle.kernel == nullptr) fault("the PTX has no kernel ", handle.name);
  }
  return &handle;
}

cudaError_t shape_of(const cudaLaunchConfig_t& config, const KernelHandle& handle, LaunchShape& shape) {
  shape.grid = {config.gridDim.x, config.gridDim.y, config.gridDim.z};
  shape.block = {config.blockDim.x, config.blockDim.y, config.blockDim.z};
  shape.dynamic_shared_bytes = static_cast<uint32_t>(config.dynamicSmemBytes);
  for (unsigned i = 0; i < config.numAttrs; i++) {
    const cudaLaunchAttribute& attribute = config.attrs[i];
    if (attribute.id != cudaLaunchAttributeClusterDimension) return cudaErrorNotSupported;
    shape.cluster = {attribute.val.clusterDim.x, attribute.val.clusterDim.y, attribute.val.clusterDim.z};
  }
  constexpr uint32_t kMostBlocks[3] = {0x7FFFFFFF, 65535, 65535};
  uint64_t threads = 1, cluster = 1;
  for (int i = 0; i < 3; i++) {
    if (shape.grid[i] == 0 || shape.block[i] == 0 || shape.cluster[i] == 0) return cudaErrorInvalidConfiguration;
    if (shape.grid[i] > kMostBlocks[i] || shape.grid[i] % shape.cluster[i] != 0) return cudaErrorInvalidConfiguration;
    threads *= shape.block[i];
    cluster *= shape.cluster[i];
  }
  if (threads > 1024 || shape.block[2] > 64 || cluster > 8) return cudaErrorInvalidConfiguration;
  if (config.dynamicSmemBytes > handle.shared_allowed) return cudaErrorInvalidValue;
  return cudaSuccess;
}

Schedule next_schedule() {
  const DeviceShape& device = device_shape();
  std::mt19937_64 random(static_cast<uint64_t>(device.seed) * 1000003 + runtime().launches++);
  const int number = static_cast<int>(random() % Schedule::kCount);
  Schedule schedule = Schedule::numbered(number, random() % 1000003);
  schedule.resident_blocks = static_cast<uint32_t>(device.multiprocessors);
  return schedule;
}

}  // namespace

}  // namespace thalweg::emulator

using namespace thalweg::emulator;

extern "C" {

void** __cudaRegisterFatBinary(void* wrapper) { return reinterpret_cast<void**>(new FatBinary{wrapper, nullptr}); }
void __cudaRegisterFatBinaryEnd(void**) {}
void __cudaUnregisterFatBinary(void**) {}  // at exit, when kernels may still be known

void __cudaRegisterFunction(void** binary, const char* stub, char*, const char* name, int, uint3*, uint3*, dim3*, dim3*,
                            int*) {
  registered()[stub] = {reinterpret_cast<FatBinary*>(binary), name};
}

/** What <<<>>> would call; every launch here goes through cudaLaunchKernelExC. */
cudaError_t __cudaPopCallConfiguration(dim3*, dim3*, size_t*, void*) { return finish(cudaErrorNotSupported); }
cudaError_t __cudaGetKernel(cudaKernel_t*, const void*) { return finish(cudaErrorNotSupported); }
cudaError_t __cudaLaunchKernel(cudaKernel_t, dim3, dim3, void**, size_t, cudaStream_t) {
  return finish(cudaErrorNotSupported);
}

cudaError_t cudaFuncSetAttribute(const void* stub, cudaFuncAttribute attribute, int value) {
  return guarded([&] {
    KernelHandle* handle = find_kernel(stub);
    if (handle == nullptr) return cudaErrorInvalidDeviceFunction;
    if (attribute != cudaFuncAttributeMaxDynamicSharedMemorySize || value < 0 ||
        static_cast<size_t>(value) > device_shape().shared_per_block)
      return cudaErrorInvalidValue;
    handle->shared_allowed = static_cast<size_t>(value);
    return cudaSuccess;
  });
}

/** Parameters are copied now; the kernel plays when the stream comes to it. */
cudaError_t cudaLaunchKernelExC(const cudaLaunchConfig_t* config, const void* stub, void** arguments) {
  return guarded([&] {
    const KernelHandle* handle = find_kernel(stub);
    if (handle == nullptr) return cudaErrorInvalidDeviceFunction;
    LaunchShape shape;
    const cudaError_t status = shape_of(*config, *handle, shape);
    if (status != cudaSuccess) return status;
    std::vector<std::vector<std::byte>> values;
    for (size_t i = 0; i < handle->kernel->parameters.size(); i++) {
      const auto* first = static_cast<const std::byte*>(arguments[i]);
      values.emplace_back(first, first + handle->kernel->parameters[i].bytes);
    }
    enqueue(config->stream, {"kernel", [kernel = handle->kernel, module = handle->module, shape, values] {
                               std::vector<void*> pointers;
                               for (const auto& value : values)
                                 pointers.push_back(const_cast<std::byte*>(value.data()));
                               play(*kernel, shape, pointers.data(), runtime().memory, next_schedule());
                             }});
    return cudaSuccess;
  });
}

}  // extern "C"
