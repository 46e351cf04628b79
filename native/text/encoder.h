#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "native/text/tokenizer.h"
#include "native/text/word_cache.h"

namespace thalweg::text {

/** Ids as they are made: a vector that does not clear what it grows by. */
class IdBuffer {
 public:
  size_t size() const { return size_; }
  const uint32_t* data() const { return data_.get(); }
  void clear() { size_ = 0; }
  void push(uint32_t id) { append({&id, 1}); }
  void append(Ids ids) {
    if (size_ + ids.count > capacity_) grow(ids.count);
    uint32_t* to = data_.get() + size_;
    for (uint32_t i = 0; i < ids.count; i++) to[i] = ids.data[i];
    size_ += ids.count;
  }

 private:
  void grow(size_t by);
  std::unique_ptr<uint32_t[]> data_;
  size_t size_ = 0, capacity_ = 0;
};

/** Encodes texts one after the other; a thread's own, with what it remembers of words. */
class Encoder {
 public:
  /** The tokenizer must outlive it. */
  explicit Encoder(const Tokenizer& tokenizer) : t_(tokenizer) {}

  /**
   * Appends the ids of a text; ill-formed UTF-8 counts as U+FFFD. `continued`: the text goes on from a cut of
   * Tokenizer::cut_after.
   */
  void encode(std::string_view text, bool continued, IdBuffer& out);

 private:
  /** A part of a text: `first` when the text begins here, `continued` when a cut is before it. */
  struct Piece {
    std::string_view text;
    bool first, continued;
  };
  void encode_raw(const Piece& piece, IdBuffer& out);
  void encode_normalized(const Piece& piece, IdBuffer& out);
  void encode_words(std::string_view text, IdBuffer& out);
  void encode_long_word(std::string_view word, IdBuffer& out);
  const uint8_t* word_end(const uint8_t* p, const uint8_t* end) const;
  Ids merge_word(std::string_view word);
  const uint8_t* joined_end(const uint8_t* p, const uint8_t* end) const;
  template <class F>
  void between(const AddedTokens& tokens, const Piece& piece, IdBuffer& out, F&& rest);

  const Tokenizer& t_;
  WordCache cache_;
  MergeTable::Scratch scratch_;
  std::vector<uint32_t> ids_;
  std::string repaired_, normalized_, prefixed_;
};

}  // namespace thalweg::text
