#pragma once
#include "native/emulator/warp.h"

namespace thalweg::emulator {

/** Makes the clusters of a launch; those that are over lend their memory to the next. */
class BlockBuilder {
 public:
  explicit BlockBuilder(Launch& launch) : launch_(launch) {}

  /** The cluster at this place in the grid of clusters. */
  std::unique_ptr<Cluster> cluster(const std::array<uint32_t, 3>& index);
  void recycle(std::unique_ptr<Cluster> cluster);

 private:
  std::unique_ptr<Block> allocate() const;
  void begin(Block& block, Cluster& cluster, uint32_t rank, const std::array<uint32_t, 3>& cluster_index) const;
  void begin(Warp& warp) const;
  void fill_fixed(Warp& warp, uint32_t* specials) const;
  void fill(const Block& block, const std::array<uint32_t, 3>& local, const std::array<uint32_t, 3>& cluster_index,
            uint32_t* specials) const;

  Launch& launch_;
  std::vector<std::unique_ptr<Block>> spare_;
};

}  // namespace thalweg::emulator
