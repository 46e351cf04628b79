#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

/**
 * What the backend needs of a device's runtime: memory, an ordered queue, timing, replay. Two bodies: runtime_cuda.cu
 * over the CUDA runtime, runtime_simt.cpp over the SIMT machine.
 */
namespace thalweg::cuda {

/** What kernels and their launchers may ask of a device; a pure value, so plans can be made without one. */
struct Target {
  int capability = 80;        // 10 * major + minor
  int multiprocessors = 108;  // persistent kernels and split sums size their grids by it
  size_t shared_limit = 0;    // bytes of shared memory a block may ask for
};

struct DeviceProperties {
  std::string name;
  Target target;
  size_t memory_bytes = 0;
  std::string driver;  // version, e.g. "13.0"
};

/** "cuda", or "simt" where the SIMT machine plays the GPU. */
const char* device_kind();
/** Number of devices; 0 with the reason when there is no driver or no GPU. */
int device_count(std::string* reason);
/** Makes device `ordinal` the calling thread's. Errors: NO_DEVICE, BAD_OPTION (THALWEG_CUDA_CAPABILITY). */
DeviceProperties select_device(int ordinal);

/** Device memory, undefined at first. Errors: CUDA_OUT_OF_MEMORY with what was asked and what is free. */
class DeviceMemory {
 public:
  DeviceMemory() = default;
  DeviceMemory(size_t bytes, const char* purpose);
  ~DeviceMemory();
  DeviceMemory(DeviceMemory&& other) noexcept { swap(other); }
  DeviceMemory& operator=(DeviceMemory&& other) noexcept {
    swap(other);
    return *this;
  }
  std::byte* data() const { return data_; }
  size_t bytes() const { return bytes_; }

 private:
  void swap(DeviceMemory& other) {
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
  }
  std::byte* data_ = nullptr;
  size_t bytes_ = 0;
};

/** Host memory the device copies from and to without a detour. */
class PinnedMemory {
 public:
  explicit PinnedMemory(size_t bytes);
  ~PinnedMemory();
  PinnedMemory(const PinnedMemory&) = delete;
  PinnedMemory& operator=(const PinnedMemory&) = delete;
  std::byte* data() const { return data_; }
  size_t bytes() const { return bytes_; }

 private:
  std::byte* data_ = nullptr;
  size_t bytes_ = 0;
};

struct GridShape {
  unsigned blocks[3] = {1, 1, 1};
  unsigned threads = 32;
  unsigned cluster = 1;  // along the first axis
  size_t shared_bytes = 0;
};

/** Recorded launches, replayed as one. */
class Graph {
 public:
  virtual ~Graph() = default;
};

/** A moment on a Stream. */
class Event {
 public:
  virtual ~Event() = default;
};

/** An ordered queue of work on the device. Errors: CUDA_ERROR with the driver's name of it, KERNEL_FAULT. */
class Stream {
 public:
  virtual ~Stream() = default;
  virtual void upload(void* device, const void* host, size_t bytes) = 0;
  virtual void download(void* host, const void* device, size_t bytes) = 0;
  virtual void fill_bytes(void* device, int value, size_t bytes) = 0;
  virtual void synchronize() = 0;
  virtual std::unique_ptr<Event> record() = 0;
  /** Both must have happened (synchronize). */
  virtual double seconds_between(const Event& start, const Event& end) = 0;
  /** Launches between begin and end are recorded, not done. */
  virtual void begin_graph() = 0;
  virtual std::unique_ptr<Graph> end_graph() = 0;
  virtual void replay(const Graph& graph) = 0;
};

std::unique_ptr<Stream> make_stream();

}  // namespace thalweg::cuda
