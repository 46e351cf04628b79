#pragma once
#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "native/text/added_tokens.h"
#include "native/text/merges.h"
#include "native/text/unicode.h"
#include "native/text/words.h"

namespace thalweg::text {

/** What stands before the text of a piece between added tokens. */
enum class Prefix : uint8_t {
  None,
  Space,         // a space, before added tokens are looked for in the normalized text
  MissingSpace,  // a space unless there is one
  First,         // the same, at the beginning of a text only
};

/** Everything that decides the ids. */
struct TokenizerSpec {
  /** Bytes of each token in id order; empty: text never becomes this token by merging. */
  std::vector<std::string> tokens;
  /** In order of priority. Not used with `ranks`. */
  std::vector<Merge> merges;
  /** tiktoken's form: id = rank, every pair that concatenates to a token is a merge. */
  bool ranks = false;
  /** A word that is a token is that token, whether merging makes it or not. */
  bool whole_words = false;
  /** Merging begins with characters, the bytes of those that are no token; otherwise with bytes. */
  bool characters = false;
  /** Id of each byte; kNone for one that has no token, which only a byte outside UTF-8 may be. */
  std::array<uint32_t, 256> bytes{};
  /** Merging stays inside these words; None: a text is merged as a whole. */
  WordRule words = WordRule::None;
  /** Without words: every space begins one. */
  bool split_spaces = false;
  /** U+2581 stands for a space: in texts it is read as one, and `tokens` have spaces in its place. */
  bool mark_is_space = false;
  bool nfc = false;
  Prefix prefix = Prefix::None;
  std::vector<AddedToken> added;
  /** Special tokens in a text are those tokens; otherwise ordinary characters. */
  bool match_special = false;
};

/** The tables of a tokenizer, made once and read by all threads. */
class Tokenizer {
 public:
  /** Throws BAD_INPUT for tables that contradict each other. */
  explicit Tokenizer(TokenizerSpec spec);
  Tokenizer(const Tokenizer&) = delete;
  Tokenizer& operator=(const Tokenizer&) = delete;

  const TokenizerSpec& spec() const { return spec_; }
  /** The merges, recovered from the ranks where need be. */
  const std::vector<Merge>& merges() const { return spec_.merges; }
  /** One more than the largest id. */
  uint32_t id_count() const { return id_count_; }
  /** The first place at or after `from` where a text may be cut in two that are encoded apart, or its size. */
  size_t cut_after(std::string_view text, size_t from) const;

 private:
  friend class Encoder;
  void check() const;
  void build_joins();
  void build_characters();
  AddedTokens added(bool normalized) const;
  bool cuts_are_safe() const;
  /** Appends the text in the form in which words are looked for, `prefixed` with a space. */
  void normalize(std::string_view text, bool prefixed, std::string& out) const;
  uint32_t id_of_character(uint32_t c) const;

  TokenizerSpec spec_;
  TokenMap map_;
  MergeTable table_;
  Words words_;
  AddedTokens raw_, normalized_;
  std::vector<uint32_t> low_characters_;                          // id of each character below 0x800, or kNone
  std::vector<std::pair<uint32_t, uint32_t>> higher_characters_;  // sorted (character, id)
  /** joins_[a][b]: merging may join byte a to byte b behind it; all bytes from 0x80 on are 0x80. */
  std::array<std::array<bool, 129>, 129> joins_{};
  uint32_t id_count_ = 0;
  bool may_cut_ = false;
};

}  // namespace thalweg::text
