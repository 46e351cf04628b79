#pragma once
#include <functional>
#include <string>
#include <vector>

#include "native/cpu/kernels.h"
#include "native/cpu/packed.h"
#include "native/engine/program.h"

namespace thalweg::cpu {

/** A command with its kernel and its operands' addresses: all that is left is to call it. */
struct BoundCommand {
  std::function<void(Context&)> run;
  std::string op;
  std::string label;
  /** It may use the packed copies: its weight is a whole parameter, or it is adamw on one. */
  bool packed = false;
  /** Bytes it writes whose packed copies it does not rebuild itself (null: none). */
  const void* written = nullptr;
  size_t written_bytes = 0;
};

/** `packed`: see BoundCommand; never true for an op called alone without copies. */
BoundCommand bind_command(const Kernels& kernels, const ops::Command& command, bool packed);

/** Bytes of workspace the kernel of a command needs. */
size_t workspace_bytes(const Kernels& kernels, const ops::Command& command, int threads);

/** The packed copy that a product with a weight looks up; false for other ops. */
bool pack_request(const ops::Command& command, PackRequest& out);

}  // namespace thalweg::cpu
