#include "native/text/json_lines.h"

#include <cstring>
#include <string>

#include "native/text/utf8.h"

namespace thalweg::text {

namespace {

/** Deeper than this a line is left to the caller. */
constexpr size_t kDeepest = 512;
constexpr std::string_view kReplacement = "\xef\xbf\xbd";

bool is_digit(uint8_t c) { return c >= '0' && c <= '9'; }

/** The first of the bytes from p on that ends a run in a string: a quote, a backslash or a control character. */
const uint8_t* plain_end(const uint8_t* p, const uint8_t* end) {
  constexpr uint64_t ones = 0x0101010101010101u, high = 0x8080808080808080u;
  while (end - p >= 8) {
    uint64_t x;
    std::memcpy(&x, p, 8);
    const uint64_t quote = x ^ ones * '"', backslash = x ^ ones * '\\';
    // A borrow may mark bytes above a marked one too: the loop below finds the first.
    const uint64_t found = ((quote - ones) & ~quote) | ((backslash - ones) & ~backslash) | ((x - ones * 0x20) & ~x);
    if (found & high) break;
    p += 8;
  }
  while (p < end && *p != '"' && *p != '\\' && *p >= 0x20) ++p;
  return p;
}

/** Reads one line; every method but `read` is false when JSON.parse would refuse it, or when it is not sure. */
class LineReader {
 public:
  LineReader(std::string_view line, std::string_view field)
      : p_(bytes_of(line)), end_(p_ + line.size()), field_(field) {}

  /** Writes the text of the field to `out`, which moves behind it; false when the line is unsure. */
  bool read(char*& out) {
    if (end_ - p_ >= 3 && std::memcmp(p_, "\xef\xbb\xbf", 3) == 0) p_ += 3;
    skip_space();
    if (p_ == end_ || *p_ != '{') return false;
    char* const begin = out;
    bool found = false;
    const bool whole = members([&](bool named) {
      if (!named) return skip_value();
      found = p_ < end_ && *p_ == '"';
      if (!found) return skip_value();
      ++p_;
      out = begin;
      return string(&out);
    });
    skip_space();
    return whole && found && p_ == end_;
  }

 private:
  void skip_space() {
    while (p_ < end_ && (*p_ == ' ' || *p_ == '\t' || *p_ == '\r' || *p_ == '\n')) ++p_;
  }

  bool take(uint8_t c) {
    skip_space();
    if (p_ == end_ || *p_ != c) return false;
    ++p_;
    return true;
  }

  /** An object; value(whether its name is the field's) reads what stands behind each colon. */
  template <class F>
  bool members(F&& value) {
    ++p_;
    if (take('}')) return true;
    do {
      bool named = false;
      if (!take('"') || !name(named) || !take(':')) return false;
      skip_space();
      if (!value(named)) return false;
    } while (take(','));
    return take('}');
  }

  bool name(bool& named) {
    const uint8_t* stop = plain_end(p_, end_);
    if (stop < end_ && *stop == '"') {
      named = field_ == std::string_view(reinterpret_cast<const char*>(p_), static_cast<size_t>(stop - p_));
      p_ = stop + 1;
      return true;
    }
    name_.resize(static_cast<size_t>(end_ - p_));
    char* at = name_.data();
    if (!string(&at)) return false;
    named = field_ == std::string_view(name_.data(), static_cast<size_t>(at - name_.data()));
    return true;
  }

  /** What follows an opening quote, up to and with the closing one. */
  bool string(char** out) {
    for (;;) {
      const uint8_t* stop = plain_end(p_, end_);
      if (out) {
        std::memcpy(*out, p_, static_cast<size_t>(stop - p_));
        *out += stop - p_;
      }
      p_ = stop;
      if (p_ == end_ || *p_ < 0x20) return false;
      if (*p_++ == '"') return true;
      if (!escape(out)) return false;
    }
  }

  bool escape(char** out) {
    if (p_ == end_) return false;
    static constexpr std::string_view letters = "\"\\/bfnrt", meanings = "\"\\/\b\f\n\r\t";
    const uint8_t c = *p_++;
    if (c != 'u') {
      const size_t at = letters.find(static_cast<char>(c));
      if (at == std::string_view::npos) return false;
      if (out) *(*out)++ = meanings[at];
      return true;
    }
    uint32_t unit;
    if (!hex(unit)) return false;
    if ((unit & 0xfc00) == 0xd800 && end_ - p_ >= 2 && p_[0] == '\\' && p_[1] == 'u') {
      const uint8_t* const back = p_;
      p_ += 2;
      uint32_t low;
      if (!hex(low)) return false;
      if ((low & 0xfc00) == 0xdc00)
        unit = 0x10000 + ((unit & 0x3ff) << 10) + (low & 0x3ff);
      else
        p_ = back;  // two escapes of their own
    }
    if (out) put(unit, *out);
    return true;
  }

