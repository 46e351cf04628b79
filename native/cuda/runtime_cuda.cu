#include <cuda.h>
#include <cudaTypedefs.h>
#include <cuda_runtime.h>

#include <cstdlib>
#include <mutex>
#include <unordered_map>

#include "native/base/error.h"
#include "native/cuda/launch.h"
#include "native/cuda/tensor_map.h"

namespace thalweg::cuda {

namespace {

/** Error CUDA_ERROR with the runtime's name and text of it. A sticky error (an illegal address) ends the process's use
 * of the device: every later call repeats it. */
void check(cudaError_t status, const char* what) {
  if (status == cudaSuccess) return;
  cudaGetLastError();  // a failed launch must not be reported again by the next call
  fail("CUDA_ERROR", what, ": ", cudaGetErrorName(status), " (", cudaGetErrorString(status), ")");
}

class CudaGraph final : public Graph {
 public:
  explicit CudaGraph(cudaGraph_t graph) {
    check(cudaGraphInstantiate(&executable_, graph, 0), "instantiating a graph");
    cudaGraphDestroy(graph);
  }
  ~CudaGraph() override { cudaGraphExecDestroy(executable_); }
  cudaGraphExec_t executable() const { return executable_; }

 private:
  cudaGraphExec_t executable_ = nullptr;
};

class CudaEvent final : public Event {
 public:
  CudaEvent() { check(cudaEventCreate(&event_), "making an event"); }
  ~CudaEvent() override { cudaEventDestroy(event_); }
  cudaEvent_t handle() const { return event_; }

 private:
  cudaEvent_t event_ = nullptr;
};

class CudaStream final : public Stream {
 public:
  CudaStream() { check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "making a stream"); }
  ~CudaStream() override { cudaStreamDestroy(stream_); }
  cudaStream_t handle() const { return stream_; }

  void upload(void* device, const void* host, size_t bytes) override {
    check(cudaMemcpyAsync(device, host, bytes, cudaMemcpyHostToDevice, stream_), "copying to the device");
  }
  void download(void* host, const void* device, size_t bytes) override {
    check(cudaMemcpyAsync(host, device, bytes, cudaMemcpyDeviceToHost, stream_), "copying from the device");
    synchronize();
  }
  void fill_bytes(void* device, int value, size_t bytes) override {
    check(cudaMemsetAsync(device, value, bytes, stream_), "filling device memory");
  }
  void synchronize() override { check(cudaStreamSynchronize(stream_), "running kernels"); }
  std::unique_ptr<Event> record() override {
    auto event = std::make_unique<CudaEvent>();
    check(cudaEventRecord(event->handle(), stream_), "recording an event");
    return event;
  }
  double seconds_between(const Event& start, const Event& end) override {
    float milliseconds = 0;
    check(cudaEventElapsedTime(&milliseconds, static_cast<const CudaEvent&>(start).handle(),
                               static_cast<const CudaEvent&>(end).handle()),
          "timing");
    return milliseconds * 1e-3;
  }
  void begin_graph() override {
    // Relaxed: a kernel's first launch loads its module, which the stricter modes may take for an unsafe call.
    check(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeRelaxed), "beginning a graph");
  }
  std::unique_ptr<Graph> end_graph() override {
    cudaGraph_t graph = nullptr;
    check(cudaStreamEndCapture(stream_, &graph), "recording a graph");
    return std::make_unique<CudaGraph>(graph);
  }
  void replay(const Graph& graph) override {
    check(cudaGraphLaunch(static_cast<const CudaGraph&>(graph).executable(), stream_), "launching a graph");
  }

 private:
  cudaStream_t stream_ = nullptr;
};

int attribute(cudaDeviceAttr which, int ordinal) {
  int value = 0;
  check(cudaDeviceGetAttribute(&value, which, ordinal), "asking the device");
  return value;
}

/** The capability whose kernels are used: the device's, or an earlier one of THALWEG_CUDA_CAPABILITY, which later GPUs
 * play too (but for 9.0's): to compare them, or where those of this GPU are in doubt. */
int capability_of(const cudaDeviceProp& device) {
  const int own = device.major * 10 + device.minor;
  const char* text = std::getenv("THALWEG_CUDA_CAPABILITY");
  if (text == nullptr || *text == '\0') return own;
  char* end = nullptr;
  const int64_t asked = std::strtoll(text, &end, 10);
  if (*end != '\0' || asked < 80 || asked > own || (asked == 90 && own != 90))
    fail("BAD_OPTION", "THALWEG_CUDA_CAPABILITY is ", text, ", expected a whole number from 80 to the ", own, " of ",
         device.name, own == 90 ? "" : " but 90");
  return static_cast<int>(asked);
}

/** Lets a kernel be launched with so much dynamic shared memory: more than 48 KB must be asked for. Never takes back
 * what was allowed: a graph recorded before may need it. */
void allow_shared_memory(const void* kernel, size_t bytes) {
  constexpr size_t kWithoutAsking = 48 * 1024;
  if (bytes <= kWithoutAsking) return;
  static std::mutex mutex;
  static std::unordered_map<const void*, size_t> allowed;
  const std::lock_guard lock(mutex);
  size_t& most = allowed[kernel];
  if (bytes <= most) return;
  check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(bytes)),
        "asking for shared memory");
  most = bytes;
}

/** cuTensorMapEncodeTiled out of the driver that is there, so nothing links to libcuda. */
PFN_cuTensorMapEncodeTiled_v12000 tensor_map_encoder() {
  static const auto encoder = [] {
    void* entry = nullptr;
    cudaDriverEntryPointQueryResult found{};
    check(cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &entry, 12000, cudaEnableDefault, &found),
          "looking for cuTensorMapEncodeTiled");
    if (found != cudaDriverEntryPointSuccess) fail("CUDA_ERROR", "this driver has no cuTensorMapEncodeTiled");
    return reinterpret_cast<PFN_cuTensorMapEncodeTiled_v12000>(entry);
  }();
  return encoder;
}

}  // namespace

