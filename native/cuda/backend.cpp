#include "native/cuda/backend.h"

#include <algorithm>
#include <chrono>

#include "native/base/cpu_features.h"
#include "native/base/thread_pool.h"
#include "native/cuda/bind.h"
#include "native/engine/parameters.h"

namespace thalweg::cuda {

namespace {

using engine::Cancel;
using engine::Layout;
using engine::Program;

constexpr uint64_t kInitPiece = uint64_t{1} << 22;     // elements initialised on the host at a time
constexpr uint64_t kInitSubPiece = uint64_t{1} << 15;  // of these, elements a thread takes at a time

/** Scalars, integers and the fault word of a step, where kernels read them. */
class StepMemory {
 public:
  StepMemory() : memory_(kBytes, "step inputs") {}
  const float* scalars() const { return reinterpret_cast<const float*>(memory_.data()); }
  const int32_t* integers() const { return reinterpret_cast<const int32_t*>(memory_.data() + kIntegers); }
  Fault* fault() const { return reinterpret_cast<Fault*>(memory_.data() + kFault); }

  void clear_fault(Stream& stream) { stream.fill_bytes(fault(), 0, sizeof(Fault)); }
  void write(Stream& stream, const engine::StepInputs& step) {
    stream.upload(memory_.data(), step.scalars, sizeof step.scalars);
    stream.upload(memory_.data() + kIntegers, step.integers, sizeof step.integers);
  }
  /** Waits for what was enqueued; Error BAD_INPUT when a kernel met a value it could not use. */
  void check_fault(Stream& stream) {
    Fault found{};
    stream.download(&found, fault(), sizeof found);
    if (found.kind == Fault::kNone) return;
    clear_fault(stream);
    static const char* const kNames[] = {"", "token", "target", "position", "cacheLength"};
    fail("BAD_INPUT", kNames[found.kind], " ", found.value, " in row ", found.row, " is not below ", found.limit);
  }

 private:
  static constexpr size_t kIntegers = 256, kFault = 512, kBytes = 768;
  DeviceMemory memory_;
};

class CudaModule final : public engine::DeviceModule {
 public:
  CudaModule(Stream& stream, const Target& target, ThreadPool& pool, Layout layout)
      : stream_(stream),
        target_(target),
        pool_(pool),
        layout_(std::move(layout)),
        persistent_(layout_.persistent_bytes, "parameters, gradients, optimizer state, inputs and outputs") {
    if (persistent_.bytes() > 0) stream_.fill_bytes(persistent_.data(), 0, persistent_.bytes());
    step_.clear_fault(stream_);
    stream_.synchronize();
  }

  const Layout& layout() const override { return layout_; }

  void attach(std::vector<Program> programs) override {
    uint64_t scratch = scratch_.bytes(), workspace = workspace_.bytes();
    std::vector<WeightTable::Weight> weights;
    std::optional<NormedTensor> normed;
    for (const auto& program : programs) {
      const bool taken =
          std::any_of(bound_.begin(), bound_.end(), [&](const Bound& b) { return b.program.name == program.name; });
      if (taken) fail("BAD_PROGRAM", "the module has a program named ", program.name, " already");
      scratch = std::max(scratch, program.scratch_bytes);
      for (const auto& command : program.commands)
        workspace =
            std::max<uint64_t>(workspace, workspace_bytes(engine::resolve(program, command, base(), 0), target_));
      const auto more = copied_weights(program, layout_, base());
      weights.insert(weights.end(), more.begin(), more.end());
      if (!normed) normed = normed_tensor(program);
    }
    stream_.synchronize();
    const Extent before{copies_.size(), scratch_.bytes(), workspace_.bytes(), bound_.size()};
    try {
      copies_.add(weights);
      grow(scratch_, scratch, "activations");
      grow(workspace_, workspace, "the workspace of kernels");
      if (normed) squares_.cover(*normed, persistent_.data());
      for (auto& program : programs) {
        auto rules = index_rules(program);
        bound_.push_back({std::move(program), std::move(rules), {}, {}, {}});
      }
      rebind();  // scratch, workspace and copies may have moved, and what commands write may now be asked for its norm
    } catch (...) {
      go_back(before);
      throw;
    }
  }

