#include "native/base/memory.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <string>

#include "native/base/cgroup.h"
#include "native/base/error.h"

namespace thalweg {

namespace {
constexpr size_t kHugePage = size_t{2} << 20;

[[noreturn]] void out_of_memory(size_t bytes, const char* purpose) {
  fail("OUT_OF_MEMORY", "cannot get ", bytes, " bytes (", bytes >> 20, " MiB) for ", purpose, "; this process may use ",
       memory_limit() >> 20, " MiB. Use a smaller micro-batch, model or context, or recompute activations.");
}
}  // namespace

Arena::Arena(size_t bytes, const char* purpose) : bytes_(bytes) {
  if (bytes == 0) return;
  // A promise the kernel makes by overcommitment ends in a kill, not in an error: refuse what can never fit.
  if (bytes > memory_limit()) out_of_memory(bytes, purpose);
  mapped_ = bytes + kHugePage;
  mapping_ = mmap(nullptr, mapped_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapping_ == MAP_FAILED) {
    mapping_ = nullptr;
    out_of_memory(bytes, purpose);
  }
  const uintptr_t aligned = (reinterpret_cast<uintptr_t>(mapping_) + kHugePage - 1) / kHugePage * kHugePage;
  data_ = reinterpret_cast<std::byte*>(aligned);
  if (bytes >= kHugePage) madvise(data_, bytes, MADV_HUGEPAGE);  // a wish: without it everything still works
}

Arena::~Arena() {
  if (mapping_ != nullptr) munmap(mapping_, mapped_);
}

size_t memory_limit() {
  static const size_t limit = [] {
    size_t bytes = static_cast<size_t>(sysconf(_SC_PHYS_PAGES)) * static_cast<size_t>(sysconf(_SC_PAGESIZE));
    if (const auto group = cgroup_limits().memory_bytes) bytes = std::min(bytes, *group);
    return bytes;
  }();
  return limit;
}

}  // namespace thalweg
