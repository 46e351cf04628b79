#pragma once
#include <cstdint>
#include <string_view>
#include <vector>

namespace thalweg::text {

/** What became of a line: its text, or the caller has to look at it. */
enum class LineKind : uint8_t {
  Text = 0,    // strict JSON with one string in the field
  Blank = 1,   // that string is empty or white space alone
  Unsure = 2,  // anything else: broken, no such field, an object where the string should be, nested too deeply
};

/** The texts of a block of .jsonl lines, one after the other in UTF-8. */
struct JsonTexts {
  /** Bytes up to and with the end of each line. */
  std::vector<uint32_t> ends;
  std::vector<LineKind> kinds;
  /** Line i has the bytes offsets[i] to offsets[i + 1] of the texts; none when it is unsure. */
  std::vector<uint32_t> offsets;
};

/**
 * Reads the member `field` of the object on each line of `lines`, which ends with a line feed; lines longer than
 * `longest` are unsure. A line is a text only when JSON.parse (ECMA-262, 25.5.1) accepts it as UTF-8 and finds that
 * text: the last of equal names counts, a byte-order mark before the line is passed over, a lone surrogate becomes
 * U+FFFD. `out` has room for lines.size() bytes: no text is longer than its line.
 */
JsonTexts json_texts(std::string_view lines, std::string_view field, size_t longest, char* out);

}  // namespace thalweg::text
