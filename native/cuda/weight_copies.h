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

  /** Makes room for the weights that have none yet; all copies become stale. Errors: CUDA_OUT_OF_MEMORY: then no copy
   * has a place until `keep`. */
  void add(const std::vector<Weight>& weights);
  /** The first `count` weights alone, after an `add` that failed or is taken back. Errors: CUDA_OUT_OF_MEMORY. */
  void keep(size_t count);
  size_t size() const { return entries_.size(); }
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
  size_t bytes_of_entries() const;
  void make_room();

  DeviceMemory memory_;
  std::vector<Entry> entries_;  // at rising offsets
};

}  // namespace thalweg::cuda
