#pragma once
#include <unordered_map>
#include <utility>
#include <vector>

#include "native/emulator/copies.h"
#include "native/emulator/tensor_map.h"

/** What Copies keeps: pending copies and the threads' groups, and what a copy does when it acts. */
namespace thalweg::emulator {

/** A piece of global memory that belongs at `offset` of the copy's bytes. */
struct Span {
  uint64_t address;
  uint32_t offset, bytes;
};

/** A bulk copy. `bytes` are its bytes in shared memory, clipped or not; `spans` those of them in global memory. */
struct Bulk {
  enum class Kind { Load, Store, Add } kind;
  const char* what;  // the instruction, for messages
  Issuer who;
  uint64_t group = 0;                  // stores: of the issuing thread
  std::vector<Copies::Place> targets;  // loads: where it has still to land; stores: the source
  uint32_t barrier = 0;                // loads: offset of the mbarrier, in the block of each target
  uint32_t bytes = 0;
  std::vector<Span> spans{};
  TensorSwizzle swizzle = TensorSwizzle::None;
  std::vector<std::byte> staged{};  // stores: the source, once read
  bool read = false;
};

/** A cp.async of 4, 8 or 16 bytes. */
struct SmallCopy {
  uint64_t group, source;
  uint32_t destination, bytes, source_bytes;
};

/** A thread's groups. Copies started now belong to the group of the number of commit_group instructions so far. */
struct ThreadGroups {
  uint64_t small_committed = 0, bulk_committed = 0;
  std::vector<SmallCopy> pending;
};

struct Copies::State {
  std::vector<SharedMemory> blocks;
  std::vector<bool> left;
  CheckGlobal check;
  CopyTiming timing = CopyTiming::AtOnce;
  std::vector<Bulk> bulks;
  std::unordered_map<uint32_t, ThreadGroups> threads;  // by key
  std::vector<uint32_t> with_small;                    // keys of threads with pending cp.async

  static uint32_t key(Issuer who) { return who.rank << 16 | who.thread; }
  ThreadGroups& thread(Issuer who) { return threads[key(who)]; }
  ProxyState* proxies(uint32_t rank) { return blocks[rank].proxies; }
  Place place(Issuer who, uint32_t window, uint32_t bytes, uint32_t alignment, const char* what) const;

  /** New copies, checked; their global side is not known yet. */
  Bulk load_of(Issuer who, uint32_t destination, uint32_t bytes, uint32_t alignment, uint32_t mbarrier,
               const char* what);
  Bulk store_of(Bulk::Kind kind, Issuer who, uint32_t source, uint32_t bytes, uint32_t alignment, const char* what);
  /** The global side: one run of bytes, or the rows of a box. */
  void plain_spans(Bulk& copy, uint64_t address);
  void box_spans(Bulk& copy, const TensorMap& map, std::span<const int32_t> at);
  /** Marks in shared memory what the copy will read or write, after the checks. */
  void begin(const Bulk& copy);
  /** begin; then keeps the copy, or lets it act at once. */
  void start(Bulk copy);

  /** One part of a copy; it is over when it has no targets left. */
  void act(Bulk& copy, size_t target);
  void read_source(Bulk& copy);
  void write_destination(Bulk& copy);
  void drop_finished();

  void land(Issuer who, const SmallCopy& copy);
  /** Lands the thread's cp.async of groups before `group`. */
  void land_groups(Issuer who, uint64_t group);

 private:
  void land(Bulk& copy, size_t target);
};

}  // namespace thalweg::emulator
