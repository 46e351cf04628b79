#pragma once
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace thalweg::engine {

struct FileEntry;

/** A JSON string literal. */
std::string json_quote(std::string_view text);

/** Reads the little JSON that headers of safetensors files use: objects, strings, whole numbers. Else
 * CORRUPT_CHECKPOINT. */
class JsonReader {
 public:
  /** `file` is named in errors; text must outlive the reader. */
  JsonReader(std::string_view text, std::string file) : text_(text), file_(std::move(file)) {}

  /** member(key) for each member of the object that starts here; it must take the value. Duplicate keys are the
   * caller's matter. */
  template <class F>
  void object(F&& member) {
    expect('{');
    if (next() == '}') return expect('}');
    for (;;) {
      const std::string key = string();
      expect(':');
      member(key);
      if (next() != ',') break;
      expect(',');
    }
    expect('}');
  }
  std::string string();
  uint64_t whole();
  std::vector<uint64_t> wholes();
  /** Only blanks may follow. */
  void end();
  [[noreturn]] void bad(const std::string& what) const;

 private:
  char next();
  void expect(char c);
  uint32_t hex4();
  std::string_view text_;
  std::string file_;
  size_t at_ = 0;
};

/** The header of a safetensors file; offsets are left as they stand. */
void read_header(JsonReader& in, std::map<std::string, FileEntry>& entries,
                 std::map<std::string, std::string>& metadata);

}  // namespace thalweg::engine
