#include "native/simt/copies.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "native/simt/barriers.h"
#include "native/simt/machine.h"
#include "native/simt/sabotage.h"

namespace thalweg::simt {

namespace {

void perform(const CopyGroups::Operation& op) {
  if (op.source_bytes > 0) std::memcpy(op.to, op.from, op.source_bytes);
  std::memset(static_cast<std::byte*>(op.to) + op.source_bytes, 0, op.bytes - op.source_bytes);
}

void check_box(const char* what, const TensorMap& map, const void* shared, const int32_t* at) {
  if (map.magic != TensorMap::kMagic) fault(what, " through a tensor map that no builder made");
  const uint32_t alignment = map.swizzle == Swizzle::B128 ? 128 : map.swizzle == Swizzle::B64 ? 64 : 16;
  // TMA itself allows it; a chunk cut by the start of a row would need a slower walk here, and no kernel of ours asks.
  if (static_cast<int64_t>(at[0]) * map.element_bytes % 16 != 0)
    fault(what, " at column ", at[0], ", not a multiple of 16 bytes");
  if (shared_address(shared) % std::max(128u, alignment) != 0)
    fault(what, " at a shared address that is not a multiple of 128");
}

/**
 * Calls visit(place in the tensor, offset in the box, bytes of it that lie inside) for each 16 bytes of a box: the
 * box's rows are whole multiples of it, and no swizzle moves less. The place means nothing when no byte lies inside.
 */
template <class Visit>
void each_chunk(const TensorMap& map, const int32_t* at, Visit&& visit) {
  const uint32_t row_bytes = map.box[0] * map.element_bytes;
  const uint32_t rows = map.box_bytes() / row_bytes;
  for (uint32_t row = 0; row < rows; row++) {
    int64_t place = 0;
    bool inside = true;
    uint32_t left = row;
    for (uint32_t axis = 1; axis < map.rank; axis++) {
      const int64_t index = at[axis] + static_cast<int64_t>(left % map.box[axis]);
      left /= map.box[axis];
      inside = inside && index >= 0 && static_cast<uint64_t>(index) < map.size[axis];
      place += index * static_cast<int64_t>(map.stride[axis]);
    }
    const int64_t end = static_cast<int64_t>(map.size[0]) * map.element_bytes;
    for (uint32_t c = 0; c < row_bytes; c += 16) {
      const int64_t from = static_cast<int64_t>(at[0]) * map.element_bytes + c;
      const int64_t present = inside && from >= 0 ? std::clamp<int64_t>(end - from, 0, 16) : 0;
      visit(const_cast<std::byte*>(static_cast<const std::byte*>(map.base)) + place + from, row * row_bytes + c,
            static_cast<uint32_t>(present));
    }
  }
}

void load_box(Cta& cta, uint32_t address, const TensorMap& map, const int32_t* at) {
  each_chunk(map, at, [&](const std::byte* from, uint32_t offset, uint32_t present) {
    const uint32_t to = swizzled(address + offset, map.swizzle);
    std::byte value[16] = {};
    if (present > 0) std::memcpy(value, from, present);
    std::memcpy(shared_at(cta, to, 16), value, 16);
    std::memcpy(proxy_at(cta, to, 16), value, 16);
  });
}

/** What a bulk store took out of shared memory and where it goes. */
struct Piece {
  std::byte* to;
  uint32_t bytes;
  std::byte value[16];
};

/** Straight at the copy, not by proxy_at: a block that exited too early leaves poison, which is what must be seen. */
Piece take(const Cta& cta, uint32_t address, std::byte* to, uint32_t bytes) {
  Piece piece{to, bytes, {}};
  std::memcpy(piece.value, cta.proxy + (address - kSharedBase), bytes);
  return piece;
}

/** Bulk additions of fp32 make zeros of subnormal numbers, what they read as what they write (PTX ISA,
 * cp.reduce.async.bulk). */
float flushed(float x) { return std::fpclassify(x) == FP_SUBNORMAL ? std::copysign(0.0f, x) : x; }

void put(const Piece& piece, bool add_float) {
  if (!add_float) {
    std::memcpy(piece.to, piece.value, piece.bytes);
    return;
  }
  float sums[4], terms[4];
  std::memcpy(sums, piece.to, piece.bytes);
  std::memcpy(terms, piece.value, piece.bytes);
  for (uint32_t i = 0; i < piece.bytes / 4; i++) sums[i] = flushed(flushed(sums[i]) + flushed(terms[i]));
  std::memcpy(piece.to, sums, piece.bytes);
}

/** A bulk store of the current thread: `read` gives the pieces at one moment, they are written at a later one. */
void post_store(bool add_float, std::function<std::vector<Piece>()> read) {
  BulkGroups& bulk = current->bulk;
  const size_t group = bulk.committed;
  bulk.reading[group]++;
  bulk.writing[group]++;
  machine->post(machine->schedule().stores, [&bulk, add_float, read = std::move(read), group] {
    const std::vector<Piece> pieces = read();
    bulk.reading[group]--;
    machine->post(machine->schedule().stores, [&bulk, add_float, pieces, group] {
      for (const Piece& piece : pieces) put(piece, add_float);
      bulk.writing[group]--;
    });
  });
}

void check_run(const char* what, const void* shared, const void* global, uint32_t bytes) {
  if (bytes == 0 || bytes % 16 != 0) fault(what, " of ", bytes, " bytes, expected a multiple of 16");
  if (shared_address(shared) % 16 != 0 || reinterpret_cast<uintptr_t>(global) % 16 != 0)
    fault(what, " at an address that is not a multiple of 16");
  shared_at(*current->cta, shared_address(shared), bytes);
}

}  // namespace

uint32_t swizzled(uint32_t address, Swizzle swizzle) {
  switch (swizzle) {
    case Swizzle::B128:
      return address ^ ((address >> 7 & 7) << 4);
    case Swizzle::B64:
      return address ^ ((address >> 7 & 3) << 4);
    case Swizzle::B32:
      return address ^ ((address >> 7 & 1) << 4);
    case Swizzle::None:
      break;
  }
  return address;
}

void copy_async(void* shared, const void* global, uint32_t bytes, uint32_t source_bytes) {
  if (bytes != 4 && bytes != 8 && bytes != 16) fault("cp.async of ", bytes, " bytes, expected 4, 8 or 16");
  if (source_bytes > bytes) fault("cp.async of ", bytes, " bytes from ", source_bytes);
  if (reinterpret_cast<uintptr_t>(shared) % bytes != 0 ||
      (source_bytes > 0 && reinterpret_cast<uintptr_t>(global) % bytes != 0))
    fault("cp.async of ", bytes, " bytes at an address that is not a multiple of ", bytes);
  shared_at(*current->cta, shared_address(shared), bytes);
  CopyGroups& copies = current->copies;
  const CopyGroups::Operation op{shared, global, bytes, source_bytes, copies.committed};
  const Timing timing = machine->schedule().loads;
  if (timing == Timing::Early || (timing == Timing::Random && machine->random() % 2 == 0))
    perform(op);
  else
    copies.operations.push_back(op);
}

void copy_async_commit() { current->copies.committed++; }

void copy_async_wait(unsigned groups) {
  CopyGroups& copies = current->copies;
  if (copies.committed < groups) return;
  const uint64_t finished = copies.committed - groups;
  std::erase_if(copies.operations, [&](const CopyGroups::Operation& op) {
    if (op.group >= finished) return false;
    perform(op);
    return true;
  });
}

void tma_load(void* shared, const TensorMap& map, uint64_t* barrier, const int32_t at[5], uint16_t mask) {
  check_box("a TMA load", map, shared, at);
  Cta& own = *current->cta;
  const uint32_t address = shared_address(shared);
  const uint32_t barrier_address = shared_address(barrier);
  if (mask == 0) mask = static_cast<uint16_t>(1u << own.rank);
  if (mask >> own.cluster->ctas.size() != 0)
    fault("a multicast to ranks ", mask, " in a cluster of ", own.cluster->ctas.size());
  for (const auto& target : own.cluster->ctas) {
    if ((mask >> target->rank & 1) == 0) continue;
    Cta* to = target.get();
    const TensorMap copy = map;
    const std::array<int32_t, 5> place{at[0], at[1], at[2], at[3], at[4]};
    machine->post(machine->schedule().loads, [to, address, barrier_address, copy, place] {
      if (to->retired()) fault("a TMA load into a block that has exited");
      load_box(*to, address, copy, place.data());
      mbarrier_complete_bytes(reinterpret_cast<uint64_t*>(shared_at(*to, barrier_address, 8)), copy.box_bytes());
    });
  }
}

void tma_store(const TensorMap& map, const void* shared, const int32_t at[5], bool add_float) {
  check_box("a TMA store", map, shared, at);
  // PTX ISA, "Restriction on Tensor Copy instructions": only loads may start outside the tensor.
  for (uint32_t axis = 0; axis < map.rank; axis++)
    if (at[axis] < 0) fault("a TMA store at ", at[axis], " of axis ", axis, ", expected 0 and up");
  if (add_float && map.element_bytes != 4)
    fault("a TMA reduction of ", map.element_bytes, "-byte elements, expected 4");
  Cta* cta = current->cta;
  const uint32_t address = shared_address(shared);
  const std::array<int32_t, 5> place{at[0], at[1], at[2], at[3], at[4]};
  post_store(add_float, [cta, address, map, place] {
    std::vector<Piece> pieces;
    each_chunk(map, place.data(), [&](std::byte* to, uint32_t offset, uint32_t present) {
      if (present > 0) pieces.push_back(take(*cta, swizzled(address + offset, map.swizzle), to, present));
    });
    return pieces;
  });
}

void bulk_load(void* shared, const void* global, uint32_t bytes, uint64_t* barrier) {
  check_run("a bulk load", shared, global, bytes);
  Cta* cta = current->cta;
  const uint32_t address = shared_address(shared), barrier_address = shared_address(barrier);
  machine->post(machine->schedule().loads, [cta, address, barrier_address, global, bytes] {
    if (cta->retired()) fault("a bulk load into a block that has exited");
    std::memcpy(shared_at(*cta, address, bytes), global, bytes);
    std::memcpy(proxy_at(*cta, address, bytes), global, bytes);
    mbarrier_complete_bytes(reinterpret_cast<uint64_t*>(shared_at(*cta, barrier_address, 8)), bytes);
  });
}

void bulk_store(void* global, const void* shared, uint32_t bytes, bool add_float) {
  check_run("a bulk store", shared, global, bytes);
  Cta* cta = current->cta;
  const uint32_t address = shared_address(shared);
  post_store(add_float, [cta, address, global, bytes] {
    std::vector<Piece> pieces;
    for (uint32_t b = 0; b < bytes; b += 16)
      pieces.push_back(take(*cta, address + b, static_cast<std::byte*>(global) + b, 16));
    return pieces;
  });
}

void bulk_commit() {
  BulkGroups& bulk = current->bulk;
  bulk.committed++;
  bulk.reading.push_back(0);
  bulk.writing.push_back(0);
}

namespace {

void wait_for_groups(const char* what, const std::vector<int>& pending, unsigned groups) {
  const uint64_t committed = current->bulk.committed;
  if (committed < groups) return;
  const auto finished = static_cast<std::ptrdiff_t>(committed - groups);
  wait_for(what, [&pending, finished] {
    return std::all_of(pending.begin(), pending.begin() + finished, [](int n) { return n == 0; });
  });
}

}  // namespace

void bulk_wait_read(unsigned groups) {
  if (sabotage.hits(Sabotage::Kind::StoreRead, static_cast<int>(groups))) return;
  wait_for_groups("bulk stores to be read (cp.async.bulk.wait_group.read)", current->bulk.reading, groups);
}

void bulk_wait(unsigned groups) {
  if (sabotage.hits(Sabotage::Kind::StoreWritten)) return bulk_wait_read(groups);
  wait_for_groups("bulk stores to be written (cp.async.bulk.wait_group)", current->bulk.writing, groups);
}

}  // namespace thalweg::simt
