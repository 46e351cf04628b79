#pragma once
#include <cstdint>
#include <string_view>

#include "native/text/unicode.h"

namespace thalweg::text {

/** The words of a known tokenizer: the regular expression that cuts its texts, \s being White_Space. */
enum class WordRule : uint8_t {
  /** A text is one word. */
  None,
  /** GPT-2 (Radford et al. 2019): 's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+ */
  Gpt2,
  /** GPT-4 and Llama 3: (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*
   * |\s*[\r\n]+|\s+(?!\S)|\s+ */
  Cl100k,
  /** Qwen 2: the same with \p{N} for \p{N}{1,3}. */
  Qwen2,
  /** GPT-4o and Llama 4, with U = [\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}] and W = [\p{Ll}\p{Lm}\p{Lo}\p{M}]:
   * [^\r\n\p{L}\p{N}]?U*W+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?U+W*(?i:'s|'t|'re|'ve|'m|'ll|'d)?
   * |\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+ */
  O200k,
};

/** Exact state machines of these expressions. */
class Words {
 public:
  explicit Words(WordRule rule) : rule_(rule) {}
  /** The end of the word that begins at p, of well-formed UTF-8 that ends at `end`; p < end. */
  const uint8_t* word_end(const uint8_t* p, const uint8_t* end) const {
    if (rule_ == WordRule::Gpt2) return gpt2_end(p, end);
    if (rule_ == WordRule::O200k) return o200k_end(p, end);
    return rule_ == WordRule::None ? end : cl100k_end(p, end, rule_ == WordRule::Cl100k ? 3 : 1);
  }

 private:
  const uint8_t* gpt2_end(const uint8_t* p, const uint8_t* end) const;
  const uint8_t* cl100k_end(const uint8_t* p, const uint8_t* end, int digits) const;
  const uint8_t* o200k_end(const uint8_t* p, const uint8_t* end) const;

  CharClass class_at(const uint8_t* p, const uint8_t*& next) const;
  LetterCase case_at(const uint8_t* p, const uint8_t*& next) const;
  template <CharClass C>
  const uint8_t* run(const uint8_t* p, const uint8_t* end) const;
  const uint8_t* numbers(const uint8_t* p, const uint8_t* end, int more) const;
  template <bool Breaks>
  const uint8_t* space_end(const uint8_t* p, const uint8_t* end) const;
  struct Cased {
    const uint8_t* upper;  // end of U*
    const uint8_t* word;   // end of U*W+, null when it does not match
  };
  Cased cased(const uint8_t* p, const uint8_t* end) const;

  WordRule rule_;
  const CharClasses& classes_ = CharClasses::get();
  const LetterCases& cases_ = LetterCases::get();
};

/**
 * The first place at or after `from` where a text may be cut in two whose words are those of the whole by any rule, or
 * its size: between a letter a-z and a space or line feed.
 */
size_t word_cut_after(std::string_view text, size_t from);

}  // namespace thalweg::text
