#pragma once
#include <cstdint>
#include <string>
#include <unordered_map>
#include <vector>

#include "native/ops/command.h"

namespace thalweg::engine {

enum class Space : uint8_t { Persistent = 0, Scratch = 1 };

/** A tensor by its place in an arena; ts/engine/program.ts says what the fields mean. */
struct TensorRef {
  std::string name;
  DType dtype = DType::F32;
  Space space = Space::Persistent;
  int rank = 0;
  int64_t shape[kMaxRank] = {0, 0, 0, 0};
  uint64_t offset = 0;
  uint64_t bytes = 0;

  /** Elements of one row: everything but the first axis (1 for vectors). */
  uint64_t row_elements() const {
    uint64_t n = 1;
    for (int i = 1; i < rank; i++) n *= static_cast<uint64_t>(shape[i]);
    return n;
  }
  uint64_t rows() const { return rank == 0 ? 1 : static_cast<uint64_t>(shape[0]); }
};

/** The persistent tensors of a Module. */
struct Layout {
  uint64_t persistent_bytes = 0;
  std::vector<TensorRef> tensors;
  std::unordered_map<std::string, size_t> by_name;

  /** Error BAD_INPUT when there is none of that name. */
  const TensorRef& at(const std::string& name) const;
};

struct ProgramCommand {
  std::string op;
  std::string label;
  std::vector<int32_t> operands;  // indices into Program::tensors, -1 = absent
  std::vector<double> attributes;
};

struct Program {
  std::string name;
  std::vector<TensorRef> tensors;
  std::vector<ProgramCommand> commands;
  uint64_t scratch_bytes = 0;
};

/**
 * Both formats are written by ts/engine/encode.ts. Whatever the bytes, the result is valid or Error BAD_PROGRAM:
 * tensors lie inside their arena and are aligned to their elements, persistent tensors named as in the layout lie
 * inside it, operands exist, ops are known, and each command satisfies its op's declaration.
 */
Layout decode_layout(const std::byte* data, size_t bytes);
Program decode_program(const std::byte* data, size_t bytes, const Layout& layout);

/** A command with the addresses of its operands, given where the arenas start. */
ops::Command resolve(const Program& program, const ProgramCommand& command, uintptr_t persistent, uintptr_t scratch);

/** A row range [start, start + count) of a persistent tensor; count < 0 means to the end. Error BAD_INPUT outside. */
struct RowRange {
  uint64_t offset;  // bytes from the start of the persistent arena
  uint64_t elements;
  uint64_t bytes;
  std::vector<int64_t> shape;
};
RowRange row_range(const TensorRef& tensor, int64_t start, int64_t count);

}  // namespace thalweg::engine
