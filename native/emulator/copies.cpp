#include "native/emulator/copies.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <unordered_map>

#include "native/emulator/mbarrier.h"
#include "native/emulator/tensor_map.h"

namespace thalweg::emulator {

namespace {

using Place = Copies::Place;
using Bytes = std::vector<std::byte>;

/** A piece of global memory that belongs at `offset` of the copy's bytes. */
struct Span {
  uint64_t address;
  uint32_t offset, bytes;
};

/** A bulk copy. `bytes` are its bytes in shared memory, clipped or not; `spans` those of them in global memory. */
struct Bulk {
  enum class Kind { Load, Store, Add } kind;
  Issuer who;
  uint64_t group = 0;          // stores: of the issuing thread
  std::vector<Place> targets;  // loads: where it has still to land; stores: the source
  uint32_t barrier = 0;        // loads: offset of the mbarrier, in the block of each target
  uint32_t bytes = 0;
  std::vector<Span> spans;
  TensorSwizzle swizzle = TensorSwizzle::None;
  Bytes staged;  // stores: the source, once read
  bool read = false;
};

/** A cp.async of 4, 8 or 16 bytes. */
struct Small {
  uint64_t group, source;
  uint32_t destination, bytes, source_bytes;
};

/** A thread's groups. `committed` counts commit_group instructions: copies started now belong to group number
 * `committed`. */
struct Thread {
  uint64_t small_committed = 0, bulk_committed = 0;
  std::vector<Small> pending;
};

/** float32 addition as the memory does it: subnormal inputs and results become zeros of their sign. */
float add_flushed(float a, float b) {
  const auto flush = [](float x) {
    const uint32_t bits = std::bit_cast<uint32_t>(x);
    return (bits & 0x7f800000u) == 0 ? std::bit_cast<float>(bits & 0x80000000u) : x;
  };
  return flush(flush(a) + flush(b));
}

template <class T>
T& pick(std::vector<T>& from, Copies::Random& random) {
  return from[static_cast<size_t>(random() % from.size())];
}

}  // namespace

struct Copies::State {
  std::vector<SharedMemory> blocks;
  std::vector<bool> left;
  CheckGlobal check;
  CopyTiming timing;
  std::vector<Bulk> bulks;
  std::unordered_map<uint32_t, Thread> threads;  // by rank * 2^16 + thread
  std::vector<uint32_t> with_small;              // threads with pending cp.async

  static uint32_t key(Issuer who) { return who.rank << 16 | who.thread; }
  Thread& thread(Issuer who) { return threads[key(who)]; }
  ProxyState* proxies(uint32_t rank) { return blocks[rank].proxies; }

  /** The bytes of a copy in shared memory, in the copy's own order. */
  void write_shared(const Bulk& copy, const Place& to, const Bytes& from) {
    std::byte* data = blocks[to.rank].data;
    for (uint32_t i = 0; i < copy.bytes; i += 16)
      std::memcpy(data + swizzled(to.offset + i, copy.swizzle), from.data() + i, 16);
  }
  Bytes read_shared(const Bulk& copy, const Place& from) {
    Bytes to(copy.bytes);
    const std::byte* data = blocks[from.rank].data;
    for (uint32_t i = 0; i < copy.bytes; i += 16)
      std::memcpy(to.data() + i, data + swizzled(from.offset + i, copy.swizzle), 16);
    return to;
  }

  void land(Bulk& copy, size_t target) {
    const Place to = copy.targets[target];
    Bytes image(copy.bytes);  // zeros where the box lies outside the tensor
    for (const Span& s : copy.spans)
      std::memcpy(image.data() + s.offset, reinterpret_cast<const void*>(s.address), s.bytes);
    write_shared(copy, to, image);
    if (ProxyState* p = proxies(to.rank)) p->end_async_write(to.offset, copy.bytes);
    mbarrier_complete(blocks[to.rank].data + copy.barrier, copy.bytes);
    copy.targets.erase(copy.targets.begin() + static_cast<ptrdiff_t>(target));
  }

