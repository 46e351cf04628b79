#include "native/cpu/backend.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <fstream>

#include "native/cpu/bind.h"
#include "native/engine/parameters.h"

namespace thalweg::cpu {

namespace {

using engine::Cancel;
using engine::Layout;
using engine::Program;

constexpr uint64_t kCopyPiece = uint64_t{1} << 20;
constexpr uint64_t kInitPiece = uint64_t{1} << 15;  // elements

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

void copy_parallel(ThreadPool& pool, void* to, const void* from, uint64_t bytes) {
  pool.run(static_cast<int64_t>((bytes + kCopyPiece - 1) / kCopyPiece), [&](int64_t piece, int) {
    const uint64_t at = static_cast<uint64_t>(piece) * kCopyPiece;
    std::memcpy(static_cast<std::byte*>(to) + at, static_cast<const std::byte*>(from) + at,
                std::min(kCopyPiece, bytes - at));
  });
}

/** The packed copies that the commands of a Program will look up. */
std::vector<PackRequest> pack_requests(const Program& program, const Layout& layout, uintptr_t persistent) {
  std::vector<PackRequest> requests;
  for (const auto& command : program.commands) {
    PackRequest request;
    if (engine::copied_operand(command.op) == 1 && engine::is_whole_parameter(program, command, 1, layout) &&
        pack_request(engine::resolve(program, command, persistent, 0), request))
      requests.push_back(request);
  }
  return requests;
}

class CpuModule final : public engine::DeviceModule {
 public:
  CpuModule(const Kernels& kernels, ThreadPool& pool, Layout layout)
      : kernels_(kernels),
        pool_(pool),
        layout_(std::move(layout)),
        persistent_(layout_.persistent_bytes, "parameters, gradients, optimizer state, inputs and outputs"),
        packed_(kernels) {}

  const Layout& layout() const override { return layout_; }

  void attach(std::vector<Program> programs) override {
    uint64_t scratch = scratch_.bytes(), workspace = workspace_.bytes();
    std::vector<PackRequest> requests;
    for (const auto& program : programs) {
      const bool taken =
          std::any_of(bound_.begin(), bound_.end(), [&](const Bound& b) { return b.program.name == program.name; });
      if (taken) fail("BAD_PROGRAM", "the module has a program named ", program.name, " already");
      scratch = std::max(scratch, program.scratch_bytes);
      for (const auto& command : program.commands)
        workspace = std::max<uint64_t>(
            workspace, workspace_bytes(kernels_, engine::resolve(program, command, base(), 0), pool_.threads()));
      const auto more = pack_requests(program, layout_, base());
      requests.insert(requests.end(), more.begin(), more.end());
    }
    packed_.add(requests);
    const uint64_t old_scratch = scratch_.bytes(), old_workspace = workspace_.bytes();
    try {
      grow(scratch_, scratch, "activations");
      grow(workspace_, workspace, "the workspace of kernels");
    } catch (const Error&) {
      go_back(old_scratch, old_workspace);
      throw;
    }
    for (auto& program : programs) bound_.push_back({std::move(program), {}});
    for (auto& bound : bound_) rebind(bound);  // scratch may have moved
  }

  engine::PlayReport play(const std::vector<engine::PlayEntry>& entries, bool profile, const Cancel& cancel) override {
    std::vector<const Bound*> programs;
    for (const auto& entry : entries) programs.push_back(&find(entry));
    engine::PlayReport report;
    const auto start = std::chrono::steady_clock::now();
    packed_.pack(pool_);
    for (size_t i = 0; i < entries.size(); i++)
      play_entry(entries[i], *programs[i], profile ? &report : nullptr, cancel);
    report.seconds = seconds_since(start);
    return report;
  }

  void write(uint64_t offset, const void* from, uint64_t bytes) override {
    copy_parallel(pool_, persistent_.data() + offset, from, bytes);
    packed_.touch(persistent_.data() + offset, bytes);
  }

