#include "native/text/utf8.h"

#include <cstring>

namespace thalweg::text {

namespace {

/** A step over one character or one maximal ill-formed part (Unicode standard, table 3-7). */
struct Step {
  size_t bytes;
  bool valid;
};

Step step(const uint8_t* p, size_t left) {
  const uint8_t a = p[0];
  if (a < 0x80) return {1, true};
  if (a < 0xc2 || a > 0xf4) return {1, false};
  const size_t need = a < 0xe0 ? 1 : a < 0xf0 ? 2 : 3;
  uint8_t low = 0x80, high = 0xbf;
  if (a == 0xe0) low = 0xa0;
  if (a == 0xed) high = 0x9f;
  if (a == 0xf0) low = 0x90;
  if (a == 0xf4) high = 0x8f;
  for (size_t i = 1; i <= need; i++) {
    if (i >= left || p[i] < low || p[i] > high) return {i, false};
    low = 0x80;
    high = 0xbf;
  }
  return {need + 1, true};
}

}  // namespace

size_t well_formed_prefix(std::string_view text) {
  const uint8_t* p = bytes_of(text);
  size_t i = 0;
  while (i < text.size()) {
    uint64_t eight;
    while (i + 8 <= text.size()) {
      std::memcpy(&eight, p + i, 8);
      if (eight & 0x8080808080808080u) break;
      i += 8;
    }
    while (i < text.size() && p[i] < 0x80) i++;
    while (i < text.size() && p[i] >= 0x80) {
      const Step s = step(p + i, text.size() - i);
      if (!s.valid) return i;
      i += s.bytes;
    }
  }
  return i;
}

void repair_utf8(std::string_view text, std::string& out) {
  while (!text.empty()) {
    const size_t good = well_formed_prefix(text);
    out.append(text.substr(0, good));
    text.remove_prefix(good);
    if (text.empty()) return;
    out.append("\xef\xbf\xbd");
    text.remove_prefix(step(bytes_of(text), text.size()).bytes);
  }
}

void append_utf8(uint32_t c, std::string& out) {
  const auto put = [&](uint32_t byte) { out.push_back(static_cast<char>(byte)); };
  if (c < 0x80) {
    put(c);
  } else if (c < 0x800) {
    put(0xc0 | c >> 6);
    put(0x80 | (c & 0x3f));
  } else if (c < 0x10000) {
    put(0xe0 | c >> 12);
    put(0x80 | (c >> 6 & 0x3f));
    put(0x80 | (c & 0x3f));
  } else {
    put(0xf0 | c >> 18);
    put(0x80 | (c >> 12 & 0x3f));
    put(0x80 | (c >> 6 & 0x3f));
    put(0x80 | (c & 0x3f));
  }
}

}  // namespace thalweg::text