  void read_source(Bulk& copy) {
    const Place from = copy.targets[0];
    copy.staged = read_shared(copy, from);
    copy.read = true;
    if (ProxyState* p = proxies(from.rank)) p->end_async_read(from.offset, copy.bytes);
  }

  void write_destination(Bulk& copy) {
    for (const Span& s : copy.spans) {
      auto* to = reinterpret_cast<std::byte*>(s.address);
      const std::byte* from = copy.staged.data() + s.offset;
      if (copy.kind == Bulk::Kind::Store) {
        std::memcpy(to, from, s.bytes);
        continue;
      }
      for (uint32_t i = 0; i < s.bytes; i += 4) {
        float a, b;
        std::memcpy(&a, to + i, 4);
        std::memcpy(&b, from + i, 4);
        a = add_flushed(a, b);
        std::memcpy(to + i, &a, 4);
      }
    }
    copy.targets.clear();
  }

  /** One part of a copy; it is over when it has no targets left. */
  void act(Bulk& copy, size_t target) {
    if (copy.kind == Bulk::Kind::Load)
      land(copy, target);
    else if (!copy.read)
      read_source(copy);
    else
      write_destination(copy);
  }
  void drop_finished() {
    std::erase_if(bulks, [](const Bulk& copy) { return copy.targets.empty(); });
  }

  void start(Bulk copy) {
    bulks.push_back(std::move(copy));
    if (timing != CopyTiming::AtOnce) return;
    while (!bulks.back().targets.empty()) act(bulks.back(), 0);
    bulks.pop_back();
  }

  void land(Issuer who, const Small& copy) {
    std::byte* to = blocks[who.rank].data + copy.destination;
    if (copy.source_bytes > 0) std::memcpy(to, reinterpret_cast<const void*>(copy.source), copy.source_bytes);
    std::memset(to + copy.source_bytes, 0, copy.bytes - copy.source_bytes);
    if (ProxyState* p = proxies(who.rank)) p->end_thread_copy(who.thread, copy.destination, copy.bytes);
  }

  /** Lands the thread's copies of groups before `group`. */
  void land_groups(Issuer who, uint64_t group) {
    Thread& t = thread(who);
    if (t.pending.empty()) return;
    std::erase_if(t.pending, [&](const Small& copy) {
      if (copy.group >= group) return false;
      land(who, copy);
      return true;
    });
    if (t.pending.empty()) std::erase(with_small, key(who));
  }

