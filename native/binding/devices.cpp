#include "native/binding/devices.h"

#include "native/cpu/backend.h"
#if defined(THALWEG_WITH_CUDA) || defined(THALWEG_WITH_SIMT)
#define THALWEG_ACCELERATOR 1
#include "native/cuda/backend.h"
#include "native/cuda/runtime.h"
#endif

namespace thalweg::binding {

namespace {

[[noreturn]] void missing(const std::string& device) {
  if (device == "cuda")
    fail("NO_DEVICE",
         "device is cuda, but this build has no CUDA backend. Use device: cpu (or auto), or a build that has it.");
  fail("NO_DEVICE", "device is ", device, ", but this build has no such device");
}

/** Whether `device` means the accelerator of this build; false means the CPU. */
bool wants_accelerator(const std::string& device) {
  if (device == "cpu") return false;
#ifdef THALWEG_ACCELERATOR
  if (device == cuda::device_kind()) return true;
  // The SIMT machine is never chosen unasked: it is thousands of times slower than the CPU backend.
  if (device == "auto") return std::string(cuda::device_kind()) == "cuda" && cuda::device_count(nullptr) > 0;
#else
  if (device == "auto") return false;
#endif
  missing(device);
}

}  // namespace

const std::vector<std::string>& device_kinds() {
  static const std::vector<std::string> kinds = {
      "cpu",
#ifdef THALWEG_ACCELERATOR
      cuda::device_kind(),
#endif
  };
  return kinds;
}

std::unique_ptr<engine::Backend> make_backend(const std::string& device, int threads) {
  if (wants_accelerator(device)) {
#ifdef THALWEG_ACCELERATOR
    return cuda::make_backend(0);
#endif
  }
  return cpu::make_backend(threads);
}

engine::MemoryPlan plan_memory(const std::string& device, const engine::Layout& layout,
                               const std::vector<engine::Program>& programs, int threads) {
  if (wants_accelerator(device)) {
#ifdef THALWEG_ACCELERATOR
    return cuda::plan_memory(layout, programs, 0);
#endif
  }
  return cpu::plan_memory(layout, programs, threads);
}

}  // namespace thalweg::binding
