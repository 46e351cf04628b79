#pragma once
#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "native/base/file.h"
#include "native/base/tensor.h"
#include "native/engine/backend.h"

namespace thalweg::engine {

// The safetensors format (Hugging Face): 8 bytes little-endian header length, a JSON object name -> {dtype, shape,
// data_offsets}, then the tensors without holes. https://github.com/huggingface/safetensors

/** A tensor of a file to be written: `data` stays alive during the call. */
struct FileTensor {
  std::string name;
  DType dtype = DType::F32;
  std::vector<int64_t> shape;
  const std::byte* data = nullptr;
  uint64_t bytes = 0;
};

/**
 * Writes and syncs a file under the name given (the caller renames it into place); returns its size. On any failure
 * (IO_ERROR with the system's reason, CANCELLED) the partial file is deleted.
 */
uint64_t write_safetensors(const std::string& path, const std::vector<FileTensor>& tensors,
                           const std::map<std::string, std::string>& metadata, const Cancel& cancel);

struct FileEntry {
  std::string dtype;  // "F32", "BF16", "F16", "I32", ... as in the file
  std::vector<int64_t> shape;
  uint64_t begin = 0;  // bytes from the start of the file
  uint64_t end = 0;
};

/** A file whose header was checked: lengths, no overlap, no hole, shapes that give the lengths. Else
 * CORRUPT_CHECKPOINT. */
class SafetensorsFile {
 public:
  explicit SafetensorsFile(const std::string& path);

  /** Error CORRUPT_CHECKPOINT naming file and tensor when it is not there or has another shape. */
  const FileEntry& at(const std::string& name, const std::vector<int64_t>& shape) const;

  /** Error CORRUPT_CHECKPOINT unless read() can give the tensor as `dtype`. */
  void check_dtype(const std::string& name, const FileEntry& entry, DType dtype) const;

  /** Streams a tensor in pieces, converted to `dtype` (F32 also from BF16 and F16): sink(data, bytes, offset in the
   * tensor). */
  void read(const std::string& name, const FileEntry& entry, DType dtype,
            const std::function<void(const std::byte* data, uint64_t bytes, uint64_t offset)>& sink,
            const Cancel& cancel) const;

  const std::map<std::string, FileEntry>& entries() const { return entries_; }
  const std::map<std::string, std::string>& metadata() const { return metadata_; }

 private:
  File file_;
  std::map<std::string, FileEntry> entries_;
  std::map<std::string, std::string> metadata_;
};

/** Copies of persistent tensors as they were at one moment; writing them to a file disturbs no later step. */
struct Snapshot {
  struct Part {
    TensorRef tensor;
    std::vector<std::byte> data;
  };
  std::map<std::string, Part> parts;
};

/** One tensor of a file: rows [row_start, row_start + rows) of a module tensor (rows < 0: all), under a name and, if
 * not empty, another shape. */
struct FileRows {
  std::string name;
  std::string tensor;
  int64_t row_start = 0;
  int64_t rows = -1;
  std::vector<int64_t> shape;
};

Snapshot take_snapshot(DeviceModule& module, const std::vector<std::string>& tensors);
uint64_t write_snapshot(const Snapshot& snapshot, const std::string& path, const std::vector<FileRows>& rows,
                        const std::map<std::string, std::string>& metadata, const Cancel& cancel);
/** Checks every entry before the first is copied, so a bad file changes nothing. */
void load_file(DeviceModule& module, const std::string& path, const std::vector<FileRows>& rows, const Cancel& cancel);

}  // namespace thalweg::engine
