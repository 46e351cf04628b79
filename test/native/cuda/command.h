#pragma once
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdlib>
#include <string>
#include <vector>

#include "native/cuda/kernels.h"
#include "test/native/buffer.h"
#if !defined(THALWEG_REAL_CUDA)
#include "native/cuda/simulated_device.h"
#endif

/**
 * Single ops run by the CUDA kernels: on the SIMT machine under several schedules, or, built with THALWEG_REAL_CUDA, on
 * the GPU of this machine. The same tests serve both.
 */
namespace check {

inline bool on_gpu() {
#if defined(THALWEG_REAL_CUDA)
  return true;
#else
  return false;
#endif
}

/** On a GPU ends the program, saying what was run, when it has not ended after 10 seconds: a kernel that hangs. The
 * SIMT machine sees a deadlock itself. */
class Watch {
 public:
  explicit Watch(const std::string& what) {
    if (!on_gpu()) return;
    report() = "a kernel never ended: " + what + "\n";
    std::signal(SIGALRM, [](int) {
      if (write(STDERR_FILENO, report().data(), report().size()) >= 0) _exit(3);
      _exit(4);
    });
    alarm(10);
  }
  ~Watch() {
    if (on_gpu()) alarm(0);
  }
  Watch(const Watch&) = delete;
  Watch& operator=(const Watch&) = delete;

