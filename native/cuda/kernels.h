#pragma once
#include <vector>

#include "native/cuda/runtime.h"
#include "native/ops/step_inputs.h"
#include "native/ops/table.h"

namespace thalweg::cuda {

/** Bf16 copies of fp32 weights, row-major, kept by the backend: rebuilt by refresh and by adamw, never saved. */
class WeightCopies {
 public:
  virtual ~WeightCopies() = default;
  /** The copy of a whole weight, or nullptr when there is none (an op called alone). */
  virtual void* find(const void* master) const = 0;
};

/** First thing wrong with the values of a step (a token outside the vocabulary); kind 0 = nothing. */
struct alignas(16) Fault {  // written by one 16-byte store, so that two do not mix
  enum Kind : int32_t { kNone = 0, kToken = 1, kTarget = 2, kPosition = 3, kCacheLength = 4 };
  int32_t kind, row, value, limit;
};

/**
 * The tensor whose norm gradNorm takes, and for each of its units (kernels/gradient_units.h) the sum of its squares
 * where a kernel that wrote them made it too; what is not >= 0 is unknown. Device memory, kept by the backend.
 */
struct GradientSquares {
  const float* grads;
  int64_t n;
  double* units;
};

/** What a launcher gets besides its operands. Pointers are device memory. */
struct Context {
  Stream& stream;
  const Target& target;
  const float* scalars;        // ops::kScalarCount values
  const int32_t* integers;     // ops::kIntegerCount values
  std::byte* workspace;        // <op>_workspace(params, target) bytes, 256-byte aligned, contents undefined
  Fault* fault;                // kernels that index by values write it (any one of several) instead of reading outside
  const WeightCopies* copies;  // may be null
  const GradientSquares* squares = nullptr;  // for gradNorm, and for who writes gradients that stay as they are
};

/** Every op has name(params, ctx), which only enqueues, and name_workspace(params, target), a pure function. */
#define THALWEG_DECLARE(Params, name)            \
  void name(const ops::Params& p, Context& ctx); \
  size_t name##_workspace(const ops::Params& p, const Target& target);
THALWEG_OPS(THALWEG_DECLARE)
#undef THALWEG_DECLARE

/** Whether the op's kernel there takes the leave to add in any order, so that the bits of dq may differ from run to
 * run. */
bool adds_in_any_order(const ops::AttentionBackward& p, const Target& target);

/** All parameters of an update in one launch. The table is device memory, made once by `adamw_table`. */
struct AdamwEntry {
  const float* grad;
  float *param, *m, *v;
  void* copy;  // bf16 copy of the parameter, or nullptr
  int64_t n;
  float lr_scale, decay_scale;
};
struct AdamwTable {
  const AdamwEntry* entries;  // device memory
  int count;
  int64_t largest;  // n of the largest entry
  const float* norm;
  const int32_t* status;
};
void adamw_table(const AdamwTable& table, Context& ctx);

/** Rounds n fp32 to bf16 (refresh of WeightCopies). */
void round_weights(const float* from, void* to, int64_t n, Context& ctx);

}  // namespace thalweg::cuda
