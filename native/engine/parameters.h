#pragma once
#include <string>

#include "native/engine/program.h"

/** What Programs do with whole parameters: backends keep derived copies of those, and must know who reads and writes.
 */
namespace thalweg::engine {

/** Whether operand `index` of a command is a whole tensor `param/...` of the layout, same shape. */
bool is_whole_parameter(const Program& program, const ProgramCommand& command, size_t index, const Layout& layout);

/** Position of the operand that may have derived copies: the weight of linear, linearDgrad and their
 * forms with SwiGLU, the parameter of adamw;
 * -1 for other ops. */
int copied_operand(const std::string& op);

/** Position of an output that may be a parameter, for the ops other than adamw that write any fp32 tensor; -1 for ops
 * that write activations, gradients and statistics only. */
int written_operand(const std::string& op);

}  // namespace thalweg::engine
