#pragma once
#include <cstddef>
#include <cstdint>
#include <string>

namespace thalweg {

/** A file descriptor with errors that name the file and the system's reason (IO_ERROR). */
class File {
 public:
  enum class Mode { Read, Create };
  File(const std::string& path, Mode mode);
  ~File();
  File(const File&) = delete;
  File& operator=(const File&) = delete;

  const std::string& path() const { return path_; }
  uint64_t size() const;
  /** Reads exactly `bytes` at `offset`. */
  void read_at(void* to, uint64_t bytes, uint64_t offset) const;
  /** Appends. */
  void write(const void* from, uint64_t bytes);
  /** Forces the contents to the disk. */
  void sync();
  /** Deletes a file this object created, after a failure; leaves anything that is not a plain file alone. */
  void remove() noexcept;

 private:
  [[noreturn]] void failed(const char* what) const;
  std::string path_;
  int fd_ = -1;
};

}  // namespace thalweg
