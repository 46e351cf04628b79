#pragma once
#include <optional>
#include <vector>

#include "native/cuda/kernels.h"
#include "native/engine/program.h"

/**
 * Which sums of squares of the gradients gradNorm need not make, as they were made when the gradients were written.
 * Known without asking the device: only a Program played right before one that takes the norm makes squares; it begins
 * with none known; and whatever else writes there makes all unknown. Within that Program, only the last command to
 * write an element may make squares of it.
 */
namespace thalweg::cuda {

/** A flat fp32 tensor in the persistent arena. */
struct NormedTensor {
  uint64_t offset;  // bytes
  int64_t n;
  bool operator==(const NormedTensor&) const = default;
};

/** The operand of the first gradNorm of a Program. */
std::optional<NormedTensor> normed_tensor(const engine::Program& program);

/** What a Program does with that tensor. An operand that might be written counts as written. */
struct SquaresUse {
  bool writes = false;
  bool makes = false;          // some command may make squares
  bool takes = false;          // some command is a gradNorm of the tensor
  std::vector<bool> commands;  // which those are: they alone see the table
};
SquaresUse squares_use(const engine::Program& program, const std::optional<NormedTensor>& tensor);

/** The squares of one tensor of a Module. */
class SquaresTable {
 public:
  /** Makes room for the tensor's units, unless there is room for another's already. Errors: CUDA_OUT_OF_MEMORY. */
  void cover(const NormedTensor& tensor, const std::byte* persistent);
  const std::optional<NormedTensor>& tensor() const { return tensor_; }
  /** Bytes were written by the host. */
  void touch(const void* from, size_t bytes);
  /** What the commands of the Program to be enqueued next may see, or null: nothing to make or to take. `asked`: the
   * Program after it takes the norm. */
  const GradientSquares* view_for(const SquaresUse& use, bool asked, Stream& stream);
  static size_t bytes(int64_t n);

 private:
  std::optional<NormedTensor> tensor_;
  DeviceMemory memory_;
  GradientSquares view_{};
  bool known_ = false;  // what the table says holds
};

}  // namespace thalweg::cuda