 private:
  static std::string& report() {
    static std::string text;
    return text;
  }
};

/** An op with the shapes of its operands and its attributes. */
inline std::string describe(const char* op, const std::vector<Tensor>& operands,
                            const std::vector<double>& attributes) {
  std::ostringstream text;
  text << op;
  for (const Tensor& t : operands) {
    text << " " << (t.present() ? dtype_name(t.dtype) : "absent");
    for (int i = 0; i < t.rank; i++) text << (i == 0 ? "[" : " ") << t.shape[i];
    if (t.rank > 0) text << "]";
  }
  for (double a : attributes) text << " " << a;
  return text.str();
}

/** What kernels and their launchers are told about the device. */
inline cuda::Target& device_target() {
#if defined(THALWEG_REAL_CUDA)
  static cuda::Target target = cuda::select_device(0).target;
  return target;
#else
  return cuda::simulated_device().target;
#endif
}

/**
 * body() under schedules that the hardware could choose: three drawn from the test's seed, all 36 with
 * THALWEG_ALL_SCHEDULES=1; on a GPU twice. A failure names the schedule.
 */
template <class Body>
void on_every_schedule(Body body) {
#if defined(THALWEG_REAL_CUDA)
  for (int i = 0; i < 2; i++) body();
#else
  std::vector<int> numbers;
  const char* all = std::getenv("THALWEG_ALL_SCHEDULES");
  for (int i = 0; i < simt::Schedule::kCount; i++)
    if (all != nullptr && *all == '1') numbers.push_back(i);
  std::mt19937_64 random(seed());
  while (numbers.size() < 3) numbers.push_back(static_cast<int>(random() % simt::Schedule::kCount));
  const simt::Schedule before = cuda::simulated_device().schedule;
  for (int number : numbers) {
    cuda::simulated_device().schedule = simt::Schedule::numbered(number, seed());
    try {
      body();
    } catch (const std::exception& e) {
      const std::string schedule = cuda::simulated_device().schedule.describe();
      cuda::simulated_device().schedule = before;
      throw Failure("schedule " + std::to_string(number) + " (" + schedule + "): " + e.what());
    }
  }
  cuda::simulated_device().schedule = before;
#endif
}

/** body(), which returns the bytes of all outputs, must return the same under every schedule (and twice on a GPU). */
template <class Body>
void same_bits_on_every_schedule(Body body) {
  std::vector<unsigned char> first;
  on_every_schedule([&] {
    const std::vector<unsigned char> bits = body();
    if (first.empty()) first = bits;
    CHECK(bits == first, "the bits differ from those of the first run");
  });
}

/**
 * Runs with another device for the SIMT machine: capability and number of multiprocessors. A GPU has the kernels of
 * earlier ones too and takes smaller grids, but is told of no capability that it has not; its shared memory stays.
 */
template <class Body>
void on_device(int capability, int multiprocessors, Body body) {
  cuda::Target& target = device_target();
  const cuda::Target before = target;
#if defined(THALWEG_REAL_CUDA)
  if (capability != 90) target.capability = std::min(before.capability, capability);  // those of 9.0 are its alone
  target.multiprocessors = std::min(before.multiprocessors, multiprocessors);
#else
  target = {capability, multiprocessors, cuda::shared_limit_of(capability)};
#endif
  try {
    body();
  } catch (...) {
    target = before;
    throw;
  }
  target = before;
}

struct Setting {
  std::vector<float> scalars = std::vector<float>(ops::kScalarCount, 0.0f);
  std::vector<int32_t> integers = std::vector<int32_t>(ops::kIntegerCount, 0);
  const cuda::WeightCopies* copies = nullptr;
};

inline cuda::Stream& test_stream() {
  static const auto stream = [] {
    cuda::select_device(0);
    return cuda::make_stream();
  }();
  return *stream;
}

#define THALWEG_ENTRY(Params, name) \
  inline auto entry_of(const ops::Params&) { return std::make_pair(&cuda::name, &cuda::name##_workspace); }
THALWEG_OPS(THALWEG_ENTRY)
#undef THALWEG_ENTRY

/** Operands on the device between guard zones of their own; what the kernel wrote comes back with download(). */
class DeviceOperands {
 public:
  explicit DeviceOperands(const std::vector<Tensor>& operands) : host_(operands), device_(operands) {
    for (auto& t : device_) {
      if (!t.present()) {
        memory_.emplace_back();
        continue;
      }
      size_t shared = 0;  // operands that share memory on the host do so on the device
      while (host_[shared].data != t.data) shared++;
      if (shared < memory_.size()) {
        memory_.emplace_back();
        t.data = device_[shared].data;
        continue;
      }
      memory_.emplace_back(t.bytes() + 2 * kGuard, "an operand");
      std::vector<unsigned char> bytes(t.bytes() + 2 * kGuard, kMark);
      std::memcpy(bytes.data() + kGuard, t.data, t.bytes());
      test_stream().upload(memory_.back().data(), bytes.data(), bytes.size());
      t.data = memory_.back().data() + kGuard;
    }
  }
  const std::vector<Tensor>& tensors() const { return device_; }
  void download() {
    for (size_t i = 0; i < host_.size(); i++) {
      if (memory_[i].data() == nullptr) continue;
      std::vector<unsigned char> bytes(host_[i].bytes() + 2 * kGuard);
      test_stream().download(bytes.data(), memory_[i].data(), bytes.size());
      for (size_t b = 0; b < kGuard; b++)
        CHECK(bytes[b] == kMark && bytes[bytes.size() - 1 - b] == kMark, "operand ", i,
              ": something was written outside it");
      std::memcpy(host_[i].data, bytes.data() + kGuard, host_[i].bytes());
    }
  }

 private:
  static constexpr size_t kGuard = 256;
  static constexpr unsigned char kMark = 0xa5;
  std::vector<Tensor> host_, device_;
  std::vector<cuda::DeviceMemory> memory_;
};

/** Checks the operands against the op's declaration, as the engine does, runs the op once on the device with a poisoned
 * workspace, and brings the operands back. Returns the fault the kernel noted. */
template <class Params>
cuda::Fault run_op(const std::vector<Tensor>& operands, const std::vector<double>& attributes,
                   const Setting& setting = {}) {
  cuda::Stream& stream = test_stream();
  const cuda::Target target = device_target();
  DeviceOperands device(operands);
  const Params p = Params::decode({Params::kName, "test", device.tensors(), attributes});
  const auto [kernel, workspace] = entry_of(p);
  const Buffer room(DType::F32, {static_cast<int64_t>(workspace(p, target) / 4 + 1)});
  DeviceOperands scratch({room.tensor()});
  const cuda::DeviceMemory inputs(
      sizeof(float) * ops::kScalarCount + sizeof(int32_t) * ops::kIntegerCount + sizeof(cuda::Fault), "inputs");
  auto* fault = reinterpret_cast<cuda::Fault*>(inputs.data());  // first: it is stored as 16 bytes
  auto* scalars = reinterpret_cast<float*>(inputs.data() + sizeof(cuda::Fault));
  auto* integers = reinterpret_cast<int32_t*>(scalars + ops::kScalarCount);
  cuda::Fault noted{};
  stream.upload(scalars, setting.scalars.data(), sizeof(float) * ops::kScalarCount);
  stream.upload(integers, setting.integers.data(), sizeof(int32_t) * ops::kIntegerCount);
  stream.upload(fault, &noted, sizeof noted);
  cuda::Context context{stream, target,        scalars, integers, static_cast<std::byte*>(scratch.tensors()[0].data),
                        fault,  setting.copies};
  {
    const Watch watch(describe(Params::kName, operands, attributes));
    kernel(p, context);
    stream.synchronize();
  }
  device.download();
  scratch.download();
  stream.download(&noted, fault, sizeof noted);
  return noted;
}

/** body(act) for both compute precisions; a failure names it. */
template <class Body>
void in_both_precisions(Body body) {
  for (DType act : {DType::F32, DType::BF16}) {
    try {
      body(act);
    } catch (const std::exception& e) {
      throw Failure(std::string(dtype_name(act)) + ": " + e.what());
    }
  }
}

}  // namespace check
