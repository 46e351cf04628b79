#pragma once
#include <cstdint>
#include <string_view>

#include "native/text/unicode.h"

namespace thalweg::text {

/**
 * GPT-2's words (Radford et al. 2019): an exact state machine of
 *   's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
 * where \s is White_Space, as in the engines of Python's regex, Rust and Oniguruma.
 */
class Gpt2Words {
 public:
  /** The end of the word that begins at p, of well-formed UTF-8 that ends at `end`; p < end. */
  const uint8_t* word_end(const uint8_t* p, const uint8_t* end) const;

 private:
  CharClass class_at(const uint8_t* p, const uint8_t*& next) const;
  template <CharClass C>
  const uint8_t* run(const uint8_t* p, const uint8_t* end) const;
  const uint8_t* space_end(const uint8_t* p, const uint8_t* end) const;
  const CharClasses& classes_ = CharClasses::get();
};

/**
 * The first place at or after `from` where a text may be cut in two whose words are those of the whole, or its size:
 * between a letter a-z and a space or line feed.
 */
size_t gpt2_cut_after(std::string_view text, size_t from);

}  // namespace thalweg::text
