#include "native/engine/json.h"

#include <cstdio>

#include "native/base/error.h"
#include "native/engine/safetensors.h"

namespace thalweg::engine {

std::string json_quote(std::string_view text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (static_cast<unsigned char>(c) < 0x20) {
      char escape[8];
      std::snprintf(escape, sizeof escape, "\\u%04x", static_cast<unsigned>(c));
      out += escape;
    } else {
      out += c;
    }
  }
  return out + "\"";
}

void JsonReader::bad(const std::string& what) const {
  fail("CORRUPT_CHECKPOINT", file_, ": its header is damaged at byte ", at_, ": ", what);
}

char JsonReader::next() {
  while (at_ < text_.size() && (text_[at_] == ' ' || text_[at_] == '\n' || text_[at_] == '\r' || text_[at_] == '\t'))
    at_++;
  if (at_ == text_.size()) bad("it ends too early");
  return text_[at_];
}

void JsonReader::expect(char c) {
  if (next() != c) bad(std::string("expected ") + c);
  at_++;
}

uint32_t JsonReader::hex4() {
  uint32_t value = 0;
  for (int i = 0; i < 4; i++, at_++) {
    const char c = at_ < text_.size() ? text_[at_] : '?';
    const int digit = c >= '0' && c <= '9'   ? c - '0'
                      : c >= 'a' && c <= 'f' ? c - 'a' + 10
                      : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                             : -1;
    if (digit < 0) bad("bad \\u escape");
    value = value * 16 + static_cast<uint32_t>(digit);
  }
  return value;
}

namespace {
void append_utf8(std::string& out, uint32_t c) {
  if (c < 0x80) {
    out += static_cast<char>(c);
  } else if (c < 0x800) {
    out += static_cast<char>(0xc0 | (c >> 6));
    out += static_cast<char>(0x80 | (c & 63));
  } else if (c < 0x10000) {
    out += static_cast<char>(0xe0 | (c >> 12));
    out += static_cast<char>(0x80 | ((c >> 6) & 63));
    out += static_cast<char>(0x80 | (c & 63));
  } else {
    out += static_cast<char>(0xf0 | (c >> 18));
    out += static_cast<char>(0x80 | ((c >> 12) & 63));
    out += static_cast<char>(0x80 | ((c >> 6) & 63));
    out += static_cast<char>(0x80 | (c & 63));
  }
}
}  // namespace

std::string JsonReader::string() {
  expect('"');
  std::string out;
  for (;;) {
    if (at_ == text_.size()) bad("a string does not end");
    const char c = text_[at_++];
    if (c == '"') return out;
    if (static_cast<unsigned char>(c) < 0x20) bad("control character in a string");
    if (c != '\\') {
      out += c;
      continue;
    }
    const char escape = at_ < text_.size() ? text_[at_++] : '?';
    constexpr std::string_view kFrom = "\"\\/bfnrt", kTo = "\"\\/\b\f\n\r\t";
    const size_t found = kFrom.find(escape);
    if (found != std::string_view::npos) {
      out += kTo[found];
    } else if (escape == 'u') {
      uint32_t code = hex4();
      if (code >= 0xd800 && code < 0xdc00 && text_.substr(at_, 2) == "\\u") {
        at_ += 2;
        const uint32_t low = hex4();
        if (low < 0xdc00 || low > 0xdfff) bad("bad surrogate pair");
        code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
      }
      append_utf8(out, code);
    } else {
      bad("unknown escape in a string");
    }
  }
}

uint64_t JsonReader::whole() {
  next();
  const size_t start = at_;
  uint64_t value = 0;
  for (; at_ < text_.size() && text_[at_] >= '0' && text_[at_] <= '9'; at_++)
    if (at_ - start >= 18)
      bad("a number is too long");
    else
      value = value * 10 + static_cast<uint64_t>(text_[at_] - '0');
  if (at_ == start) bad("expected a whole number");
  return value;
}

std::vector<uint64_t> JsonReader::wholes() {
  std::vector<uint64_t> values;
  expect('[');
  if (next() != ']') {
    values.push_back(whole());
    while (next() == ',') {
      expect(',');
      values.push_back(whole());
    }
  }
  expect(']');
  return values;
}

void JsonReader::end() {
  for (; at_ < text_.size(); at_++)
    if (text_[at_] != ' ' && text_[at_] != '\n') bad("text after the end");
}

void read_header(JsonReader& in, std::map<std::string, FileEntry>& entries,
                 std::map<std::string, std::string>& metadata) {
  in.object([&](const std::string& name) {
    if (name == "__metadata__") return in.object([&](const std::string& key) { metadata[key] = in.string(); });
    FileEntry entry;
    int fields = 0;
    in.object([&](const std::string& key) {
      if (key == "dtype") {
        entry.dtype = in.string();
        fields |= 1;
      } else if (key == "shape") {
        for (const uint64_t n : in.wholes()) entry.shape.push_back(static_cast<int64_t>(n));
        fields |= 2;
      } else if (key == "data_offsets") {
        const auto offsets = in.wholes();
        if (offsets.size() != 2)
          in.bad("tensor " + name + " has " + std::to_string(offsets.size()) + " data_offsets, expected 2");
        entry.begin = offsets[0];
        entry.end = offsets[1];
        fields |= 4;
      } else {
        in.bad("tensor " + name + " has unknown field " + key);
      }
    });
    if (fields != 7) in.bad("tensor " + name + " lacks dtype, shape or data_offsets");
    if (!entries.emplace(name, std::move(entry)).second) in.bad("tensor " + name + " appears twice");
  });
  in.end();
}

}  // namespace thalweg::engine