  void read(uint64_t offset, void* to, uint64_t bytes) override {
    copy_parallel(pool_, to, persistent_.data() + offset, bytes);
  }

  void initialize(const engine::RowRange& rows, const InitStream& stream) override {
    float* out = reinterpret_cast<float*>(persistent_.data() + rows.offset);
    pool_.run(static_cast<int64_t>((rows.elements + kInitPiece - 1) / kInitPiece), [&](int64_t piece, int) {
      const uint64_t at = static_cast<uint64_t>(piece) * kInitPiece;
      stream.fill(out + at, at, std::min(kInitPiece, rows.elements - at));
    });
    packed_.touch(out, rows.bytes);
  }

  void refresh() override {
    packed_.touch_all();
    packed_.pack(pool_);
  }

 private:
  struct Bound {
    Program program;
    std::vector<BoundCommand> commands;
  };

  uintptr_t base() const { return reinterpret_cast<uintptr_t>(persistent_.data()); }

  static void grow(Arena& arena, uint64_t bytes, const char* purpose) {
    if (bytes <= arena.bytes()) return;
    arena = Arena();  // nothing in it outlives a play: free first, so the peak is the larger of the two
    arena = Arena(bytes, purpose);
  }

  /** After an attach that failed: what was attached before stays playable, or, should the memory that it had be taken
   * by another process meanwhile, nothing is. */
  void go_back(uint64_t scratch, uint64_t workspace) {
    try {
      grow(scratch_, scratch, "activations");
      grow(workspace_, workspace, "the workspace of kernels");
      for (auto& bound : bound_) rebind(bound);
    } catch (const Error&) {
      bound_.clear();
    }
  }

  void rebind(Bound& bound) {
    bound.commands.clear();
    for (const auto& command : bound.program.commands) {
      const int at = engine::copied_operand(command.op);
      const bool packed =
          at >= 0 && engine::is_whole_parameter(bound.program, command, static_cast<size_t>(at), layout_);
      bound.commands.push_back(bind_command(
          kernels_, engine::resolve(bound.program, command, base(), reinterpret_cast<uintptr_t>(scratch_.data())),
          packed));
    }
  }

  const Bound& find(const engine::PlayEntry& entry) const {
    for (const auto& bound : bound_) {
      if (bound.program.name != entry.program) continue;
      for (const auto& input : entry.inputs) {
        const engine::TensorRef& t = layout_.at(input.tensor);
        if (input.data.size() > t.bytes)
          fail("BAD_INPUT", "input ", input.tensor, " has ", input.data.size(), " bytes, the tensor ", t.bytes);
      }
      return bound;
    }
    fail("BAD_INPUT", "the module has no program named ", entry.program);
  }

  void play_entry(const engine::PlayEntry& entry, const Bound& bound, engine::PlayReport* report,
                  const Cancel& cancel) {
    for (const auto& input : entry.inputs) {
      write(layout_.at(input.tensor).offset, input.data.data(), input.data.size());
      packed_.pack(pool_);
    }
    Context ctx{pool_, entry.step.scalars, entry.step.integers, workspace_.data(), nullptr};
    for (const auto& command : bound.commands) {
      cancel.poll();
      const auto start = std::chrono::steady_clock::now();
      ctx.packed = command.packed ? &packed_ : nullptr;
      try {
        command.run(ctx);
      } catch (const Error& e) {
        throw Error(e.code(),
                    "program " + entry.program + ", command " + command.op + " (" + command.label + "): " + e.what());
      }
      if (command.written != nullptr) {
        packed_.touch(command.written, command.written_bytes);
        packed_.pack(pool_);
      }
      if (report != nullptr) report->commands.push_back({command.label, command.op, seconds_since(start)});
    }
  }

