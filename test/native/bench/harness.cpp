#include "test/native/bench/harness.h"

#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <random>

namespace bench {

namespace {

constexpr size_t kPattern = size_t{1} << 22;

uint16_t to_bf16(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, 4);
  return static_cast<uint16_t>((bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
}

}  // namespace

Device::Device() : properties_(cuda::select_device(0)), stream_(cuda::make_stream()) {
  std::mt19937 random(1);
  std::normal_distribution<float> normal;
  pattern_.resize(kPattern);
  for (auto& v : pattern_) v = normal(random);
  halves_.reserve(kPattern);
  for (float v : pattern_) halves_.push_back(to_bf16(v));
  step_ = cuda::DeviceMemory(1024, "step inputs");
  std::vector<float> scalars(ops::kScalarCount, 0.0f);
  scalars[ops::kScalarLr] = 1e-4f;
  scalars[ops::kScalarBeta1] = 0.9f;
  scalars[ops::kScalarBeta2] = 0.95f;
  scalars[ops::kScalarEps] = 1e-8f;
  scalars[ops::kScalarBias1] = scalars[ops::kScalarBias2] = 1.0f;
  scalars[ops::kScalarLossScale] = 1e-4f;
  stream_->fill_bytes(step_.data(), 0, 1024);
  stream_->upload(step_.data(), scalars.data(), scalars.size() * sizeof(float));
  stream_->synchronize();
}

void* Device::normal(DType dtype, int64_t count) {
  const size_t size = dtype_size(dtype);
  memory_.emplace_back(static_cast<size_t>(count) * size, "an operand");
  const void* from = dtype == DType::BF16 ? static_cast<const void*>(halves_.data()) : pattern_.data();
  for (size_t at = 0; at < static_cast<size_t>(count); at += kPattern)
    stream_->upload(memory_.back().data() + at * size, from,
                    std::min(kPattern, static_cast<size_t>(count) - at) * size);
  stream_->synchronize();
  return memory_.back().data();
}

void* Device::zeros(size_t bytes) {
  memory_.emplace_back(bytes, "an operand");
  stream_->fill_bytes(memory_.back().data(), 0, bytes);
  return memory_.back().data();
}

void* Device::integers(const std::vector<int32_t>& values) {
  memory_.emplace_back(values.size() * sizeof(int32_t), "an operand");
  stream_->upload(memory_.back().data(), values.data(), values.size() * sizeof(int32_t));
  stream_->synchronize();
  return memory_.back().data();
}

cuda::Context Device::context(size_t workspace_bytes) {
  if (workspace_.bytes() < workspace_bytes) {
    workspace_ = cuda::DeviceMemory();
    workspace_ = cuda::DeviceMemory(workspace_bytes, "workspace");
  }
  auto* step = step_.data();
  return {*stream_,
          properties_.target,
          reinterpret_cast<const float*>(step),
          reinterpret_cast<const int32_t*>(step + 256),
          workspace_.data(),
          reinterpret_cast<cuda::Fault*>(step + 512),
          nullptr};
}

void run(Device& device, const Options& options, size_t workspace, const Measurement& m) {
  cuda::Context ctx = device.context(workspace);
  cuda::Stream& stream = device.stream();
  int set = 0;
  const auto timed = [&](int calls) {
    const auto start = stream.record();
    for (int i = 0; i < calls; i++) m.enqueue(set++ % m.sets, ctx);
    const auto end = stream.record();
    stream.synchronize();
    return stream.seconds_between(*start, *end) / calls;
  };
  if (!options.tiny) alarm(60);  // a kernel that never ends must not take the other benchmarks' time
  double each = timed(1);
  if (!options.tiny) each = timed(3);
  const int calls = options.tiny ? 1 : std::clamp(static_cast<int>(options.seconds / each), 3, 2000);
  if (!options.tiny) timed(calls);  // clocks settle
  std::vector<double> seconds;
  for (int i = 0; i < (options.tiny ? 1 : options.repeats); i++) seconds.push_back(timed(calls));
  alarm(0);
  std::sort(seconds.begin(), seconds.end());
  const double median = seconds[seconds.size() / 2];
  std::printf("{\"group\":\"%s\",\"name\":\"%s\"", m.group.c_str(), m.name.c_str());
  for (const auto& [key, value] : m.fields) std::printf(",\"%s\":%lld", key.c_str(), static_cast<long long>(value));
  std::printf(",\"seconds\":%.4g,\"least\":%.4g,\"most\":%.4g,\"tflops\":%.4g,\"gbytesPerSecond\":%.4g}\n", median,
              seconds.front(), seconds.back(), m.flops / median / 1e12, m.bytes / median / 1e9);
  std::fflush(stdout);
}

}  // namespace bench
