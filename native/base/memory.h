#pragma once
#include <cstddef>
#include <utility>

namespace thalweg {

/** Zeroed memory from the system, aligned to 2 MiB and backed by huge pages where the kernel offers them. */
class Arena {
 public:
  Arena() = default;
  /** `purpose` is named in Error OUT_OF_MEMORY, with the bytes asked for and what the machine has. */
  Arena(size_t bytes, const char* purpose);
  ~Arena();
  Arena(Arena&& other) noexcept { *this = std::move(other); }
  Arena& operator=(Arena&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
    std::swap(mapped_, other.mapped_);
    std::swap(mapping_, other.mapping_);
    return *this;
  }

  std::byte* data() const { return data_; }
  size_t bytes() const { return bytes_; }

 private:
  std::byte* data_ = nullptr;
  size_t bytes_ = 0;
  void* mapping_ = nullptr;
  size_t mapped_ = 0;
};

/** Memory this process may use: of the machine, or of its control group where that is less. */
size_t memory_limit();

}  // namespace thalweg
