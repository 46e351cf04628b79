#pragma once
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <string>
#include <vector>

#include "native/cuda/kernels.h"

/** Timing of single kernels on the device, for developers and for the bundle: JSON lines, medians of repeats. */
namespace bench {

using namespace thalweg;

struct Options {
  bool tiny = false;     // small shapes and one repeat: does it run at all (on the SIMT machine)
  double seconds = 0.1;  // of kernel time in a repeat
  int repeats = 5;
  size_t rotate = 160u << 20;  // operands are rotated through this many bytes, beyond any L2
  std::string only;            // groups whose name contains it
};

/** One measured call: what it is, what it must do, how to enqueue it with the i-th set of operands. */
struct Measurement {
  std::string group, name;
  std::vector<std::pair<std::string, int64_t>> fields;
  double flops = 0, bytes = 0;  // that must be done and moved
  std::function<void(int set, cuda::Context&)> enqueue;
  int sets = 1;
};

class Device {
 public:
  Device();
  cuda::Stream& stream() { return *stream_; }
  const cuda::DeviceProperties& properties() const { return properties_; }
  /** Device memory of normal values, rounded to bf16 or as fp32, kept until the Device ends or release(). */
  void* normal(DType dtype, int64_t count);
  void* zeros(size_t bytes);
  void* integers(const std::vector<int32_t>& values);
  void release() { memory_.clear(); }
  cuda::Context context(size_t workspace_bytes);

 private:
  cuda::DeviceProperties properties_;
  std::unique_ptr<cuda::Stream> stream_;
  std::vector<cuda::DeviceMemory> memory_;
  cuda::DeviceMemory step_, workspace_;
  std::vector<float> pattern_;
  std::vector<uint16_t> halves_;  // the same in bf16
};

/** A tensor operand over device memory. */
inline Tensor tensor(void* data, DType dtype, std::vector<int64_t> shape) {
  Tensor t;
  t.data = data;
  t.dtype = dtype;
  t.rank = static_cast<int>(shape.size());
  for (size_t i = 0; i < shape.size(); i++) t.shape[i] = shape[i];
  return t;
}

/** How many sets of operands of `bytes` fill the rotation. */
inline int sets_for(const Options& options, double bytes) {
  if (options.tiny) return 1;
  return static_cast<int>(std::min(64.0, static_cast<double>(options.rotate) / bytes + 2));
}

/** Times it and prints its line: seconds (median), spread, TFLOP/s, GB/s. */
void run(Device& device, const Options& options, size_t workspace, const Measurement& measurement);

void print_predictions();
void print_attention_predictions();
void print_step_predictions();
/** The same as JSON lines, one a command, with its op and shapes as `thalweg bench ops` names them. */
void print_step_commands();
void matmul_benchmarks(Device& device, const Options& options);
void attention_benchmarks(Device& device, const Options& options);
void memory_benchmarks(Device& device, const Options& options);

}  // namespace bench