  engine::PlayReport play(const std::vector<engine::PlayEntry>& entries, bool profile, const Cancel& cancel) override {
    std::vector<Bound*> programs;
    for (const auto& entry : entries) programs.push_back(&find(entry));
    engine::PlayReport report;
    const auto start = std::chrono::steady_clock::now();
    for (size_t i = 0; i < entries.size(); i++) {
      cancel.poll();
      const bool asked = i + 1 < entries.size() && programs[i + 1]->squares.takes;
      play_entry(entries[i], *programs[i], asked, profile ? &report : nullptr);
    }
    step_.check_fault(stream_);
    report.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    return report;
  }

  void write(uint64_t offset, const void* from, uint64_t bytes) override {
    stream_.upload(persistent_.data() + offset, from, bytes);
    stream_.synchronize();
    touch(offset, bytes);
  }

  void read(uint64_t offset, void* to, uint64_t bytes) override {
    stream_.download(to, persistent_.data() + offset, bytes);
  }

  void initialize(const engine::RowRange& rows, const InitStream& values) override {
    const PinnedMemory piece(std::min(rows.elements, kInitPiece) * sizeof(float));
    auto* host = reinterpret_cast<float*>(piece.data());
    for (uint64_t at = 0; at < rows.elements; at += kInitPiece) {
      const uint64_t count = std::min(kInitPiece, rows.elements - at);
      pool_.run(static_cast<int64_t>((count + kInitSubPiece - 1) / kInitSubPiece), [&](int64_t i, int) {
        const uint64_t first = static_cast<uint64_t>(i) * kInitSubPiece;
        values.fill(host + first, at + first, std::min(kInitSubPiece, count - first));
      });
      write(rows.offset + at * sizeof(float), host, count * sizeof(float));
    }
  }

  void refresh() override {
    touch(0, persistent_.bytes());
    Context ctx = context();
    copies_.refresh(ctx);
    stream_.synchronize();
  }

 private:
  struct Bound {
    Program program;
    std::vector<IndexRule> rules;
    SquaresUse squares;
    BoundProgram commands;
    std::unique_ptr<Graph> graphs[2];  // without squares and with, recorded at their first play
  };

  /** What an attach may have enlarged. */
  struct Extent {
    size_t copies;
    uint64_t scratch, workspace;
    size_t programs;
  };

  /** After an attach that failed: what was attached before stays playable, or, should the memory that it had be taken
   * by another process meanwhile, nothing is. */
  void go_back(const Extent& before) {
    bound_.resize(before.programs);
    try {
      copies_.keep(before.copies);
      grow(scratch_, before.scratch, "activations");
      grow(workspace_, before.workspace, "the workspace of kernels");
      rebind();
    } catch (...) {
      bound_.clear();
    }
  }

  uintptr_t base() const { return reinterpret_cast<uintptr_t>(persistent_.data()); }

  /** Bytes of the persistent arena were written by the host. */
  void touch(uint64_t offset, uint64_t bytes) {
    copies_.touch(persistent_.data() + offset, bytes);
    squares_.touch(persistent_.data() + offset, bytes);
  }

  Context context() const {
    return {stream_, target_, step_.scalars(), step_.integers(), workspace_.data(), step_.fault(), &copies_};
  }

  static void grow(DeviceMemory& memory, uint64_t bytes, const char* purpose) {
    if (bytes <= memory.bytes()) return;
    memory = DeviceMemory();  // nothing in it outlives a play: free first, so the peak is the larger of the two
    memory = DeviceMemory(bytes, purpose);
  }

  void rebind() {
    for (auto& bound : bound_) {
      for (auto& graph : bound.graphs) graph.reset();
      bound.squares = squares_use(bound.program, squares_.tensor());
      bound.commands = bind_program(bound.program, base(), reinterpret_cast<uintptr_t>(scratch_.data()), copies_,
                                    bound.squares, stream_);
    }
  }

