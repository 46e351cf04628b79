// Prints a JSON line for each conformance case: { "name", "tolerance", "words" } or { "name", "skipped" } or { "name",
// "error" }, after a line about the device. tools/gpu/conformance.mjs compares the SIMT machine's with a GPU's.
//   conformance [--from INDEX]    the cases behind one that hung or broke the device: exit 3 says that it is broken
#include <unistd.h>

#include <cstdio>
#include <cstdlib>

#include "native/base/error.h"
#include "native/cuda/runtime.h"
#include "test/native/conformance/case.h"

int main(int argc, char** argv) {
  using namespace conformance;
  const cuda::DeviceProperties device = cuda::select_device(0);
  std::printf("{\"device\":\"%s\",\"name\":\"%s\",\"capability\":%d,\"multiprocessors\":%d,\"driver\":\"%s\"}\n",
              cuda::device_kind(), device.name.c_str(), device.target.capability, device.target.multiprocessors,
              device.driver.c_str());
  add_warp_cases();
  add_copy_cases();
  add_product_cases();
  const auto stream = cuda::make_stream();
  const bool on_gpu = std::string(cuda::device_kind()) == "cuda";  // the SIMT machine sees a deadlock itself
  size_t index = argc > 2 && std::string(argv[1]) == "--from" ? std::strtoull(argv[2], nullptr, 10) : 0;
  for (; index < cases().size(); index++) {
    const Case& each = cases()[index];
    std::printf("{\"name\":\"%s\",", each.name.c_str());
    std::fflush(stdout);  // should the case never end, this tells which it is
    if (on_gpu) alarm(10);
    // The instructions of sm_90a exist on 9.0 only; later architectures have others.
    if (each.capability == 90 ? device.target.capability != 90 : device.target.capability < each.capability) {
      std::printf("\"skipped\":\"needs compute capability %d\"}\n", each.capability);
      continue;
    }
    try {
      const Words words = each.run(*stream);
      std::printf("\"tolerance\":%g,\"words\":[", each.tolerance);
      for (size_t i = 0; i < words.size(); i++) std::printf("%s%u", i ? "," : "", words[i]);
      std::printf("]}\n");
    } catch (const Error& e) {
      std::string text = e.what();
      for (char& c : text)
        if (c == '"' || c == '\\' || c == '\n') c = ' ';
      std::printf("\"error\":\"%s\"}\n", text.c_str());
      if (e.code() == "CUDA_ERROR") return 3;  // this process cannot use the device any more
    }
    std::fflush(stdout);
  }
  return 0;
}
