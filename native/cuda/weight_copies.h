#pragma once
#include <cstdint>
#include <vector>

#include "native/cuda/kernels.h"

namespace thalweg::cuda {

/** The bf16 copies of a Module's weights, in one arena. A copy whose master changed is stale until `refresh`. */
class WeightTable final : public WeightCopies {
 public:
  struct Weight {
    const float* master;  // device memory
    int64_t n;
    bool operator==(const Weight& other) const { return master == other.master && n == other.n; }
  };

  /** Makes room for the weights that have none yet; all copies become stale. Errors: CUDA_OUT_OF_MEMORY. */
  void add(const std::vector<Weight>& weights);
  void* find(const void* master) const override;
  /** Bytes were written: copies of what they touch are stale. */
  void touch(const void* from, size_t bytes);
  /** Rounds the stale copies anew. */
  void refresh(Context& ctx);
  /** Enqueues the rounding of the copies of what lies in these bytes, stale or not (for recording). */
  void round(const void* from, size_t bytes, Context& ctx) const;
  static size_t copy_bytes(int64_t n) { return static_cast<size_t>((n * 2 + 255) / 256 * 256); }

 private:
  struct Entry {
    Weight weight;
    size_t offset;
    bool stale;
  };
  DeviceMemory memory_;
  std::vector<Entry> entries_;
};

}  // namespace thalweg::cuda