  Bulk load_of(const Copies& copies, Issuer who, uint32_t destination, uint32_t bytes, uint32_t alignment,
               uint32_t mbarrier, const char* what);
  void begin_load(Bulk& copy);
  Bulk store_of(const Copies& copies, Bulk::Kind kind, Issuer who, uint32_t source, uint32_t bytes, uint32_t alignment,
                const char* what);
  void plain_spans(Bulk& copy, uint64_t address, const char* what);
  void box_spans(Bulk& copy, const TensorMap& map, std::span<const int32_t> at, const char* what);
};

Copies::Copies(std::vector<SharedMemory> blocks, CheckGlobal check, CopyTiming timing)
    : state_(std::make_unique<State>()) {
  state_->left.assign(blocks.size(), false);
  state_->blocks = std::move(blocks);
  state_->check = std::move(check);
  state_->timing = timing;
}
Copies::~Copies() = default;

Copies::Place Copies::place(Issuer who, uint32_t window, uint32_t bytes, uint32_t alignment, const char* what) const {
  const Place at{window >> 24 == 0 ? who.rank : (window >> 24) - 1, window & 0xffffff};
  if (at.rank >= state_->blocks.size())
    fault(what, " of shared memory of rank ", at.rank, " in a cluster of ", state_->blocks.size());
  if (state_->left[at.rank]) fault(what, " of shared memory of the block of rank ", at.rank, ", which has exited");
  if (at.offset % alignment != 0)
    fault(what, " of shared memory at offset ", at.offset, ", expected a multiple of ", alignment);
  if (static_cast<uint64_t>(at.offset) + bytes > state_->blocks[at.rank].bytes)
    fault(what, " of ", bytes, " bytes at offset ", at.offset, " of shared memory, which has ",
          state_->blocks[at.rank].bytes);
  return at;
}

// ---- cp.async

void Copies::start(Issuer who, uint32_t destination, uint64_t source, uint32_t bytes, uint32_t source_bytes) {
  State& s = *state_;
  if (bytes != 4 && bytes != 8 && bytes != 16) fault("cp.async of ", bytes, " bytes, expected 4, 8 or 16");
  if (source_bytes > bytes) fault("cp.async with a source size of ", source_bytes, " of ", bytes, " bytes");
  if (destination >> 24 != 0) fault("cp.async to shared memory of another block");
  const Place at = place(who, destination, bytes, bytes, "cp.async");
  if (source % bytes != 0) fault("cp.async from an address that is no multiple of ", bytes);
  if (source_bytes > 0) s.check(source, source_bytes, false);
  if (ProxyState* p = s.proxies(who.rank)) p->begin_thread_copy(who.thread, at.offset, bytes);
  Thread& t = s.thread(who);
  const Small copy{t.small_committed, source, at.offset, bytes, source_bytes};
  if (s.timing == CopyTiming::AtOnce) {
    s.land(who, copy);
    return;
  }
  if (t.pending.empty()) s.with_small.push_back(State::key(who));
  t.pending.push_back(copy);
}

void Copies::commit(Issuer who) { state_->thread(who).small_committed++; }

void Copies::wait(Issuer who, uint32_t groups) {
  const uint64_t committed = state_->thread(who).small_committed;
  state_->land_groups(who, committed > groups ? committed - groups : 0);
}

// ---- bulk copies

Bulk Copies::State::load_of(const Copies& copies, Issuer who, uint32_t destination, uint32_t bytes, uint32_t alignment,
                            uint32_t mbarrier, const char* what) {
  const Place to = copies.place(who, destination, bytes, alignment, what);
  const Place barrier = copies.place(who, mbarrier, 8, 8, "the mbarrier");
  if (to.rank != barrier.rank)
    fault(what, " to the block of rank ", to.rank, " with an mbarrier of rank ", barrier.rank,
          ", expected both in one block");
  Bulk copy{Bulk::Kind::Load, who, 0, {to}, barrier.offset, bytes, {}, TensorSwizzle::None, {}, false};
  return copy;
}

void Copies::State::begin_load(Bulk& copy) {
  for (const Place& to : copy.targets) {
    if (!mbarrier_state(blocks[to.rank].data + copy.barrier).valid)
      fault("a bulk copy signals at offset ", copy.barrier, " of the block of rank ", to.rank,
            ", where no mbarrier is initialised");
    if (ProxyState* p = proxies(to.rank)) {
      if (to.rank != copy.who.rank) p->check_async_barrier(copy.barrier);
      p->begin_async_write(to.offset, copy.bytes);
    }
  }
}

void Copies::State::plain_spans(Bulk& copy, uint64_t address, const char* what) {
  if (copy.bytes % 16 != 0) fault(what, " of ", copy.bytes, " bytes, expected a multiple of 16");
  if (address % 16 != 0) fault(what, ": the global address is no multiple of 16");
  if (copy.bytes > 0) check(address, copy.bytes, copy.kind != Bulk::Kind::Load);
  copy.spans.push_back({address, 0, copy.bytes});
}

void Copies::State::box_spans(Bulk& copy, const TensorMap& map, std::span<const int32_t> at, const char* what) {
  if (at.size() != map.rank) fault(what, " with ", at.size(), " coordinates of a tensor of rank ", map.rank);
  const uint32_t row = map.box[0] * map.element_bytes, width = 16u << static_cast<int>(map.swizzle);
  if (map.swizzle != TensorSwizzle::None && row != width)
    fault(what, " of rows of ", row, " bytes with a swizzle of ", width,
          ": where narrower rows lie is not documented, make them as wide as the swizzle");
  copy.swizzle = map.swizzle;
  std::array<int32_t, 5> full{};
  std::copy(at.begin(), at.end(), full.begin());
  uint64_t least = ~0ull, end = 0;
  for (const TensorMap::Row& r : map.rows(full)) {
    if (r.elements == 0) continue;
    copy.spans.push_back({r.address, r.offset + r.first * map.element_bytes, r.elements * map.element_bytes});
    least = std::min(least, r.address);
    end = std::max(end, r.address + r.elements * map.element_bytes);
  }
  if (!copy.spans.empty()) check(least, end - least, copy.kind != Bulk::Kind::Load);
}

void Copies::load(Issuer who, uint32_t destination, uint64_t source, uint32_t bytes, uint32_t mbarrier) {
  Bulk copy = state_->load_of(*this, who, destination, bytes, 16, mbarrier, "cp.async.bulk");
  state_->plain_spans(copy, source, "cp.async.bulk");
  state_->begin_load(copy);
  state_->start(std::move(copy));
}

void Copies::load_box(Issuer who, uint32_t destination, const void* map, std::span<const int32_t> at,
                      uint32_t mbarrier) {
  constexpr const char* kWhat = "cp.async.bulk.tensor";
  const TensorMap tensor = decode_tensor_map(map);
  Bulk copy = state_->load_of(*this, who, destination, tensor.box_bytes(), 128, mbarrier, kWhat);
  state_->box_spans(copy, tensor, at, kWhat);
  state_->begin_load(copy);
  state_->start(std::move(copy));
}

void Copies::load_box(Issuer who, uint32_t destination, const void* map, std::span<const int32_t> at, uint32_t mbarrier,
                      uint16_t blocks) {
  constexpr const char* kWhat = "cp.async.bulk.tensor.multicast";
  const TensorMap tensor = decode_tensor_map(map);
  Bulk copy = state_->load_of(*this, who, destination, tensor.box_bytes(), 128, mbarrier, kWhat);
  state_->box_spans(copy, tensor, at, kWhat);
  const uint32_t offset = copy.targets[0].offset;
  copy.targets.clear();
  if (blocks == 0) fault(kWhat, " with an empty mask of blocks");
  for (uint32_t rank = 0; rank < 16; rank++)
    if (blocks >> rank & 1) {
      const uint32_t base = (rank + 1) << 24;
      place(who, base | copy.barrier, 8, 8, kWhat);
      copy.targets.push_back(place(who, base | offset, copy.bytes, 128, kWhat));
    }
  state_->begin_load(copy);
  state_->start(std::move(copy));
}

Bulk Copies::State::store_of(const Copies& copies, Bulk::Kind kind, Issuer who, uint32_t source, uint32_t bytes,
                             uint32_t alignment, const char* what) {
  if (source >> 24 != 0) fault(what, " from shared memory of another block");
  const Place from = copies.place(who, source, bytes, alignment, what);
  if (ProxyState* p = proxies(who.rank)) p->begin_async_read(from.offset, bytes, what);
  return {kind, who, thread(who).bulk_committed, {from}, 0, bytes, {}, TensorSwizzle::None, {}, false};
}

void Copies::store(Issuer who, uint64_t destination, uint32_t source, uint32_t bytes) {
  Bulk copy = state_->store_of(*this, Bulk::Kind::Store, who, source, bytes, 16, "cp.async.bulk");
  state_->plain_spans(copy, destination, "cp.async.bulk");
  state_->start(std::move(copy));
}

void Copies::add_floats(Issuer who, uint64_t destination, uint32_t source, uint32_t bytes) {
  Bulk copy = state_->store_of(*this, Bulk::Kind::Add, who, source, bytes, 16, "cp.reduce.async.bulk");
  state_->plain_spans(copy, destination, "cp.reduce.async.bulk");
  state_->start(std::move(copy));
}

namespace {

/** "Starting co-ordinates must be non-negative" for the direction to global memory. */
void check_store_start(std::span<const int32_t> at, const char* what) {
  for (const int32_t c : at)
    if (c < 0) fault(what, " to a box that starts at coordinate ", c, ": stores need coordinates of 0 and up");
}

}  // namespace

void Copies::store_box(Issuer who, const void* map, std::span<const int32_t> at, uint32_t source) {
  constexpr const char* kWhat = "cp.async.bulk.tensor";
  const TensorMap tensor = decode_tensor_map(map);
  check_store_start(at, kWhat);
  Bulk copy = state_->store_of(*this, Bulk::Kind::Store, who, source, tensor.box_bytes(), 128, kWhat);
  state_->box_spans(copy, tensor, at, kWhat);
  state_->start(std::move(copy));
}

void Copies::add_box(Issuer who, const void* map, std::span<const int32_t> at, uint32_t source) {
  constexpr const char* kWhat = "cp.reduce.async.bulk.tensor";
  const TensorMap tensor = decode_tensor_map(map);
  if (tensor.type != TensorType::Float32)
    fault(kWhat, ".add of type ", static_cast<int>(tensor.type), " is not emulated, expected float32");
  check_store_start(at, kWhat);
  Bulk copy = state_->store_of(*this, Bulk::Kind::Add, who, source, tensor.box_bytes(), 128, kWhat);
  state_->box_spans(copy, tensor, at, kWhat);
  state_->start(std::move(copy));
}

void Copies::commit_bulk(Issuer who) { state_->thread(who).bulk_committed++; }

void Copies::wait_bulk(Issuer who, uint32_t groups, bool read_only) {
  State& s = *state_;
  const uint64_t committed = s.thread(who).bulk_committed, end = committed > groups ? committed - groups : 0;
  for (Bulk& copy : s.bulks) {
    if (copy.kind == Bulk::Kind::Load || State::key(copy.who) != State::key(who) || copy.group >= end) continue;
    if (!copy.read) s.read_source(copy);
    if (!read_only) s.write_destination(copy);
  }
  s.drop_finished();
}

// ---- time

bool Copies::step(Random& random, bool must) {
  State& s = *state_;
  if (idle() || (s.timing == CopyTiming::Late && !must)) return false;
  const size_t bulks = s.bulks.size();
  if (random() % (bulks + s.with_small.size()) < bulks) {
    Bulk& copy = pick(s.bulks, random);
    s.act(copy, static_cast<size_t>(random() % copy.targets.size()));
    s.drop_finished();
    return true;
  }
  const uint32_t key = pick(s.with_small, random);
  Thread& t = s.threads[key];
  Small& copy = pick(t.pending, random);
  s.land({key >> 16, key & 0xffff}, copy);
  // Order within the thread matters to nobody: groups are numbers.
  copy = t.pending.back();
  t.pending.pop_back();
  if (t.pending.empty()) std::erase(s.with_small, key);
  return true;
}

bool Copies::idle() const { return state_->bulks.empty() && state_->with_small.empty(); }

void Copies::leave(uint32_t rank) {
  State& s = *state_;
  for (const Bulk& copy : s.bulks) {
    const bool store = copy.kind != Bulk::Kind::Load;
    for (const Place& at : copy.targets)
      if (at.rank == rank && !(store && copy.read))
        fault("the block of rank ", rank, " exits while a bulk ", store ? "store still reads" : "load still writes",
              " its shared memory at offset ", at.offset, store ? ": cp.async.bulk.wait_group.read 0 comes first" : "");
  }
  for (const uint32_t key : s.with_small)
    if (key >> 16 == rank)
      fault("the block of rank ", rank, " exits while a cp.async of thread ", key & 0xffff,
            " still writes its shared memory");
  s.left[rank] = true;
}

void Copies::finish() {
  State& s = *state_;
  for (Bulk& copy : s.bulks)
    while (!copy.targets.empty()) s.act(copy, 0);
  s.drop_finished();
}

}  // namespace thalweg::emulator
