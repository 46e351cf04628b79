#include "native/base/file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "native/base/error.h"

namespace thalweg {

void File::failed(const char* what) const {
  const int reason = errno;
  fail("IO_ERROR", path_, ": ", what, " failed: ", std::strerror(reason),
       reason == ENOSPC || reason == EDQUOT ? ". Free space on that disk and run again; nothing saved before is lost."
                                            : "");
}

File::File(const std::string& path, Mode mode) : path_(path) {
  const int flags = mode == Mode::Read ? O_RDONLY : O_WRONLY | O_CREAT | O_TRUNC;
  do fd_ = open(path.c_str(), flags | O_CLOEXEC, 0644);
  while (fd_ < 0 && errno == EINTR);
  if (fd_ < 0) failed(mode == Mode::Read ? "opening" : "creating");
}

File::~File() {
  if (fd_ >= 0) close(fd_);
}

uint64_t File::size() const {
  struct stat info;
  if (fstat(fd_, &info) != 0) failed("asking for the size");
  return static_cast<uint64_t>(info.st_size);
}

void File::read_at(void* to, uint64_t bytes, uint64_t offset) const {
  char* p = static_cast<char*>(to);
  while (bytes > 0) {
    const ssize_t n = pread(fd_, p, std::min<uint64_t>(bytes, 1u << 30), static_cast<off_t>(offset));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) failed("reading");
    if (n == 0) fail("IO_ERROR", path_, ": ends at byte ", offset, ", expected ", bytes, " more");
    p += n;
    bytes -= static_cast<uint64_t>(n);
    offset += static_cast<uint64_t>(n);
  }
}

void File::write(const void* from, uint64_t bytes) {
  const char* p = static_cast<const char*>(from);
  while (bytes > 0) {
    const ssize_t n = ::write(fd_, p, std::min<uint64_t>(bytes, 1u << 30));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) failed("writing");
    p += n;
    bytes -= static_cast<uint64_t>(n);
  }
}

void File::sync() {
  if (fsync(fd_) != 0 && errno != EINVAL) failed("syncing");  // EINVAL: not a thing that can be synced (a pipe)
}

void File::remove() noexcept {
  struct stat info;
  if (fstat(fd_, &info) == 0 && S_ISREG(info.st_mode)) unlink(path_.c_str());
}

}  // namespace thalweg