const char* device_kind() { return "cuda"; }

int device_count(std::string* reason) {
  int count = 0;
  const cudaError_t status = cudaGetDeviceCount(&count);
  if (status == cudaSuccess) return count;
  cudaGetLastError();
  if (reason != nullptr) *reason = std::string(cudaGetErrorName(status)) + " (" + cudaGetErrorString(status) + ")";
  return 0;
}

DeviceProperties select_device(int ordinal) {
  std::string reason = "there is no GPU";
  const int count = device_count(&reason);
  if (count == 0) fail("NO_DEVICE", "no CUDA device: ", reason, ". A driver of CUDA 13 (580 or newer) is needed.");
  if (ordinal < 0 || ordinal >= count) fail("NO_DEVICE", "device cuda:", ordinal, " does not exist, there are ", count);
  check(cudaSetDevice(ordinal), "taking the device");
  cudaDeviceProp properties{};
  check(cudaGetDeviceProperties(&properties, ordinal), "asking the device");
  const int capability = properties.major * 10 + properties.minor;
  if (capability < 80)
    fail("NO_DEVICE", properties.name, " has compute capability ", properties.major, ".", properties.minor,
         ", at least 8.0 (Ampere) is needed");
  int driver = 0;
  check(cudaDriverGetVersion(&driver), "asking the driver");
  DeviceProperties found;
  found.name = properties.name;
  found.target = {capability_of(properties), properties.multiProcessorCount,
                  static_cast<size_t>(attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin, ordinal))};
  found.memory_bytes = properties.totalGlobalMem;
  found.driver = std::to_string(driver / 1000) + "." + std::to_string(driver % 1000 / 10);
  return found;
}

DeviceMemory::DeviceMemory(size_t bytes, const char* purpose) : bytes_(bytes) {
  if (bytes == 0) return;
  void* memory = nullptr;
  const cudaError_t status = cudaMalloc(&memory, bytes);
  if (status == cudaErrorMemoryAllocation) {
    cudaGetLastError();
    size_t available = 0, total = 0;
    cudaMemGetInfo(&available, &total);
    fail("CUDA_OUT_OF_MEMORY", "no device memory for ", purpose, ": ", bytes >> 20, " MiB were asked, ",
         available >> 20, " of ", total >> 20,
         " MiB are free. Use a smaller micro-batch, recompute, or a smaller model.");
  }
  check(status, "allocating device memory");
  data_ = static_cast<std::byte*>(memory);
}
DeviceMemory::~DeviceMemory() { cudaFree(data_); }

PinnedMemory::PinnedMemory(size_t bytes) : bytes_(bytes) {
  void* memory = nullptr;
  check(cudaMallocHost(&memory, bytes), "allocating pinned memory");
  data_ = static_cast<std::byte*>(memory);
}
PinnedMemory::~PinnedMemory() { cudaFreeHost(data_); }

std::unique_ptr<Stream> make_stream() { return std::make_unique<CudaStream>(); }

void launch_raw(Stream& stream, const void* kernel, const GridShape& shape, void** arguments) {
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(shape.blocks[0], shape.blocks[1], shape.blocks[2]);
  config.blockDim = dim3(shape.threads);
  config.dynamicSmemBytes = shape.shared_bytes;
  config.stream = static_cast<CudaStream&>(stream).handle();
  cudaLaunchAttribute cluster{};
  if (shape.cluster > 1) {
    cluster.id = cudaLaunchAttributeClusterDimension;
    cluster.val.clusterDim.x = shape.cluster;
    cluster.val.clusterDim.y = 1;
    cluster.val.clusterDim.z = 1;
    config.attrs = &cluster;
    config.numAttrs = 1;
  }
  allow_shared_memory(kernel, shape.shared_bytes);
  check(cudaLaunchKernelExC(&config, kernel, arguments), "launching a kernel");
}

TensorMap make_tensor_map(const TensorBox& spec) {
  check_tensor_box(spec);
  static_assert(sizeof(TensorMap) == sizeof(CUtensorMap) && alignof(TensorMap) == alignof(CUtensorMap));
  constexpr CUtensorMapSwizzle kSwizzles[] = {CU_TENSOR_MAP_SWIZZLE_NONE, CU_TENSOR_MAP_SWIZZLE_32B,
                                              CU_TENSOR_MAP_SWIZZLE_64B, CU_TENSOR_MAP_SWIZZLE_128B};
  const cuuint32_t steps[5] = {1, 1, 1, 1, 1};
  cuuint64_t sizes[5], strides[5];
  cuuint32_t box[5];
  for (uint32_t i = 0; i < spec.rank; i++) {
    sizes[i] = spec.size[i];
    box[i] = spec.box[i];
    if (i > 0) strides[i - 1] = spec.stride[i];
  }
  TensorMap map;
  const CUresult status = tensor_map_encoder()(
      reinterpret_cast<CUtensorMap*>(&map),
      spec.element_bytes == 2 ? CU_TENSOR_MAP_DATA_TYPE_BFLOAT16 : CU_TENSOR_MAP_DATA_TYPE_FLOAT32, spec.rank,
      const_cast<void*>(spec.base), sizes, strides, box, steps, CU_TENSOR_MAP_INTERLEAVE_NONE,
      kSwizzles[static_cast<int>(spec.swizzle)], CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  if (status != CUDA_SUCCESS) fail("CUDA_ERROR", "cuTensorMapEncodeTiled gave ", static_cast<int>(status));
  return map;
}

}  // namespace thalweg::cuda
