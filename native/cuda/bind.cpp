#include "native/cuda/bind.h"

#include <algorithm>

#include "native/engine/parameters.h"

namespace thalweg::cuda {

namespace {

template <class Params>
BoundCommand bind_typed(const ops::Command& command, void (*enqueue)(const Params&, Context&)) {
  const Params p = Params::decode(command);
  return {[p, enqueue](Context& ctx) { enqueue(p, ctx); }, command.op, command.label};
}

/** Successive adamw commands of one update: one launch over a table of their tensors. */
BoundCommand bind_adamw(const std::vector<ops::Adamw>& updates, const std::string& label, const WeightTable& copies,
                        Stream& stream, std::vector<DeviceMemory>& tables) {
  std::vector<AdamwEntry> entries;
  AdamwTable table{nullptr, static_cast<int>(updates.size()), 0, updates[0].norm.as<const float>(),
                   updates[0].status.as<const int32_t>()};
  for (const auto& p : updates) {
    entries.push_back({p.grad.as<const float>(), p.param.as<float>(), p.m.as<float>(), p.v.as<float>(),
                       copies.find(p.param.data), p.n, p.lr_scale, p.decay_scale});
    table.largest = std::max(table.largest, p.n);
  }
  tables.emplace_back(entries.size() * sizeof(AdamwEntry), "the table of the optimizer");
  stream.upload(tables.back().data(), entries.data(), entries.size() * sizeof(AdamwEntry));
  stream.synchronize();
  table.entries = reinterpret_cast<const AdamwEntry*>(tables.back().data());
  return {[table](Context& ctx) { adamw_table(table, ctx); }, ops::Adamw::kName, label};
}

bool same_update(const ops::Adamw& a, const ops::Adamw& b) {
  return a.norm.data == b.norm.data && a.status.data == b.status.data;
}

}  // namespace

BoundCommand bind_command(const ops::Command& command) {
#define THALWEG_BIND(Params, name) \
  if (command.op == ops::Params::kName) return bind_typed<ops::Params>(command, &cuda::name);
  THALWEG_OPS(THALWEG_BIND)
#undef THALWEG_BIND
  fail("BAD_PROGRAM", "command ", command.op, ": no such op");
}

BoundProgram bind_program(const engine::Program& program, uintptr_t persistent, uintptr_t scratch,
                          const WeightTable& copies, Stream& stream) {
  BoundProgram bound;
  for (size_t i = 0; i < program.commands.size(); i++) {
    const engine::ProgramCommand& source = program.commands[i];
    const ops::Command command = engine::resolve(program, source, persistent, scratch);
    if (command.op == ops::Adamw::kName) {
      std::vector<ops::Adamw> updates{ops::Adamw::decode(command)};
      while (i + 1 < program.commands.size() && program.commands[i + 1].op == ops::Adamw::kName) {
        auto next = ops::Adamw::decode(engine::resolve(program, program.commands[i + 1], persistent, scratch));
        if (!same_update(updates[0], next)) break;
        updates.push_back(std::move(next));
        i++;
      }
      const std::string more = updates.size() > 1 ? " and " + std::to_string(updates.size() - 1) + " more" : "";
      bound.commands.push_back(bind_adamw(updates, command.label + more, copies, stream, bound.tables));
      continue;
    }
    BoundCommand item = bind_command(command);
    const int written = engine::written_operand(command.op);
    if (written >= 0 && program.tensors[static_cast<size_t>(source.operands[static_cast<size_t>(written)])].space ==
                            engine::Space::Persistent) {
      const Tensor& t = command.operands[static_cast<size_t>(written)];
      item.enqueue = [run = std::move(item.enqueue), &copies, data = t.data, bytes = t.bytes()](Context& ctx) {
        run(ctx);
        copies.round(data, bytes, ctx);
      };
    }
    bound.commands.push_back(std::move(item));
  }
  return bound;
}

size_t workspace_bytes(const ops::Command& command, const Target& target) {
#define THALWEG_WORKSPACE(Params, name) \
  if (command.op == ops::Params::kName) return name##_workspace(ops::Params::decode(command), target);
  THALWEG_OPS(THALWEG_WORKSPACE)
#undef THALWEG_WORKSPACE
  return 0;
}

std::vector<WeightTable::Weight> copied_weights(const engine::Program& program, const engine::Layout& layout,
                                                uintptr_t persistent) {
  std::vector<WeightTable::Weight> weights;
  for (const auto& command : program.commands) {
    if (engine::copied_operand(command.op) != 1 || !engine::is_whole_parameter(program, command, 1, layout)) continue;
    const ops::Command resolved = engine::resolve(program, command, persistent, 0);
    if (resolved.operands[0].dtype == DType::BF16)
      weights.push_back({resolved.operands[1].as<const float>(), resolved.operands[1].numel()});
  }
  return weights;
}

std::vector<IndexRule> index_rules(const engine::Program& program) {
  std::vector<IndexRule> rules;
  for (const auto& command : program.commands) {
    const bool token = command.op == ops::Embedding::kName || command.op == ops::EmbeddingBackward::kName;
    if (!token && command.op != ops::Classifier::kName) continue;
    const engine::TensorRef& t = program.tensors[static_cast<size_t>(command.operands[token ? 0 : 1])];
    if (t.space != engine::Space::Persistent) continue;
    const ops::Command c = engine::resolve(program, command, 0, 0);
    const int64_t limit = command.op == ops::Embedding::kName    ? ops::Embedding::decode(c).vocab
                          : command.op == ops::Classifier::kName ? ops::Classifier::decode(c).vocab
                                                                 : ops::EmbeddingBackward::decode(c).vocab;
    rules.push_back({t.offset, t.bytes, limit, !token, token ? "token" : "target"});
  }
  return rules;
}

}  // namespace thalweg::cuda
