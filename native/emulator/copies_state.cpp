#include "native/emulator/copies_state.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>

#include "native/emulator/mbarrier.h"

namespace thalweg::emulator {

namespace {

/** float32 addition as the memory does it: subnormal inputs and results become zeros of their sign. */
float add_flushed(float a, float b) {
  const auto flushed = [](float x) {
    const uint32_t bits = std::bit_cast<uint32_t>(x);
    return (bits & 0x7f800000u) == 0 ? std::bit_cast<float>(bits & 0x80000000u) : x;
  };
  return flushed(flushed(a) + flushed(b));
}

/** The bytes of a copy in shared memory, in the copy's own order. */
void write_shared(const Bulk& copy, std::byte* shared, uint32_t offset, const std::vector<std::byte>& from) {
  for (uint32_t i = 0; i < copy.bytes; i += 16)
    std::memcpy(shared + swizzled(offset + i, copy.swizzle), from.data() + i, 16);
}
std::vector<std::byte> read_shared(const Bulk& copy, const std::byte* shared, uint32_t offset) {
  std::vector<std::byte> to(copy.bytes);
  for (uint32_t i = 0; i < copy.bytes; i += 16)
    std::memcpy(to.data() + i, shared + swizzled(offset + i, copy.swizzle), 16);
  return to;
}

}  // namespace

Copies::Place Copies::State::place(Issuer who, uint32_t window, uint32_t bytes, uint32_t alignment,
                                   const char* what) const {
  const Place at{window >> 24 == 0 ? who.rank : (window >> 24) - 1, window & 0xffffff};
  if (at.rank >= blocks.size()) fault(what, " of shared memory of rank ", at.rank, " in a cluster of ", blocks.size());
  if (left[at.rank]) fault(what, " of shared memory of the block of rank ", at.rank, ", which has exited");
  if (at.offset % alignment != 0)
    fault(what, " of shared memory at offset ", at.offset, ", expected a multiple of ", alignment);
  if (static_cast<uint64_t>(at.offset) + bytes > blocks[at.rank].bytes)
    fault(what, " of ", bytes, " bytes at offset ", at.offset, " of shared memory, which has ", blocks[at.rank].bytes);
  return at;
}

Bulk Copies::State::load_of(Issuer who, uint32_t destination, uint32_t bytes, uint32_t alignment, uint32_t mbarrier,
                            const char* what) {
  const Place to = place(who, destination, bytes, alignment, what);
  const Place barrier = place(who, mbarrier, 8, 8, "the mbarrier");
  if (to.rank != barrier.rank)
    fault(what, " to the block of rank ", to.rank, " with an mbarrier of rank ", barrier.rank,
          ", expected both in one block");
  return {Bulk::Kind::Load, what, who, 0, {to}, barrier.offset, bytes};
}

void Copies::State::begin(const Bulk& copy) {
  const bool load = copy.kind == Bulk::Kind::Load;
  for (const Place& at : copy.targets) {
    ProxyState* p = proxies(at.rank);
    if (!load) {
      if (p) p->begin_async_read(at.offset, copy.bytes, copy.what);
      continue;
    }
    if (!mbarrier_state(blocks[at.rank].data + copy.barrier).valid)
      fault(copy.what, " signals at offset ", copy.barrier, " of the block of rank ", at.rank,
            ", where no mbarrier is initialised");
    if (!p) continue;
    if (at.rank != copy.who.rank) p->check_remote_barrier(copy.barrier);
    p->begin_async_write(at.offset, copy.bytes);
  }
}

void Copies::State::plain_spans(Bulk& copy, uint64_t address) {
  if (copy.bytes % 16 != 0) fault(copy.what, " of ", copy.bytes, " bytes, expected a multiple of 16");
  if (address % 16 != 0) fault(copy.what, ": the global address is no multiple of 16");
  if (copy.bytes > 0) check(address, copy.bytes, copy.kind != Bulk::Kind::Load);
  copy.spans.push_back({address, 0, copy.bytes});
}

void Copies::State::box_spans(Bulk& copy, const TensorMap& map, std::span<const int32_t> at) {
  if (at.size() != map.rank) fault(copy.what, " with ", at.size(), " coordinates of a tensor of rank ", map.rank);
  const uint32_t row = map.box[0] * map.element_bytes, width = 16u << static_cast<int>(map.swizzle);
  if (map.swizzle != TensorSwizzle::None && row != width)
    fault(copy.what, " of rows of ", row, " bytes with a swizzle of ", width,
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

Bulk Copies::State::store_of(Bulk::Kind kind, Issuer who, uint32_t source, uint32_t bytes, uint32_t alignment,
                             const char* what) {
  if (source >> 24 != 0) fault(what, " from shared memory of another block");
  const Place from = place(who, source, bytes, alignment, what);
  return {kind, what, who, thread(who).bulk_committed, {from}, 0, bytes};
}

void Copies::State::land(Bulk& copy, size_t target) {
  const Place to = copy.targets[target];
  std::vector<std::byte> image(copy.bytes);  // zeros where the box lies outside the tensor
  for (const Span& s : copy.spans)
    std::memcpy(image.data() + s.offset, reinterpret_cast<const void*>(s.address), s.bytes);
  write_shared(copy, blocks[to.rank].data, to.offset, image);
  if (ProxyState* p = proxies(to.rank)) p->end_async_write(to.offset, copy.bytes);
  mbarrier_complete(blocks[to.rank].data + copy.barrier, copy.bytes);
  copy.targets.erase(copy.targets.begin() + static_cast<ptrdiff_t>(target));
}

void Copies::State::read_source(Bulk& copy) {
  const Place from = copy.targets[0];
  copy.staged = read_shared(copy, blocks[from.rank].data, from.offset);
  copy.read = true;
  if (ProxyState* p = proxies(from.rank)) p->end_async_read(from.offset, copy.bytes);
}

void Copies::State::write_destination(Bulk& copy) {
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

void Copies::State::act(Bulk& copy, size_t target) {
  if (copy.kind == Bulk::Kind::Load)
    land(copy, target);
  else if (!copy.read)
    read_source(copy);
  else
    write_destination(copy);
}
void Copies::State::drop_finished() {
  std::erase_if(bulks, [](const Bulk& copy) { return copy.targets.empty(); });
}

void Copies::State::start(Bulk copy) {
  begin(copy);
  bulks.push_back(std::move(copy));
  if (timing != CopyTiming::AtOnce) return;
  while (!bulks.back().targets.empty()) act(bulks.back(), 0);
  bulks.pop_back();
}

void Copies::State::land(Issuer who, const SmallCopy& copy) {
  std::byte* to = blocks[who.rank].data + copy.destination;
  if (copy.source_bytes > 0) std::memcpy(to, reinterpret_cast<const void*>(copy.source), copy.source_bytes);
  std::memset(to + copy.source_bytes, 0, copy.bytes - copy.source_bytes);
  if (ProxyState* p = proxies(who.rank)) p->end_thread_copy(who.thread, copy.destination, copy.bytes);
}

void Copies::State::land_groups(Issuer who, uint64_t group) {
  ThreadGroups& t = thread(who);
  if (t.pending.empty()) return;
  std::erase_if(t.pending, [&](const SmallCopy& copy) {
    if (copy.group >= group) return false;
    land(who, copy);
    return true;
  });
  if (t.pending.empty()) std::erase(with_small, key(who));
}

}  // namespace thalweg::emulator