  Bound& find(const engine::PlayEntry& entry) {
    for (auto& bound : bound_) {
      if (bound.program.name != entry.program) continue;
      for (const auto& input : entry.inputs) check_input(bound, input, layout_.at(input.tensor));
      return bound;
    }
    fail("BAD_INPUT", "the module has no program named ", entry.program);
  }

  /** Before anything of the play is enqueued: a step with a bad token must change nothing. */
  static void check_input(const Bound& bound, const engine::Input& input, const engine::TensorRef& tensor) {
    if (input.data.size() > tensor.bytes)
      fail("BAD_INPUT", "input ", input.tensor, " has ", input.data.size(), " bytes, the tensor ", tensor.bytes);
    for (const auto& rule : bound.rules) {
      if (rule.offset < tensor.offset || rule.offset >= tensor.offset + input.data.size()) continue;
      const auto* values = reinterpret_cast<const int32_t*>(input.data.data() + (rule.offset - tensor.offset));
      const uint64_t count =
          std::min<uint64_t>(rule.bytes, input.data.size() - (rule.offset - tensor.offset)) / sizeof(int32_t);
      rule.check(values, static_cast<int64_t>(count));
    }
  }

  /** `asked`: the next entry takes the norm of the gradients. */
  void play_entry(const engine::PlayEntry& entry, Bound& bound, bool asked, engine::PlayReport* report) {
    for (const auto& input : entry.inputs) {
      const engine::TensorRef& t = layout_.at(input.tensor);
      stream_.upload(persistent_.data() + t.offset, input.data.data(), input.data.size());
      touch(t.offset, input.data.size());
    }
    step_.write(stream_, entry.step);
    Context ctx = context();
    copies_.refresh(ctx);
    ctx.squares = squares_.view_for(bound.squares, asked, stream_);
    if (report != nullptr) {
      play_timed(bound, ctx, *report);
      return;
    }
    auto& graph = bound.graphs[ctx.squares != nullptr ? 1 : 0];
    if (!graph) graph = record(bound, ctx);
    stream_.replay(*graph);
  }

  std::unique_ptr<Graph> record(const Bound& bound, Context& ctx) {
    stream_.begin_graph();
    try {
      for (const auto& command : bound.commands.commands) enqueue(bound, command, ctx);
    } catch (...) {
      try {
        stream_.end_graph();  // the stream must leave recording; what broke it is the error to report
      } catch (const Error&) {
      }
      throw;
    }
    return stream_.end_graph();
  }

  static void enqueue(const Bound& bound, const BoundCommand& command, Context& ctx) {
    try {
      Context own = ctx;
      if (!command.squares) own.squares = nullptr;
      command.enqueue(own);
    } catch (const Error& e) {
      throw Error(e.code(), "program " + bound.program.name + ", command " + command.op + " (" + command.label +
                                "): " + e.what());
    }
  }

  void play_timed(const Bound& bound, Context& ctx, engine::PlayReport& report) {
    std::vector<std::unique_ptr<Event>> events;
    events.push_back(stream_.record());
    for (const auto& command : bound.commands.commands) {
      enqueue(bound, command, ctx);
      events.push_back(stream_.record());
    }
    stream_.synchronize();
    for (size_t i = 0; i < bound.commands.commands.size(); i++)
      report.commands.push_back({bound.commands.commands[i].label, bound.commands.commands[i].op,
                                 stream_.seconds_between(*events[i], *events[i + 1])});
  }

  Stream& stream_;
  const Target& target_;
  ThreadPool& pool_;
  Layout layout_;
  DeviceMemory persistent_;
  DeviceMemory scratch_;
  DeviceMemory workspace_;
  StepMemory step_;
  WeightTable copies_;
  SquaresTable squares_;
  std::vector<Bound> bound_;
};

class CudaBackend final : public engine::Backend {
 public:
  explicit CudaBackend(int ordinal)
      : ordinal_(ordinal), properties_(select_device(ordinal)), stream_(make_stream()), pool_(available_cpus()) {}

  engine::DeviceInfo info() const override {
    const Target& t = properties_.target;
    const std::string kind = device_kind();
    const std::string path = "sm_" + std::to_string(t.capability);
    // The number of multiprocessors enters how long sums are split, so it belongs to what fixes the bits.
    return {kind,
            properties_.name,
            path,
            pool_.threads(),
            properties_.memory_bytes,
            kind + "-" + path + "-" + std::to_string(t.multiprocessors)};
  }

