#pragma once
#include <cstddef>
#include <cstdint>

#include "native/base/tensor.h"
#include "native/base/thread_pool.h"

namespace thalweg::cpu {

/** Which product a packed copy of a weight [n, k] serves: Forward y = x W^T, Dgrad dx = dy W. */
enum class Orientation : uint8_t { Forward = 0, Dgrad = 1 };

/** One packed copy of a weight, private to this backend, rebuilt by refresh and by adamw; never saved. */
struct Packed {
  Orientation orientation;
  DType act;   // data type of the activations it multiplies
  void* data;  // packed_weight_bytes(...) bytes, 64-byte aligned
};

/** Packed copies by master tensor. Lookups return nullptr when the weight was not prepared (an op called alone): the
 * kernel then packs into its workspace. */
class PackedTable {
 public:
  virtual ~PackedTable() = default;
  virtual const void* find(const void* master, Orientation orientation, DType act) const = 0;
  /** All copies of one master (at most 4 are written to out); returns how many. Used by adamw to rebuild them while the
   * rows are in cache. */
  virtual int all(const void* master, Packed out[4]) const = 0;
};

/** What a kernel gets besides its operands. */
struct Context {
  ThreadPool& pool;
  const float* scalars;       // ops::kScalarCount values, see native/ops/step_inputs.h
  const int32_t* integers;    // ops::kIntegerCount values
  std::byte* workspace;       // <op>_workspace(params, threads) bytes, 64-byte aligned, contents undefined
  const PackedTable* packed;  // may be null
};

}  // namespace thalweg::cpu
