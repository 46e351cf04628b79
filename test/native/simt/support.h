#pragma once
#include <functional>
#include <string>
#include <vector>

#include "native/cuda/launch.h"
#include "native/cuda/simulated_device.h"
#include "native/cuda/tensor_map.h"
#include "test/native/buffer.h"
#include "test/native/reference.h"

/** Kernels of the tests run under every schedule; a seeded bug must show under at least one. */
namespace check {

inline cuda::Stream& simt_stream() {
  static const auto stream = cuda::make_stream();
  return *stream;
}

/** One run of a kernel: launches it and returns what is wrong with its result, or "". */
using Run = std::function<std::string()>;

struct Outcome {
  int schedules = 0;  // run
  int noticed = 0;    // of these, wrong result or fault
  std::string first;  // what was noticed first
};

inline Outcome on_all_schedules(const Run& run, unsigned resident, bool stop_when_noticed) {
  Outcome outcome;
  auto& device = cuda::simulated_device();
  const auto before = device;
  device.resident = resident;
  for (int number = 0; number < simt::Schedule::kCount && !(stop_when_noticed && outcome.noticed > 0); number++) {
    device.schedule = simt::Schedule::numbered(number, seed());
    std::string wrong;
    try {
      wrong = run();
    } catch (const Error& e) {
      wrong = e.what();
    }
    outcome.schedules++;
    if (wrong.empty()) continue;
    if (outcome.noticed++ == 0) outcome.first = wrong + " [" + device.schedule.describe() + "]";
  }
  device = before;
  return outcome;
}

inline void must_be_right(const Run& run, unsigned resident = 2) {
  const Outcome outcome = on_all_schedules(run, resident, false);
  CHECK(outcome.noticed == 0, outcome.noticed, " of ", outcome.schedules, " schedules: ", outcome.first);
}

/** `text`: what the first report must say, when it is a fault of one kind ("" = any). */
inline void must_be_caught(const std::string& bug, const Run& run, const std::string& text = "",
                           unsigned resident = 2) {
  const Outcome outcome = on_all_schedules(run, resident, true);
  CHECK(outcome.noticed > 0, "the bug '", bug, "' was not noticed under any of ", outcome.schedules, " schedules");
  CHECK(outcome.first.find(text) != std::string::npos, "the bug '", bug, "' was reported as: ", outcome.first);
}

/** bf16 values as kernels hold them. */
inline std::vector<cuda::bf16> bf16_values(const Values& values) {
  std::vector<cuda::bf16> out;
  for (double v : values) out.push_back({bf16_of(v)});
  return out;
}
inline Values doubles(const std::vector<cuda::bf16>& values) {
  Values out;
  for (const auto v : values) out.push_back(float_of(v.bits));
  return out;
}

/** Relative error in the Euclidean norm; NaN anywhere gives infinity. */
inline double relative_error(const Values& got, const Values& want) {
  double difference = 0, size = 0;
  for (size_t i = 0; i < want.size(); i++) {
    if (std::isnan(got[i])) return INFINITY;
    difference += (got[i] - want[i]) * (got[i] - want[i]);
    size += want[i] * want[i];
  }
  return std::sqrt(difference / size);
}

}  // namespace check
