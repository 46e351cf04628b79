#include "native/engine/parameters.h"

#include "native/ops/table.h"

namespace thalweg::engine {

bool is_whole_parameter(const Program& program, const ProgramCommand& command, size_t index, const Layout& layout) {
  const TensorRef& t = program.tensors[static_cast<size_t>(command.operands[index])];
  if (t.space != Space::Persistent) return false;
  for (const auto& whole : layout.tensors) {
    if (whole.offset != t.offset || whole.bytes != t.bytes || whole.dtype != DType::F32 || whole.rank != 2) continue;
    if (whole.name.rfind("param/", 0) != 0) continue;
    const bool same_shape = t.rank == 2 && t.shape[0] == whole.shape[0] && t.shape[1] == whole.shape[1];
    return same_shape || command.op == ops::Adamw::kName;
  }
  return false;
}

int copied_operand(const std::string& op) {
  for (const char* product :
       {ops::Linear::kName, ops::LinearDgrad::kName, ops::LinearSwiglu::kName, ops::LinearDgradSwiglu::kName})
    if (op == product) return 1;
  if (op == ops::Adamw::kName) return 3;
  return -1;
}

int written_operand(const std::string& op) {
  if (op == ops::Fill::kName) return 0;
  if (op == ops::Axpy::kName || op == ops::Copy::kName || op == ops::Scale::kName) return 1;
  if (op == ops::Add::kName || op == ops::Average::kName) return 2;
  return -1;
}

}  // namespace thalweg::engine
