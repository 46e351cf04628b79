#include "native/simt/copies.h"

#include <algorithm>
#include <cstring>

#include "native/simt/barriers.h"
#include "native/simt/machine.h"

namespace thalweg::simt {

namespace {

void perform(const CopyGroups::Operation& op) {
  if (op.source_bytes > 0) std::memcpy(op.to, op.from, op.source_bytes);
  std::memset(static_cast<std::byte*>(op.to) + op.source_bytes, 0, op.bytes - op.source_bytes);
}

void check_box(const char* what, const TensorMap& map, const void* shared) {
  if (map.magic != TensorMap::kMagic) fault(what, " through a tensor map that no builder made");
  const uint32_t alignment = map.swizzle == Swizzle::B128 ? 128 : map.swizzle == Swizzle::B64 ? 64 : 16;
  if (shared_address(shared) % std::max(128u, alignment) != 0)
    fault(what, " at a shared address that is not a multiple of 128");
}

/** Calls visit(global byte or nullptr outside, offset in the box) for each element of a box. */
template <class Visit>
void each_element(const TensorMap& map, const int32_t* at, Visit&& visit) {
  uint32_t offset = 0;
  uint32_t i[5] = {0, 0, 0, 0, 0};
  for (i[4] = 0; i[4] < map.box[4]; i[4]++)
    for (i[3] = 0; i[3] < map.box[3]; i[3]++)
      for (i[2] = 0; i[2] < map.box[2]; i[2]++)
        for (i[1] = 0; i[1] < map.box[1]; i[1]++)
          for (i[0] = 0; i[0] < map.box[0]; i[0]++, offset += map.element_bytes) {
            int64_t place = 0;
            bool inside = true;
            for (uint32_t axis = 0; axis < map.rank; axis++) {
              const int64_t index = at[axis] + static_cast<int64_t>(i[axis]);
              inside = inside && index >= 0 && static_cast<uint64_t>(index) < map.size[axis];
              place += index * static_cast<int64_t>(axis == 0 ? map.element_bytes : map.stride[axis]);
            }
            const auto* base = static_cast<const std::byte*>(map.base);
            visit(inside ? const_cast<std::byte*>(base) + place : nullptr, offset);
          }
}

void load_box(Cta& cta, uint32_t address, const TensorMap& map, const int32_t* at) {
  each_element(map, at, [&](const std::byte* from, uint32_t offset) {
    const uint32_t to = swizzled(address + offset, map.swizzle);
    std::byte value[8] = {};
    if (from != nullptr) std::memcpy(value, from, map.element_bytes);
    std::memcpy(shared_at(cta, to, map.element_bytes), value, map.element_bytes);
    std::memcpy(proxy_at(cta, to, map.element_bytes), value, map.element_bytes);
  });
}

void store_box(Cta& cta, uint32_t address, const TensorMap& map, const int32_t* at, bool add_float) {
  each_element(map, at, [&](std::byte* to, uint32_t offset) {
    if (to == nullptr) return;
    // Straight at the copy, not by proxy_at: a block that exited too early leaves poison, which is what must be seen.
    const std::byte* from = cta.proxy + (swizzled(address + offset, map.swizzle) - kSharedBase);
    if (!add_float) {
      std::memcpy(to, from, map.element_bytes);
      return;
    }
    float sum, term;
    std::memcpy(&sum, to, 4);
    std::memcpy(&term, from, 4);
    sum += term;
    std::memcpy(to, &sum, 4);
  });
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
  check_box("a TMA load", map, shared);
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
  check_box("a TMA store", map, shared);
  if (add_float && map.element_bytes != 4)
    fault("a TMA reduction of ", map.element_bytes, "-byte elements, expected 4");
  Thread* t = current;
  Cta* cta = t->cta;
  const uint32_t address = shared_address(shared);
  BulkGroups& bulk = t->bulk;
  const size_t group = bulk.committed;
  bulk.pending.resize(group + 1);
  bulk.pending[group]++;
  const std::array<int32_t, 5> place{at[0], at[1], at[2], at[3], at[4]};
  machine->post(machine->schedule().stores, [t, cta, address, map, place, add_float, group] {
    store_box(*cta, address, map, place.data(), add_float);
    t->bulk.pending[group]--;
  });
}

void bulk_commit() { current->bulk.pending.resize(++current->bulk.committed); }

void bulk_wait(unsigned groups) {
  BulkGroups& bulk = current->bulk;
  if (bulk.committed < groups) return;
  const size_t finished = bulk.committed - groups;
  wait_for("bulk stores (cp.async.bulk.wait_group)", [&bulk, finished] {
    return std::all_of(bulk.pending.begin(), bulk.pending.begin() + static_cast<std::ptrdiff_t>(finished),
                       [](int n) { return n == 0; });
  });
}

}  // namespace thalweg::simt
