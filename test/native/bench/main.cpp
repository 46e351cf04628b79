// Benchmarks of the CUDA kernels: a line about the device, then one JSON line for each measurement.
//   kernel_bench [--only GROUP] [--tiny]
//   kernel_bench --predict    what cost models expect of the paper's matrix products, of attention and of whole steps;
//   needs
//                             no device
//   kernel_bench --predict-step    the commands of those steps as JSON lines
#include <cstring>

#include "test/native/bench/harness.h"

int main(int argc, char** argv) {
  bench::Options options;
  for (int i = 1; i < argc; i++) {
    if (std::strcmp(argv[i], "--tiny") == 0)
      options.tiny = true;
    else if (std::strcmp(argv[i], "--predict") == 0) {
      bench::print_predictions();
      bench::print_attention_predictions();
      bench::print_step_predictions();
      return 0;
    } else if (std::strcmp(argv[i], "--predict-step") == 0) {
      bench::print_step_commands();
      return 0;
    } else if (std::strcmp(argv[i], "--only") == 0 && i + 1 < argc)
      options.only = argv[++i];
    else {
      std::fprintf(stderr, "usage: %s [--only matmul|attention|memory] [--tiny] | --predict | --predict-step\n",
                   argv[0]);
      return 2;
    }
  }
  try {
    bench::Device device;
    const auto& p = device.properties();
    std::printf("{\"device\":\"%s\",\"name\":\"%s\",\"capability\":%d,\"multiprocessors\":%d,\"driver\":\"%s\"}\n",
                thalweg::cuda::device_kind(), p.name.c_str(), p.target.capability, p.target.multiprocessors,
                p.driver.c_str());
    const auto wanted = [&](const char* group) { return options.only.empty() || options.only == group; };
    if (wanted("memory")) bench::memory_benchmarks(device, options);
    if (wanted("matmul")) bench::matmul_benchmarks(device, options);
    if (wanted("attention")) bench::attention_benchmarks(device, options);
  } catch (const std::exception& e) {
    std::fprintf(stderr, "error: %s\n", e.what());
    return 1;
  }
  return 0;
}
