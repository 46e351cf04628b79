#pragma once
#include <unordered_map>
#include <vector>

#include "native/base/memory.h"
#include "native/cpu/kernels.h"

namespace thalweg::cpu {

/** A packed copy some command will look up. */
struct PackRequest {
  const float* master;  // [n, k], row-major fp32
  int64_t n, k;
  Orientation orientation;
  DType act;

  bool operator==(const PackRequest&) const = default;
};

/** The packed copies of a Module's weights, with what of them is stale. */
class PackedWeights final : public PackedTable {
 public:
  explicit PackedWeights(const Kernels& kernels) : kernels_(kernels) {}

  /** Makes room for the copies that are asked for, wanted by this path and not there yet; they are stale until packed.
   */
  void add(const std::vector<PackRequest>& requests);

  const void* find(const void* master, Orientation orientation, DType act) const override;
  int all(const void* master, Packed out[4]) const override;

  /** Marks the copies of masters that overlap [from, from + bytes). */
  void touch(const void* from, size_t bytes);
  void touch_all();
  /** Packs what is stale, all blocks of all copies side by side. */
  void pack(ThreadPool& pool);

  size_t bytes() const { return bytes_; }

 private:
  struct Entry {
    PackRequest request;
    Packed packed;
    bool stale;
  };
  const Kernels& kernels_;
  std::vector<Entry> entries_;
  std::unordered_map<const void*, std::vector<size_t>> by_master_;
  std::vector<Arena> arenas_;
  size_t bytes_ = 0;
  bool any_stale_ = false;
};

}  // namespace thalweg::cpu
