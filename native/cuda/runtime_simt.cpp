#include <atomic>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <vector>

#include "native/base/error.h"
#include "native/cuda/launch.h"
#include "native/cuda/simulated_device.h"
#include "native/cuda/tensor_map.h"
#include "native/simt/machine.h"
#include "native/simt/sabotage.h"

namespace thalweg::cuda {

namespace {

constexpr int kPoison = 0xFF;  // NaN, so that what a kernel forgets to write is seen

std::atomic<size_t> memory_taken{0};

double now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

int64_t environment(const char* name, int64_t otherwise, int64_t least, int64_t most) {
  const char* text = std::getenv(name);
  if (text == nullptr || *text == '\0') return otherwise;
  char* end = nullptr;
  const int64_t value = std::strtoll(text, &end, 10);
  if (*end != '\0' || value < least || value > most)
    fail("BAD_OPTION", name, " is ", text, ", expected a whole number from ", least, " to ", most);
  return value;
}

class SimtGraph final : public Graph {
 public:
  std::vector<std::function<void()>> work;
};

class SimtEvent final : public Event {
 public:
  double at = now();
};

class SimtStream final : public Stream {
 public:
  void upload(void* device, const void* host, size_t bytes) override { std::memcpy(device, host, bytes); }
  void download(void* host, const void* device, size_t bytes) override { std::memcpy(host, device, bytes); }
  void fill_bytes(void* device, int value, size_t bytes) override {
    enqueue([=] {
      if (!simt::sabotage.hits(simt::Sabotage::Kind::Fill)) std::memset(device, value, bytes);
    });
  }
  void synchronize() override {}
  std::unique_ptr<Event> record() override { return std::make_unique<SimtEvent>(); }
  double seconds_between(const Event& start, const Event& end) override {
    return static_cast<const SimtEvent&>(end).at - static_cast<const SimtEvent&>(start).at;
  }
  void begin_graph() override { recording_ = std::make_unique<SimtGraph>(); }
  std::unique_ptr<Graph> end_graph() override { return std::move(recording_); }
  void replay(const Graph& graph) override {
    for (const auto& work : static_cast<const SimtGraph&>(graph).work) work();
  }
  void enqueue(std::function<void()> work) {
    if (recording_)
      recording_->work.push_back(std::move(work));
    else
      work();
  }

 private:
  std::unique_ptr<SimtGraph> recording_;
};

}  // namespace

size_t shared_limit_of(int capability) {
  switch (capability) {
    case 80:
    case 87:
      return 163 * 1024;
    case 90:
    case 100:
    case 103:
      return 227 * 1024;
    default:
      return 99 * 1024;  // 86, 89, 120
  }
}

SimulatedDevice& simulated_device() {
  thread_local SimulatedDevice device = [] {
    SimulatedDevice d;
    const auto seed = static_cast<uint64_t>(environment("THALWEG_SIMT_SEED", 1, 0, INT32_MAX));
    d.schedule = simt::Schedule::numbered(
        static_cast<int>(environment("THALWEG_SIMT_SCHEDULE", 4, 0, simt::Schedule::kCount - 1)), seed);
    d.target.capability = static_cast<int>(environment("THALWEG_SIMT_CAPABILITY", 90, 80, 120));
    d.target.shared_limit = shared_limit_of(d.target.capability);
    return d;
  }();
  return device;
}

const char* device_kind() { return "simt"; }

int device_count(std::string*) { return 1; }

DeviceProperties select_device(int ordinal) {
  if (ordinal != 0) fail("NO_DEVICE", "device simt:", ordinal, " does not exist, there is one");
  const SimulatedDevice& device = simulated_device();
  return {"SIMT machine on the host", device.target, device.memory_bytes, "none"};
}

DeviceMemory::DeviceMemory(size_t bytes, const char* purpose) : bytes_(bytes) {
  if (bytes == 0) return;
  const size_t whole = simulated_device().memory_bytes, taken = memory_taken;
  if (taken < whole && bytes <= whole - taken)
    data_ = static_cast<std::byte*>(std::aligned_alloc(256, (bytes + 255) / 256 * 256));
  if (data_ == nullptr)
    fail("CUDA_OUT_OF_MEMORY", "no device memory for ", purpose, ": ", bytes, " bytes were asked, ", taken, " of ",
         whole, " are taken");
  memory_taken += bytes;
  std::memset(data_, kPoison, bytes);
}
DeviceMemory::~DeviceMemory() {
  if (data_ == nullptr) return;
  memory_taken -= bytes_;
  std::free(data_);
}

size_t simulated_memory_taken() { return memory_taken; }

PinnedMemory::PinnedMemory(size_t bytes) : data_(static_cast<std::byte*>(std::malloc(bytes))), bytes_(bytes) {}
PinnedMemory::~PinnedMemory() { std::free(data_); }

std::unique_ptr<Stream> make_stream() { return std::make_unique<SimtStream>(); }

TensorMap make_tensor_map(const TensorBox& spec) {
  check_tensor_box(spec);
  TensorMap map;
  map.magic = TensorMap::kMagic;
  map.rank = spec.rank;
  map.base = spec.base;
  for (uint32_t i = 0; i < spec.rank; i++) {
    map.size[i] = spec.size[i];
    map.stride[i] = spec.stride[i];
    map.box[i] = spec.box[i];
  }
  map.element_bytes = spec.element_bytes;
  map.swizzle = static_cast<simt::Swizzle>(spec.swizzle);
  return map;
}

void launch_body(Stream& stream, const GridShape& shape, std::function<void()> body) {
  simt::LaunchShape grid;
  grid.grid = {shape.blocks[0], shape.blocks[1], shape.blocks[2]};
  grid.block = {shape.threads, 1, 1};
  grid.cluster = {shape.cluster, 1, 1};
  grid.shared_bytes = shape.shared_bytes;
  const size_t limit = simulated_device().target.shared_limit;
  if (shape.shared_bytes > limit)
    fail("KERNEL_FAULT", "a launch with ", shape.shared_bytes, " bytes of shared memory, this device has ", limit);
  // CUDA programming guide, technical specifications per compute capability.
  if (shape.threads == 0 || shape.threads > 1024 || shape.blocks[0] > INT32_MAX || shape.blocks[1] > 65535 ||
      shape.blocks[2] > 65535 || shape.blocks[0] % shape.cluster != 0)
    fail("KERNEL_FAULT", "a launch of ", shape.blocks[0], " x ", shape.blocks[1], " x ", shape.blocks[2],
         " blocks in clusters of ", shape.cluster, ", ", shape.threads,
         " threads each: at most 2^31 - 1 x 65535 x 65535 in whole clusters, and 1024 threads");
  static_cast<SimtStream&>(stream).enqueue([grid, body = std::move(body)] {
    const SimulatedDevice& device = simulated_device();
    simt::launch(grid, device.schedule, device.resident, body);
  });
}

}  // namespace thalweg::cuda
