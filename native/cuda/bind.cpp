#include "native/cuda/bind.h"

#include <algorithm>

#include "native/engine/parameters.h"
#include "native/ops/starts.h"

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

/** The rule for operand `index` of a command, when it is a persistent tensor. */
void add_rule(std::vector<IndexRule>& rules, const engine::Program& program, const engine::ProgramCommand& command,
              size_t index, int64_t limit, IndexRule::What what) {
  if (command.operands[index] < 0) return;  // optional and absent
  const engine::TensorRef& t = program.tensors[static_cast<size_t>(command.operands[index])];
  if (t.space != engine::Space::Persistent) return;
  const IndexRule rule{t.offset, t.bytes, limit, what};
  if (std::find(rules.begin(), rules.end(), rule) == rules.end()) rules.push_back(rule);
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
                          const WeightTable& copies, const SquaresUse& squares, Stream& stream) {
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
    item.squares = squares.commands[i];
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
  using What = IndexRule::What;
  std::vector<IndexRule> rules;
  for (const auto& command : program.commands) {
    const ops::Command c = engine::resolve(program, command, 0, 0);
    const auto add = [&](size_t operand, int64_t limit, What what) {
      add_rule(rules, program, command, operand, limit, what);
    };
    if (c.op == ops::Embedding::kName) add(0, ops::Embedding::decode(c).vocab, What::Token);
    if (c.op == ops::EmbeddingBackward::kName) add(0, ops::EmbeddingBackward::decode(c).vocab, What::Token);
    if (c.op == ops::Classifier::kName) add(1, ops::Classifier::decode(c).vocab, What::Target);
    if (c.op == ops::Attention::kName) add(1, ops::Attention::decode(c).seq, What::Starts);
    if (c.op == ops::AttentionBackward::kName) add(4, ops::AttentionBackward::decode(c).seq, What::Starts);
  }
  return rules;
}

void check_starts(const ops::Command& command) {
  const auto check = [](const Tensor& starts, int64_t seq) {
    if (starts.present() && starts.data != nullptr) ops::check_starts(starts.as<const int32_t>(), starts.numel(), seq);
  };
  if (command.op == ops::Attention::kName) check(command.operands[1], ops::Attention::decode(command).seq);
  if (command.op == ops::AttentionBackward::kName)
    check(command.operands[4], ops::AttentionBackward::decode(command).seq);
}

void IndexRule::check(const int32_t* values, int64_t count) const {
  if (what == What::Starts) return ops::check_starts(values, count, limit);
  const char* name = what == What::Token ? "token" : "target";
  for (int64_t i = 0; i < count; i++) {
    if (values[i] >= limit)
      fail("BAD_INPUT", name, " ", values[i], " in row ", i, " is not below the vocabulary size ", limit);
    if (values[i] < 0 && what == What::Token) fail("BAD_INPUT", name, " ", values[i], " in row ", i, " is negative");
  }
}

}  // namespace thalweg::cuda
