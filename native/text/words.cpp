#include "native/text/words.h"

#include "native/text/utf8.h"

namespace thalweg::text {

namespace {

/** Bytes of 's, 't, 're, 've, 'm, 'll or 'd at an apostrophe, or 0. */
inline int contraction(const uint8_t* p, const uint8_t* end) {
  if (end - p < 2) return 0;
  switch (p[1]) {
    case 's':
    case 't':
    case 'm':
    case 'd':
      return 2;
    case 'r':
    case 'v':
      return end - p > 2 && p[2] == 'e' ? 3 : 0;
    case 'l':
      return end - p > 2 && p[2] == 'l' ? 3 : 0;
    default:
      return 0;
  }
}

}  // namespace

/** The class of the character at p and where it ends. */
inline CharClass Gpt2Words::class_at(const uint8_t* p, const uint8_t*& next) const {
  const uint8_t simple = classes_.of_byte(*p);
  next = p + 1;
  if (simple != CharClasses::kMany) return static_cast<CharClass>(simple);
  next = p;
  return classes_.of(next_character(next));
}

/** The end of the characters of class C from p on. */
template <CharClass C>
inline const uint8_t* Gpt2Words::run(const uint8_t* p, const uint8_t* end) const {
  for (;;) {
    while (p < end && classes_.of_byte(*p) == static_cast<uint8_t>(C)) ++p;
    if (p == end || *p < 0x80) return p;
    const uint8_t* next = p;
    if (classes_.of(next_character(next)) != C) return p;
    p = next;
  }
}

/** \s+(?!\S)|\s+ : all of the white space at the end of a text, else all but its last character (of several). */
inline const uint8_t* Gpt2Words::space_end(const uint8_t* p, const uint8_t* end) const {
  const uint8_t* last = p;
  const uint8_t* stop = p;
  while (stop < end) {
    const uint8_t* next;
    if (class_at(stop, next) != CharClass::Space) break;
    last = stop;
    stop = next;
  }
  return stop == end || last == p ? stop : last;
}

const uint8_t* Gpt2Words::word_end(const uint8_t* p, const uint8_t* end) const {
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
      return space_end(p, end);
    case CharClass::Other:
      break;
  }
  if (*p == '\'')
    if (const int bytes = contraction(p, end)) return p + bytes;
  return run<CharClass::Other>(next, end);
}

size_t gpt2_cut_after(std::string_view text, size_t from) {
  for (size_t i = from > 0 ? from : 1; i < text.size(); i++)
    if ((text[i] == ' ' || text[i] == '\n') && text[i - 1] >= 'a' && text[i - 1] <= 'z') return i;
  return text.size();
}

}  // namespace thalweg::text
