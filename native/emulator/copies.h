#pragma once
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <random>
#include <span>
#include <vector>

#include "native/emulator/proxies.h"

/** Asynchronous copies of one cluster's blocks (PTX ISA, "Data movement and conversion instructions: asynchronous
 * copy"): cp.async and its groups; bulk copies and reductions, of bytes and of boxes of tensors, with mbarriers or bulk
 * groups. A copy is started by an instruction and acts later, when the machine lets it (step) or a wait needs it;
 * copies act in any order.
 *
 * Addresses in shared memory are window addresses: below 2^24 the issuing block's own, (rank + 1) << 24 | offset those
 * of the block of that rank in the cluster. */
namespace thalweg::emulator {

/** One block's shared memory; proxies may be null. */
struct SharedMemory {
  std::byte* data;
  size_t bytes;
  ProxyState* proxies;
};

/** The thread that runs the instruction: rank of its block in the cluster, its linear index in the block. */
struct Issuer {
  uint32_t rank, thread;
};

/** When copies act: when started; when step is called; or as Random, but step acts only with `must` set (nothing else
 * can run). */
enum class CopyTiming { AtOnce, Random, Late };

/** Faults unless `bytes` at `address` of global memory may be read (or written). */
using CheckGlobal = std::function<void(uint64_t address, uint64_t bytes, bool write)>;

class Copies {
 public:
  using Random = std::mt19937_64;

  /** `blocks` by rank in the cluster (one without clusters). */
  Copies(std::vector<SharedMemory> blocks, CheckGlobal check, CopyTiming timing);
  ~Copies();

  /** cp.async: `bytes` 4, 8 or 16, the first source_bytes of them read, the rest zero. */
  void start(Issuer who, uint32_t destination, uint64_t source, uint32_t bytes, uint32_t source_bytes);
  /** cp.async.commit_group, cp.async.wait_group `groups` (all but the latest `groups`); both never block: what is
   * waited for acts. */
  void commit(Issuer who);
  void wait(Issuer who, uint32_t groups);

  /** cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes. */
  void load(Issuer who, uint32_t destination, uint64_t source, uint32_t bytes, uint32_t mbarrier);
  /** cp.async.bulk.tensor.{at.size()}d.shared::cluster.global.tile.mbarrier::complete_tx::bytes; at[0] innermost. */
  void load_box(Issuer who, uint32_t destination, const void* map, std::span<const int32_t> at, uint32_t mbarrier);
  /** ... .multicast::cluster: to the same offset in each block of the mask, signalling the mbarrier at the same offset
   * in each. */
  void load_box(Issuer who, uint32_t destination, const void* map, std::span<const int32_t> at, uint32_t mbarrier,
                uint16_t blocks);
  /** cp.async.bulk.global.shared::cta.bulk_group. */
  void store(Issuer who, uint64_t destination, uint32_t source, uint32_t bytes);
  /** cp.reduce.async.bulk.global.shared::cta.bulk_group.add.f32. */
  void add_floats(Issuer who, uint64_t destination, uint32_t source, uint32_t bytes);
  /** cp.async.bulk.tensor.{at.size()}d.global.shared::cta.tile.bulk_group. */
  void store_box(Issuer who, const void* map, std::span<const int32_t> at, uint32_t source);
  /** cp.reduce.async.bulk.tensor.{at.size()}d.global.shared::cta.add.tile.bulk_group, of float32 maps only. */
  void add_box(Issuer who, const void* map, std::span<const int32_t> at, uint32_t source);
  /** cp.async.bulk.commit_group, cp.async.bulk.wait_group[.read]: never block either. */
  void commit_bulk(Issuer who);
  void wait_bulk(Issuer who, uint32_t groups, bool read_only);

  /** Lets one pending copy act, or a part of it (a store's source is read, then written; a multicast reaches one
   * block); false when none may. */
  bool step(Random& random, bool must);
  bool idle() const;

  /** The block of that rank has no thread left: faults when a pending copy still reads or writes its shared memory. */
  void leave(uint32_t rank);
  /** The cluster is over: what is still to be written to global memory is. */
  void finish();

  /** The block and offset of a window address. Faults when there is no such block, it has left, or the access does not
   * fit or is not aligned. */
  struct Place {
    uint32_t rank, offset;
  };
  Place place(Issuer who, uint32_t window, uint32_t bytes, uint32_t alignment, const char* what) const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace thalweg::emulator
