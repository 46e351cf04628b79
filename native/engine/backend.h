#pragma once
#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "native/base/philox.h"
#include "native/engine/program.h"
#include "native/ops/step_inputs.h"

namespace thalweg::engine {

struct DeviceInfo {
  std::string device;  // "cpu"
  std::string name;    // of the processor, as the system says
  std::string path;    // instruction path, e.g. "amx"
  int threads = 0;
  uint64_t memory_bytes = 0;
  std::string device_class;  // same class + same config = same bits, e.g. "cpu-amx"
};

/** Asked between commands; either flag stops the work with Error CANCELLED. */
struct Cancel {
  const std::atomic<bool>* request = nullptr;  // this piece of work
  const std::atomic<bool>* engine = nullptr;   // everything: dispose, exit of the process

  bool requested() const {
    return (request != nullptr && request->load(std::memory_order_relaxed)) ||
           (engine != nullptr && engine->load(std::memory_order_relaxed));
  }
  void poll() const {
    if (requested()) fail("CANCELLED", "the work was cancelled");
  }
};

/** Scalars and integers that change between replays, in the order of native/ops/step_inputs.h. */
struct StepInputs {
  float scalars[ops::kScalarCount] = {};
  int32_t integers[ops::kIntegerCount] = {};
};

/** The first bytes of a persistent tensor, written before the commands of an entry. */
struct Input {
  std::string tensor;
  std::vector<std::byte> data;
};

struct PlayEntry {
  std::string program;
  std::vector<Input> inputs;
  StepInputs step;
};

struct CommandTime {
  std::string label;
  std::string op;
  double seconds;
};

struct PlayReport {
  double seconds = 0;
  std::vector<CommandTime> commands;  // with profile only
};

/** One op called alone: operands in host memory, read before and written back after the calls. */
struct OpCall {
  ops::Command command;  // data pointers are host memory, null = start from zeros
  StepInputs step;
  int repeat = 1;
  bool packed = false;  // give the kernel packed copies of its weight, as in a Module
  std::vector<double> seconds;
};

struct MemoryPlan {
  uint64_t workspace_bytes = 0;  // what the greediest command needs besides its operands, and tables of the backend
  uint64_t packed_bytes = 0;     // copies of the weights in the layout of the kernels
  uint64_t scratch_bytes = 0;    // the greediest Program's activations
  bool repeatable = true;        // the same inputs give the same bits; false where some kernel adds in any order
};

/** A loaded Module on a device: its arenas and its Programs bound to them. Driver thread only. */
class DeviceModule {
 public:
  virtual ~DeviceModule() = default;
  virtual const Layout& layout() const = 0;
  virtual void attach(std::vector<Program> programs) = 0;
  virtual PlayReport play(const std::vector<PlayEntry>& entries, bool profile, const Cancel& cancel) = 0;
  /** Bytes of the persistent arena; copies derived from them follow before the next command that reads them. */
  virtual void write(uint64_t offset, const void* from, uint64_t bytes) = 0;
  virtual void read(uint64_t offset, void* to, uint64_t bytes) = 0;
  virtual void initialize(const RowRange& rows, const InitStream& stream) = 0;
  /** Rebuilds every derived copy of the parameters. */
  virtual void refresh() = 0;
};

/** A device. Made on any thread, then used by the driver thread only, except info() and plan(). */
class Backend {
 public:
  virtual ~Backend() = default;
  virtual DeviceInfo info() const = 0;
  virtual std::unique_ptr<DeviceModule> load(Layout layout, std::vector<Program> programs) = 0;
  virtual void run_op(OpCall& call, const Cancel& cancel) = 0;
};

}  // namespace thalweg::engine
