#pragma once
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace thalweg::text {

/** Bytes of the longest well-formed prefix: the whole size when the text is UTF-8. */
size_t well_formed_prefix(std::string_view text);

/** Appends the text with U+FFFD for each maximal ill-formed part, as the Encoding standard's decoder does. */
void repair_utf8(std::string_view text, std::string& out);

void append_utf8(uint32_t code_point, std::string& out);

/** The character at p, which moves behind it. Well-formed text only. */
inline uint32_t next_character(const uint8_t*& p) {
  const uint32_t a = *p++;
  if (a < 0x80) return a;
  const uint32_t b = *p++ & 0x3f;
  if (a < 0xe0) return (a & 0x1f) << 6 | b;
  const uint32_t c = *p++ & 0x3f;
  if (a < 0xf0) return (a & 0x0f) << 12 | b << 6 | c;
  const uint32_t d = *p++ & 0x3f;
  return (a & 0x07) << 18 | b << 12 | c << 6 | d;
}

inline const uint8_t* bytes_of(std::string_view text) { return reinterpret_cast<const uint8_t*>(text.data()); }

}  // namespace thalweg::text
