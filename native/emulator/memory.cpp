#include "native/emulator/memory.h"

#include <iterator>

#include "native/base/error.h"

namespace thalweg::emulator {

void GlobalMemory::add(const void* start, size_t bytes, std::string what) {
  if (bytes == 0) return;
  const auto at = reinterpret_cast<uint64_t>(start);
  const auto next = allocations_.lower_bound(at);
  const bool before = next != allocations_.begin() && std::prev(next)->first + std::prev(next)->second.bytes > at;
  if (before || (next != allocations_.end() && next->first < at + bytes)) {
    fail("KERNEL_FAULT", what, " overlaps an allocation that is there");
  }
  allocations_.emplace(at, Allocation{at, bytes, std::move(what)});
  version_++;
}

void GlobalMemory::remove(const void* start) {
  allocations_.erase(reinterpret_cast<uint64_t>(start));
  version_++;
}

const GlobalMemory::Allocation* GlobalMemory::find(uint64_t address, size_t bytes) const {
  auto it = allocations_.upper_bound(address);
  if (it == allocations_.begin()) return nullptr;
  const Allocation& a = std::prev(it)->second;
  return address - a.start <= a.bytes && bytes <= a.bytes - (address - a.start) ? &a : nullptr;
}

std::string GlobalMemory::nearest(uint64_t address) const {
  if (allocations_.empty()) return "in no allocation: there is none";
  auto it = allocations_.upper_bound(address);
  const bool has_next = it != allocations_.end(), has_previous = it != allocations_.begin();
  const uint64_t ahead = has_next ? it->first - address : ~uint64_t{0};
  if (has_previous) {
    const Allocation& a = std::prev(it)->second;
    const uint64_t within = address - a.start;
    if (within < a.bytes) return "in the last " + std::to_string(a.bytes - within) + " bytes of " + a.what;
    if (within - a.bytes <= ahead) return std::to_string(within - a.bytes) + " bytes behind the end of " + a.what;
  }
  return std::to_string(ahead) + " bytes before " + it->second.what;
}

}  // namespace thalweg::emulator