  std::unique_ptr<engine::DeviceModule> load(Layout layout, std::vector<Program> programs) override {
    select_device(ordinal_);  // the driver thread's first call: the device is chosen per thread
    auto module = std::make_unique<CudaModule>(*stream_, properties_.target, pool_, std::move(layout));
    module->attach(std::move(programs));
    return module;
  }

  void run_op(engine::OpCall& call, const Cancel& cancel) override {
    select_device(ordinal_);
    ops::Command command = call.command;
    check_starts(command);
    std::vector<DeviceMemory> operands;
    for (auto& t : command.operands) place(t, operands);
    const DeviceMemory workspace(workspace_bytes(command, properties_.target), "the workspace of an op");
    StepMemory step;
    step.clear_fault(*stream_);
    step.write(*stream_, call.step);
    WeightTable copies;
    Context ctx{*stream_, properties_.target, step.scalars(), step.integers(), workspace.data(), step.fault(), &copies};
    if (call.packed && engine_copies(command)) {
      copies.add({{command.operands[1].as<const float>(), command.operands[1].numel()}});
      copies.refresh(ctx);
    }
    const BoundCommand bound = bind_command(command);
    for (int i = 0; i < call.repeat; i++) {
      cancel.poll();
      const auto start = stream_->record();
      bound.enqueue(ctx);
      const auto end = stream_->record();
      stream_->synchronize();
      call.seconds.push_back(stream_->seconds_between(*start, *end));
    }
    step.check_fault(*stream_);
    for (size_t i = 0; i < command.operands.size(); i++)
      if (command.operands[i].present() && call.command.operands[i].data != nullptr)
        stream_->download(call.command.operands[i].data, command.operands[i].data, command.operands[i].bytes());
  }

 private:
  /** Moves an operand to the device; null data starts from zeros. */
  void place(Tensor& t, std::vector<DeviceMemory>& memory) {
    if (!t.present() || t.bytes() == 0) return;
    const void* from = t.data;
    memory.emplace_back(t.bytes(), "an operand");
    t.data = memory.back().data();
    if (from != nullptr)
      stream_->upload(t.data, from, t.bytes());
    else
      stream_->fill_bytes(t.data, 0, t.bytes());
  }

  static bool engine_copies(const ops::Command& command) {
    return engine::copied_operand(command.op) == 1 && command.operands[0].dtype == DType::BF16;
  }

  int ordinal_;
  DeviceProperties properties_;
  std::unique_ptr<Stream> stream_;
  ThreadPool pool_;
};

}  // namespace

std::unique_ptr<engine::Backend> make_backend(int ordinal) { return std::make_unique<CudaBackend>(ordinal); }

engine::MemoryPlan plan_memory(const Layout& layout, const std::vector<Program>& programs, int ordinal) {
  const Target target = select_device(ordinal).target;
  engine::MemoryPlan plan;
  std::vector<WeightTable::Weight> seen;
  std::optional<NormedTensor> normed;
  for (const auto& program : programs) {
    if (!normed) normed = normed_tensor(program);
    plan.scratch_bytes = std::max(plan.scratch_bytes, program.scratch_bytes);
    for (const auto& command : program.commands) {
      const ops::Command resolved = engine::resolve(program, command, 0, 0);
      plan.workspace_bytes = std::max<uint64_t>(plan.workspace_bytes, workspace_bytes(resolved, target));
      if (resolved.op == ops::AttentionBackward::kName &&
          adds_in_any_order(ops::AttentionBackward::decode(resolved), target))
        plan.repeatable = false;
    }
    for (const auto& weight : copied_weights(program, layout, 0)) {
      if (std::find(seen.begin(), seen.end(), weight) != seen.end()) continue;
      seen.push_back(weight);
      plan.packed_bytes += WeightTable::copy_bytes(weight.n);
    }
  }
  if (normed) plan.workspace_bytes += SquaresTable::bytes(normed->n);
  return plan;
}

}  // namespace thalweg::cuda
