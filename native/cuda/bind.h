#pragma once
#include <functional>
#include <string>
#include <vector>

#include "native/cuda/gradient_squares.h"
#include "native/cuda/weight_copies.h"
#include "native/engine/program.h"

namespace thalweg::cuda {

/** A command with its launcher and the addresses of its operands. Successive adamw commands become one. */
struct BoundCommand {
  std::function<void(Context&)> enqueue;
  std::string op;
  std::string label;
  bool squares = false;  // may see Context::squares
};

/** Values of a persistent tensor that kernels use as indices: checked on the host before a step that brings them. */
struct IndexRule {
  uint64_t offset, bytes;  // of the tensor in the persistent arena
  int64_t limit;           // tokens and targets lie below it; of starts, the length of a sequence
  enum class What { Token, Target, Starts } what;

  bool operator==(const IndexRule&) const = default;
  /** The first `count` values; a negative target is one to be ignored. Errors: BAD_INPUT. */
  void check(const int32_t* values, int64_t count) const;
};

/** A Program's commands bound to arenas, and the device tables they need. */
struct BoundProgram {
  std::vector<BoundCommand> commands;
  std::vector<DeviceMemory> tables;
};

BoundProgram bind_program(const engine::Program& program, uintptr_t persistent, uintptr_t scratch,
                          const WeightTable& copies, const SquaresUse& squares, Stream& stream);

/** One command, bound alone. */
BoundCommand bind_command(const ops::Command& command);

/** The starts of an attention called alone, its operands still on the host. Errors: BAD_INPUT. */
void check_starts(const ops::Command& command);

size_t workspace_bytes(const ops::Command& command, const Target& target);

/** The weights of which a Program reads bf16 copies; addresses as if the arena began at `persistent`. */
std::vector<WeightTable::Weight> copied_weights(const engine::Program& program, const engine::Layout& layout,
                                                uintptr_t persistent);

std::vector<IndexRule> index_rules(const engine::Program& program);

}  // namespace thalweg::cuda
