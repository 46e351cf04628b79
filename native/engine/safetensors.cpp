#include "native/engine/safetensors.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <memory>
#include <sstream>

#include "native/engine/json.h"

namespace thalweg::engine {

namespace {

constexpr uint64_t kPiece = uint64_t{8} << 20;        // between two looks at the cancel flag
constexpr uint64_t kMaxHeader = uint64_t{100} << 20;  // as the format says

const char* file_dtype(DType t) { return t == DType::F32 ? "F32" : t == DType::BF16 ? "BF16" : "I32"; }

/** Bytes of an element, 0 for a data type we do not know (such a tensor may be in a file, but is not read). */
uint64_t file_dtype_bytes(const std::string& t) {
  if (t == "F64" || t == "I64" || t == "U64") return 8;
  if (t == "F32" || t == "I32" || t == "U32") return 4;
  if (t == "F16" || t == "BF16" || t == "I16" || t == "U16") return 2;
  if (t == "I8" || t == "U8" || t == "BOOL" || t == "F8_E4M3" || t == "F8_E5M2") return 1;
  return 0;
}

std::string shape_text(const std::vector<int64_t>& shape) {
  std::ostringstream out;
  out << "[";
  for (size_t i = 0; i < shape.size(); i++) out << (i ? ", " : "") << shape[i];
  out << "]";
  return out.str();
}

std::string header_json(const std::vector<FileTensor>& tensors, const std::map<std::string, std::string>& metadata) {
  std::ostringstream out;
  const char* comma = "";
  out << "{";
  if (!metadata.empty()) {
    out << "\"__metadata__\":{";
    for (const auto& [key, value] : metadata) {
      out << comma << json_quote(key) << ":" << json_quote(value);
      comma = ",";
    }
    out << "}";
  }
  uint64_t offset = 0;
  for (const auto& t : tensors) {
    out << comma << json_quote(t.name) << ":{\"dtype\":\"" << file_dtype(t.dtype)
        << "\",\"shape\":" << shape_text(t.shape) << ",\"data_offsets\":[" << offset << "," << offset + t.bytes << "]}";
    offset += t.bytes;
    comma = ",";
  }
  out << "}";
  std::string text = out.str();
  text.resize((text.size() + 7) / 8 * 8, ' ');  // so the tensors start at a multiple of 8 bytes
  return text;
}

float half_to_float(uint16_t h) {
  const uint32_t sign = static_cast<uint32_t>(h & 0x8000) << 16, exponent = (h >> 10) & 31, fraction = h & 1023;
  if (exponent == 31) return std::bit_cast<float>(sign | 0x7f800000 | (fraction << 13));
  if (exponent == 0) {
    const float magnitude = static_cast<float>(fraction) * 0x1p-24f;
    return sign ? -magnitude : magnitude;
  }
  return std::bit_cast<float>(sign | ((exponent + 112) << 23) | (fraction << 13));
}

uint64_t elements_of(const std::vector<int64_t>& shape) {
  uint64_t n = 1;
  for (const int64_t s : shape) n *= static_cast<uint64_t>(s);
  return n;
}

/** Checks one entry against the bytes there are; header offsets count from `data_start`. */
void check_entry(const std::string& path, const std::string& name, FileEntry& e, uint64_t data_start,
                 uint64_t data_bytes) {
  const uint64_t size = file_dtype_bytes(e.dtype);
  if (size == 0) fail("CORRUPT_CHECKPOINT", path, ": tensor ", name, " has unknown data type ", e.dtype);
  uint64_t bytes = size;
  for (const int64_t n : e.shape)
    if (__builtin_mul_overflow(bytes, static_cast<uint64_t>(n), &bytes))
      fail("CORRUPT_CHECKPOINT", path, ": tensor ", name, " has impossible shape ", shape_text(e.shape));
  if (e.begin > e.end || e.end > data_bytes)
    fail("CORRUPT_CHECKPOINT", path, ": tensor ", name, " spans bytes ", e.begin, " to ", e.end, " of ", data_bytes,
         " in the file: it was cut short or damaged");
  if (e.end - e.begin != bytes)
    fail("CORRUPT_CHECKPOINT", path, ": tensor ", name, " has ", e.end - e.begin, " bytes, expected ", bytes, " for ",
         e.dtype, " ", shape_text(e.shape));
  e.begin += data_start;
  e.end += data_start;
}

}  // namespace

uint64_t write_safetensors(const std::string& path, const std::vector<FileTensor>& tensors,
                           const std::map<std::string, std::string>& metadata, const Cancel& cancel) {
  const std::string header = header_json(tensors, metadata);
  const uint64_t length = header.size();
  uint64_t total = sizeof length + length;
  File file(path, File::Mode::Create);
  try {
    file.write(&length, sizeof length);
    file.write(header.data(), length);
    for (const auto& t : tensors) {
      for (uint64_t at = 0; at < t.bytes; at += kPiece) {
        cancel.poll();
        file.write(t.data + at, std::min(kPiece, t.bytes - at));
      }
      total += t.bytes;
    }
    file.sync();
  } catch (...) {
    file.remove();
    throw;
  }
  return total;
}

SafetensorsFile::SafetensorsFile(const std::string& path) : file_(path, File::Mode::Read) {
  const uint64_t size = file_.size();
  uint64_t length = 0;
  if (size < sizeof length + 2)
    fail("CORRUPT_CHECKPOINT", path, ": has ", size, " bytes, too few for a safetensors file");
  file_.read_at(&length, sizeof length, 0);
  if (length > kMaxHeader || length > size - sizeof length)
    fail("CORRUPT_CHECKPOINT", path, ": its header claims ", length, " bytes, the file has ", size,
         ": not a safetensors file, or cut short");
  std::string text(length, '\0');
  file_.read_at(text.data(), length, sizeof length);
  JsonReader in(text, path);
  read_header(in, entries_, metadata_);

  std::vector<std::pair<const std::string*, FileEntry*>> order;
  for (auto& [name, entry] : entries_) {
    check_entry(path, name, entry, sizeof length + length, size - sizeof length - length);
    order.emplace_back(&name, &entry);
  }
  std::sort(order.begin(), order.end(), [](const auto& a, const auto& b) {
    return std::pair(a.second->begin, a.second->end) < std::pair(b.second->begin, b.second->end);
  });
  uint64_t expected = sizeof length + length;
  for (const auto& [name, entry] : order) {
    if (entry->begin != expected)
      fail("CORRUPT_CHECKPOINT", path, ": tensor ", *name, " starts at byte ", entry->begin, ", expected ", expected,
           " (tensors must follow each other without hole or overlap)");
    expected = entry->end;
  }
  if (expected != size) fail("CORRUPT_CHECKPOINT", path, ": has ", size, " bytes, its header accounts for ", expected);
}

const FileEntry& SafetensorsFile::at(const std::string& name, const std::vector<int64_t>& shape) const {
  const auto found = entries_.find(name);
  if (found == entries_.end())
    fail("CORRUPT_CHECKPOINT", file_.path(), ": has no tensor ", name, " (expected shape ", shape_text(shape), ")");
  if (found->second.shape != shape)
    fail("CORRUPT_CHECKPOINT", file_.path(), ": tensor ", name, " has shape ", shape_text(found->second.shape),
         ", expected ", shape_text(shape));
  return found->second;
}

void SafetensorsFile::check_dtype(const std::string& name, const FileEntry& entry, DType dtype) const {
  const bool widens = dtype == DType::F32 && (entry.dtype == "BF16" || entry.dtype == "F16");
  if (entry.dtype != file_dtype(dtype) && !widens)
    fail("CORRUPT_CHECKPOINT", file_.path(), ": tensor ", name, " is ", entry.dtype, ", expected ", file_dtype(dtype));
}

void SafetensorsFile::read(const std::string& name, const FileEntry& entry, DType dtype,
                           const std::function<void(const std::byte*, uint64_t, uint64_t)>& sink,
                           const Cancel& cancel) const {
  check_dtype(name, entry, dtype);
  const bool same = entry.dtype == file_dtype(dtype);
  std::vector<std::byte> piece(std::min(kPiece, entry.end - entry.begin));
  std::vector<float> wide(same ? 0 : piece.size() / 2);
  for (uint64_t at = entry.begin; at < entry.end; at += piece.size()) {
    cancel.poll();
    const uint64_t bytes = std::min<uint64_t>(piece.size(), entry.end - at);
    file_.read_at(piece.data(), bytes, at);
    if (same) {
      sink(piece.data(), bytes, at - entry.begin);
      continue;
    }
    const bool brain = entry.dtype == "BF16";
    for (uint64_t i = 0; i < bytes / 2; i++) {
      uint16_t h;
      std::memcpy(&h, piece.data() + 2 * i, sizeof h);
      wide[i] = brain ? std::bit_cast<float>(static_cast<uint32_t>(h) << 16) : half_to_float(h);
    }
    sink(reinterpret_cast<const std::byte*>(wide.data()), bytes * 2, (at - entry.begin) * 2);
  }
}

Snapshot take_snapshot(DeviceModule& module, const std::vector<std::string>& tensors) {
  Snapshot snapshot;
  for (const auto& name : tensors) {
    const TensorRef& tensor = module.layout().at(name);
    Snapshot::Part part{tensor, std::vector<std::byte>(tensor.bytes)};
    module.read(tensor.offset, part.data.data(), tensor.bytes);
    snapshot.parts.emplace(name, std::move(part));
  }
  return snapshot;
}

namespace {
/** The shape a file entry has: its own, which must hold as many elements, or that of the rows. */
const std::vector<int64_t>& shape_of(const FileRows& rows, const RowRange& range) {
  if (rows.shape.empty()) return range.shape;
  if (elements_of(rows.shape) != range.elements)
    fail("BAD_INPUT", "file entry ", rows.name, " has shape ", shape_text(rows.shape), ", but its rows of ",
         rows.tensor, " hold ", range.elements, " elements");
  return rows.shape;
}
}  // namespace

uint64_t write_snapshot(const Snapshot& snapshot, const std::string& path, const std::vector<FileRows>& rows,
                        const std::map<std::string, std::string>& metadata, const Cancel& cancel) {
  std::vector<FileTensor> tensors;
  std::map<std::string, int> seen;
  for (const auto& r : rows) {
    const auto found = snapshot.parts.find(r.tensor);
    if (found == snapshot.parts.end()) fail("BAD_INPUT", "the snapshot has no tensor named ", r.tensor);
    if (r.name == "__metadata__" || seen[r.name]++ > 0) fail("BAD_INPUT", "two file entries are named ", r.name);
    const TensorRef& t = found->second.tensor;
    const RowRange range = row_range(t, r.row_start, r.rows);
    tensors.push_back(
        {r.name, t.dtype, shape_of(r, range), found->second.data.data() + (range.offset - t.offset), range.bytes});
  }
  return write_safetensors(path, tensors, metadata, cancel);
}

void load_file(DeviceModule& module, const std::string& path, const std::vector<FileRows>& rows, const Cancel& cancel) {
  const SafetensorsFile file(path);
  struct Step {
    const FileRows* rows;
    const FileEntry* entry;
    RowRange range;
    DType dtype;
  };
  std::vector<Step> steps;
  for (const auto& r : rows) {
    const TensorRef& t = module.layout().at(r.tensor);
    RowRange range = row_range(t, r.row_start, r.rows);
    const FileEntry& entry = file.at(r.name, shape_of(r, range));
    file.check_dtype(r.name, entry, t.dtype);
    steps.push_back({&r, &entry, std::move(range), t.dtype});
  }
  for (const auto& s : steps)
    file.read(
        s.rows->name, *s.entry, s.dtype,
        [&](const std::byte* data, uint64_t bytes, uint64_t at) { module.write(s.range.offset + at, data, bytes); },
        cancel);
}

}  // namespace thalweg::engine