  bool hex(uint32_t& unit) {
    if (end_ - p_ < 4) return false;
    unit = 0;
    for (int i = 0; i < 4; i++) {
      const uint8_t c = *p_++;
      const uint8_t letter = c | 0x20;
      if (!is_digit(c) && (letter < 'a' || letter > 'f')) return false;
      unit = unit << 4 | static_cast<uint32_t>(is_digit(c) ? c - '0' : letter - 'a' + 10);
    }
    return true;
  }

  static void put(uint32_t c, char*& out) {
    if (c >= 0xd800 && c < 0xe000) {
      std::memcpy(out, kReplacement.data(), 3);
      out += 3;
    } else if (c < 0x80) {
      *out++ = static_cast<char>(c);
    } else {
      const int more = c < 0x800 ? 1 : c < 0x10000 ? 2 : 3;
      static constexpr uint32_t lead[] = {0, 0xc0, 0xe0, 0xf0};
      *out++ = static_cast<char>(lead[more] | c >> (6 * more));
      for (int i = more - 1; i >= 0; i--) *out++ = static_cast<char>(0x80 | (c >> (6 * i) & 0x3f));
    }
  }

  /** Any value; p_ is at its first character. */
  bool skip_value() {
    if (p_ == end_) return false;
    switch (*p_) {
      case '"':
        ++p_;
        return string(nullptr);
      case '{':
        return deeper([&] { return members([&](bool) { return skip_value(); }); });
      case '[':
        return deeper([&] { return items(); });
      case 't':
        return word("true");
      case 'f':
        return word("false");
      case 'n':
        return word("null");
      default:
        return number();
    }
  }

  template <class F>
  bool deeper(F&& inner) {
    if (++depth_ > kDeepest) return false;
    const bool whole = inner();
    depth_--;
    return whole;
  }

  bool items() {
    ++p_;
    if (take(']')) return true;
    do {
      skip_space();
      if (!skip_value()) return false;
    } while (take(','));
    return take(']');
  }

  bool word(std::string_view expected) {
    if (static_cast<size_t>(end_ - p_) < expected.size() || std::memcmp(p_, expected.data(), expected.size()) != 0)
      return false;
    p_ += expected.size();
    return true;
  }

  bool digits() {
    if (p_ == end_ || !is_digit(*p_)) return false;
    while (p_ < end_ && is_digit(*p_)) ++p_;
    return true;
  }

  bool number() {
    if (*p_ == '-') ++p_;
    if (p_ < end_ && *p_ == '0')
      ++p_;
    else if (!digits())
      return false;
    if (p_ < end_ && *p_ == '.') {
      ++p_;
      if (!digits()) return false;
    }
    if (p_ < end_ && (*p_ == 'e' || *p_ == 'E')) {
      ++p_;
      if (p_ < end_ && (*p_ == '+' || *p_ == '-')) ++p_;
      return digits();
    }
    return true;
  }

  const uint8_t* p_;
  const uint8_t* const end_;
  const std::string_view field_;
  size_t depth_ = 0;
  std::string name_;
};

/** Whether a well-formed text is empty or white space as String.prototype.trim takes it away. */
bool is_blank(std::string_view text) {
  const uint8_t* p = bytes_of(text);
  const uint8_t* end = p + text.size();
  while (p < end) {
    const uint32_t c = next_character(p);
    const bool space = c == ' ' || (c >= 9 && c <= 13) || c == 0xa0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200a) ||
                       c == 0x2028 || c == 0x2029 || c == 0x202f || c == 0x205f || c == 0x3000 || c == 0xfeff;
    if (!space) return false;
  }
  return true;
}

}  // namespace

JsonTexts json_texts(std::string_view lines, std::string_view field, size_t longest, char* out) {
  JsonTexts found;
  char* const begin = out;
  // Whether all is UTF-8 is asked once for as many lines as possible: `good` bytes from the beginning are.
  size_t good = well_formed_prefix(lines);
  found.offsets.push_back(0);
  for (size_t at = 0; at < lines.size();) {
    const size_t stop = std::min(lines.find('\n', at), lines.size());
    const std::string_view line = lines.substr(at, stop - at);
    if (good < stop && good >= at) {
      // The damaged character lies in this line, which is judged alone; those behind it again together.
      good = stop;
      if (stop < lines.size()) good += well_formed_prefix(lines.substr(stop));
      found.kinds.push_back(LineKind::Unsure);
    } else {
      char* to = out;
      const bool whole = line.size() <= longest && LineReader(line, field).read(to);
      const std::string_view text(out, static_cast<size_t>(to - out));
      found.kinds.push_back(!whole ? LineKind::Unsure : is_blank(text) ? LineKind::Blank : LineKind::Text);
      if (found.kinds.back() == LineKind::Text) out = to;
    }
    at = std::min(stop + 1, lines.size());
    found.ends.push_back(static_cast<uint32_t>(at));
    found.offsets.push_back(static_cast<uint32_t>(out - begin));
  }
  return found;
}

}  // namespace thalweg::text
