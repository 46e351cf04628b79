#include "native/text/words.h"

#include "native/text/utf8.h"

namespace thalweg::text {

namespace {

/** Bytes of 's, 't, 're, 've, 'm, 'll or 'd at an apostrophe, or 0. */
template <bool AnyCase>
inline int contraction(const uint8_t* p, const uint8_t* end) {
  const auto letter = [p](int i) { return static_cast<uint8_t>(AnyCase ? p[i] | 0x20 : p[i]); };
  if (end - p < 2) return 0;
  switch (letter(1)) {
    case 's':
    case 't':
    case 'm':
    case 'd':
      return 2;
    case 'r':
    case 'v':
      return end - p > 2 && letter(2) == 'e' ? 3 : 0;
    case 'l':
      return end - p > 2 && letter(2) == 'l' ? 3 : 0;
    default:
      // The long s is the one character beyond ASCII that folds to one of these letters.
      return AnyCase && end - p > 2 && p[1] == 0xc5 && p[2] == 0xbf ? 3 : 0;
  }
}

/** (?i:'s|'t|'re|'ve|'m|'ll|'d)? */
inline const uint8_t* with_contraction(const uint8_t* p, const uint8_t* end) {
  return p < end && *p == '\'' ? p + contraction<true>(p, end) : p;
}

inline bool is_break(uint8_t byte) { return byte == '\r' || byte == '\n'; }

/** [\r\n]*, or with Slash [\r\n/]* */
template <bool Slash>
inline const uint8_t* with_breaks(const uint8_t* p, const uint8_t* end) {
  while (p < end && (is_break(*p) || (Slash && *p == '/'))) ++p;
  return p;
}

}  // namespace

/** The class of the character at p and where it ends. */
inline CharClass Words::class_at(const uint8_t* p, const uint8_t*& next) const {
  const uint8_t simple = classes_.of_byte(*p);
  next = p + 1;
  if (simple != CharClasses::kMany) return static_cast<CharClass>(simple);
  next = p;
  return classes_.of(next_character(next));
}

inline LetterCase Words::case_at(const uint8_t* p, const uint8_t*& next) const {
  const uint8_t simple = cases_.of_byte(*p);
  next = p + 1;
  if (simple != LetterCases::kMany) return static_cast<LetterCase>(simple);
  next = p;
  return cases_.of(next_character(next));
}

/** The end of the characters of class C from p on. */
template <CharClass C>
inline const uint8_t* Words::run(const uint8_t* p, const uint8_t* end) const {
  for (;;) {
    while (p < end && classes_.of_byte(*p) == static_cast<uint8_t>(C)) ++p;
    if (p == end || *p < 0x80) return p;
    const uint8_t* next = p;
    if (classes_.of(next_character(next)) != C) return p;
    p = next;
  }
}

/** \p{N}{0,more} */
inline const uint8_t* Words::numbers(const uint8_t* p, const uint8_t* end, int more) const {
  for (const uint8_t* next; more > 0 && p < end && class_at(p, next) == CharClass::Number; more--) p = next;
  return p;
}

/**
 * \s+(?!\S)|\s+ : all of the white space at the end of a text, else all but its last character (of several). With
 * Breaks \s*[\r\n]+ before these: up to the last line break, if there is one.
 */
template <bool Breaks>
inline const uint8_t* Words::space_end(const uint8_t* p, const uint8_t* end) const {
  const uint8_t* last = p;
  const uint8_t* stop = p;
  const uint8_t* broken = nullptr;
  while (stop < end) {
    const uint8_t* next;
    if (class_at(stop, next) != CharClass::Space) break;
    if (Breaks && is_break(*stop)) broken = next;
    last = stop;
    stop = next;
  }
  if (broken) return broken;
  return stop == end || last == p ? stop : last;
}

const uint8_t* Words::gpt2_end(const uint8_t* p, const uint8_t* end) const {
  const uint8_t* from = p;
  if (*p == ' ' && p + 1 < end) ++from;
  const uint8_t* next;
  const CharClass c = class_at(from, next);
  switch (c) {
    case CharClass::Letter:
      return run<CharClass::Letter>(next, end);
    case CharClass::Number:
      return run<CharClass::Number>(next, end);
    case CharClass::Space:
      return space_end<false>(p, end);
    case CharClass::Other:
      break;
  }
  if (*p == '\'')
    if (const int bytes = contraction<false>(p, end)) return p + bytes;
  return run<CharClass::Other>(next, end);
}

/** `digits`: numbers in a word. */
const uint8_t* Words::cl100k_end(const uint8_t* p, const uint8_t* end, int digits) const {
  const uint8_t* next;
  const CharClass c = class_at(p, next);
  if (c == CharClass::Letter) return run<CharClass::Letter>(next, end);
  if (c == CharClass::Number) return numbers(next, end, digits - 1);
  if (*p == '\'')
    if (const int bytes = contraction<true>(p, end)) return p + bytes;
  if (next < end && !is_break(*p)) {
    const uint8_t* after;
    const CharClass second = class_at(next, after);
    if (second == CharClass::Letter) return run<CharClass::Letter>(after, end);
    if (second == CharClass::Other && *p == ' ') return with_breaks<false>(run<CharClass::Other>(after, end), end);
  }
  if (c == CharClass::Other) return with_breaks<false>(run<CharClass::Other>(next, end), end);
  return space_end<true>(p, end);
}

/**
 * U*W+ from p on. U* takes all it can; a lower-case letter behind it begins W+. Otherwise U* gives characters back
 * until one of them begins W+: the last that is in both classes, behind which only upper-case letters stand.
 */
inline Words::Cased Words::cased(const uint8_t* p, const uint8_t* end) const {
  const uint8_t* both = nullptr;
  const uint8_t* next;
  while (p < end) {
    const LetterCase c = case_at(p, next);
    if (c == LetterCase::None) break;
    if (c == LetterCase::Lower) {
      const uint8_t* stop = next;
      while (stop < end && static_cast<uint8_t>(case_at(stop, next)) & static_cast<uint8_t>(LetterCase::Lower))
        stop = next;
      return {p, stop};
    }
    if (c == LetterCase::Both) both = next;
    p = next;
  }
  return {p, both};
}

const uint8_t* Words::o200k_end(const uint8_t* p, const uint8_t* end) const {
  const uint8_t* next;
  const CharClass c = class_at(p, next);
  if (c == CharClass::Number) return numbers(next, end, 2);
  if (c == CharClass::Letter) {
    const Cased letters = cased(p, end);
    return with_contraction(letters.word ? letters.word : letters.upper, end);
  }
  if (!is_break(*p)) {
    const Cased behind = cased(next, end);
    if (behind.word) return with_contraction(behind.word, end);
    // Without the character before it, only a mark is itself in both classes; upper-case letters at most follow here.
    const uint8_t* after;
    if (case_at(p, after) == LetterCase::Both) return with_contraction(next, end);
    if (behind.upper > next) return with_contraction(behind.upper, end);
    if (*p == ' ' && next < end && class_at(next, after) == CharClass::Other)
      return with_breaks<true>(run<CharClass::Other>(after, end), end);
  }
  if (c == CharClass::Other) return with_breaks<true>(run<CharClass::Other>(next, end), end);
  return space_end<true>(p, end);
}

size_t word_cut_after(std::string_view text, size_t from) {
  for (size_t i = from > 0 ? from : 1; i < text.size(); i++)
    if ((text[i] == ' ' || text[i] == '\n') && text[i - 1] >= 'a' && text[i - 1] <= 'z') return i;
  return text.size();
}

}  // namespace thalweg::text