  const Kernels& kernels_;
  ThreadPool& pool_;
  Layout layout_;
  Arena persistent_;
  Arena scratch_;
  Arena workspace_;
  PackedWeights packed_;
  std::vector<Bound> bound_;
};

std::string processor_name() {
  std::ifstream info("/proc/cpuinfo");
  for (std::string line; std::getline(info, line);) {
    const size_t colon = line.find(": ");
    if (line.rfind("model name", 0) == 0 && colon != std::string::npos) return line.substr(colon + 2);
  }
  return "unknown processor";
}

class CpuBackend final : public engine::Backend {
 public:
  explicit CpuBackend(int threads)
      : isa_(selected_isa()), kernels_(kernels_for(isa_)), pool_(threads > 0 ? threads : available_cpus()) {}

  engine::DeviceInfo info() const override {
    const std::string path = isa_name(isa_);
    return {"cpu", processor_name(), path, pool_.threads(), memory_limit(), "cpu-" + path};
  }

  std::unique_ptr<engine::DeviceModule> load(Layout layout, std::vector<Program> programs) override {
    auto module = std::make_unique<CpuModule>(kernels_, pool_, std::move(layout));
    module->attach(std::move(programs));
    return module;
  }

  void run_op(engine::OpCall& call, const Cancel& cancel) override {
    ops::Command command = call.command;
    const Arena operands = place(command);
    const Arena workspace(workspace_bytes(kernels_, command, pool_.threads()), "the workspace of an op");
    PackedWeights packed(kernels_);
    PackRequest request;
    if (call.packed && pack_request(command, request)) packed.add({request});
    packed.pack(pool_);
    const BoundCommand bound = bind_command(kernels_, command, call.packed);
    Context ctx{pool_, call.step.scalars, call.step.integers, workspace.data(), call.packed ? &packed : nullptr};
    for (int i = 0; i < call.repeat; i++) {
      cancel.poll();
      const auto start = std::chrono::steady_clock::now();
      bound.run(ctx);
      call.seconds.push_back(seconds_since(start));
    }
    for (size_t i = 0; i < command.operands.size(); i++)
      if (command.operands[i].present() && call.command.operands[i].data != nullptr)
        std::memcpy(call.command.operands[i].data, command.operands[i].data, command.operands[i].bytes());
  }

 private:
  /** Copies the operands of a lone command to aligned memory, where kernels want them. */
  static Arena place(ops::Command& command) {
    size_t bytes = 0;
    for (const auto& t : command.operands) bytes += t.present() ? (t.bytes() + 63) / 64 * 64 : 0;
    Arena arena(bytes, "the operands of an op");
    size_t at = 0;
    for (auto& t : command.operands) {
      if (!t.present()) continue;
      const void* from = t.data;
      t.data = arena.data() + at;
      if (from != nullptr) std::memcpy(t.data, from, t.bytes());
      at += (t.bytes() + 63) / 64 * 64;
    }
    return arena;
  }

  Isa isa_;
  const Kernels& kernels_;
  ThreadPool pool_;
};

}  // namespace

std::unique_ptr<engine::Backend> make_backend(int threads) { return std::make_unique<CpuBackend>(threads); }

engine::MemoryPlan plan_memory(const Layout& layout, const std::vector<Program>& programs, int threads) {
  const Kernels& kernels = kernels_for(selected_isa());
  const int team = threads > 0 ? threads : available_cpus();
  engine::MemoryPlan plan;
  std::vector<PackRequest> seen;
  for (const auto& program : programs) {
    plan.scratch_bytes = std::max(plan.scratch_bytes, program.scratch_bytes);
    for (const auto& command : program.commands)
      plan.workspace_bytes = std::max<uint64_t>(
          plan.workspace_bytes, workspace_bytes(kernels, engine::resolve(program, command, 0, 0), team));
    for (const auto& request : pack_requests(program, layout, 0)) {
      if (std::find(seen.begin(), seen.end(), request) != seen.end()) continue;
      seen.push_back(request);
      plan.packed_bytes += kernels.packed_weight_bytes(request.n, request.k, request.act, request.orientation);
    }
  }
  return plan;
}

}  // namespace thalweg::cpu
