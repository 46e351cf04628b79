#include "native/text/encoder.h"

#include <algorithm>

#include "native/base/error.h"
#include "native/text/utf8.h"

namespace thalweg::text {

void IdBuffer::grow(size_t by) {
  const size_t capacity = std::max<size_t>({1024, 2 * capacity_, size_ + by});
  std::unique_ptr<uint32_t[]> larger(new uint32_t[capacity]);
  std::copy(data_.get(), data_.get() + size_, larger.get());
  data_ = std::move(larger);
  capacity_ = capacity;
}

void Encoder::encode(std::string_view text, bool continued, IdBuffer& out) {
  if (text.size() >= MergeTable::kNone / 4) fail("BAD_INPUT", "a text of ", text.size(), " bytes is too long");
  if (well_formed_prefix(text) != text.size()) {
    repaired_.clear();
    repair_utf8(text, repaired_);
    text = repaired_;
  }
  const Piece whole{text, !continued, continued};
  between(t_.raw_, whole, out, [&](const Piece& piece) { encode_raw(piece, out); });
}

/** Calls rest(piece) for the text between added tokens, whose ids go out themselves. */
template <class F>
void Encoder::between(const AddedTokens& tokens, const Piece& piece, IdBuffer& out, F&& rest) {
  if (piece.text.empty()) return;
  if (tokens.empty()) return rest(piece);
  size_t from = 0, done = 0;
  const auto part = [&](size_t begin, size_t end) {
    rest(Piece{piece.text.substr(begin, end - begin), piece.first && begin == 0, piece.continued && begin == 0});
  };
  for (;;) {
    const AddedTokens::Match match = tokens.next(piece.text, from, done);
    if (done < match.begin) part(done, match.begin);
    if (match.token == nullptr) return;
    out.push(match.token->id);
    done = match.end;
  }
}

void Encoder::encode_raw(const Piece& piece, IdBuffer& out) {
  const TokenizerSpec& spec = t_.spec_;
  const bool prefixed = spec.prefix == Prefix::Space && !piece.continued;
  Piece whole = piece;
  if (prefixed || spec.mark_is_space || (spec.nfc && !Nfc::get().is_plain(piece.text))) {
    normalized_.clear();
    t_.normalize(piece.text, prefixed, normalized_);
    whole.text = normalized_;
  }
  between(t_.normalized_, whole, out, [&](const Piece& part) { encode_normalized(part, out); });
}

void Encoder::encode_normalized(const Piece& piece, IdBuffer& out) {
  const Prefix prefix = t_.spec_.prefix;
  const bool wanted = (prefix == Prefix::MissingSpace && !piece.continued) || (prefix == Prefix::First && piece.first);
  if (!wanted || piece.text.front() == ' ') return encode_words(piece.text, out);
  prefixed_.assign(1, ' ');
  prefixed_.append(piece.text);
  encode_words(prefixed_, out);
}

inline const uint8_t* Encoder::word_end(const uint8_t* p, const uint8_t* end) const {
  return t_.spec_.words != WordRule::None ? t_.words_.word_end(p, end) : joined_end(p, end);
}

/** Word by word, but some ahead of the cache: their slots are on the way while the next words are found. */
void Encoder::encode_words(std::string_view text, IdBuffer& out) {
  struct Word {
    const uint8_t* begin;
    size_t bytes;
    WordCache::Key key;
    size_t place;
  };
  std::array<Word, 16> ahead;
  const uint8_t* p = bytes_of(text);
  const uint8_t* end = p + text.size();
  while (p < end) {
    size_t count = 0;
    for (; count < ahead.size() && p < end; count++) {
      const uint8_t* to = word_end(p, end);
      Word& word = ahead[count];
      word.begin = p;
      word.bytes = static_cast<size_t>(to - p);
      p = to;
      if (word.bytes > WordCache::kInline) continue;
      word.key = WordCache::key_of(word.begin, word.bytes, end);
      word.place = cache_.place(word.key);
      cache_.prefetch(word.place);
    }
    for (size_t i = 0; i < count; i++) {
      const Word& word = ahead[i];
      const std::string_view letters(reinterpret_cast<const char*>(word.begin), word.bytes);
      if (word.bytes > WordCache::kInline) {
        encode_long_word(letters, out);
        continue;
      }
      Ids ids = cache_.find(word.key, word.place);
      if (ids.data == nullptr) {
        ids = merge_word(letters);
        cache_.add(word.key, word.place, ids);
      }
      out.append(ids);
    }
  }
}

/** Where a word that merging cannot cross ends: no token joins the bytes on its two sides. */
const uint8_t* Encoder::joined_end(const uint8_t* p, const uint8_t* end) const {
  uint8_t last = std::min<uint8_t>(*p, 0x80);
  for (++p; p < end; ++p) {
    const uint8_t here = std::min<uint8_t>(*p, 0x80);
    if (!t_.joins_[last][here]) return p;
    last = here;
  }
  return end;
}

void Encoder::encode_long_word(std::string_view word, IdBuffer& out) {
  if (word.size() > WordCache::kLongest) return out.append(merge_word(word));
  Ids ids = cache_.find_long(word);
  if (ids.data == nullptr) {
    ids = merge_word(word);
    cache_.add_long(word, ids);
  }
  out.append(ids);
}

Ids Encoder::merge_word(std::string_view word) {
  ids_.clear();
  const uint32_t whole = t_.spec_.whole_words ? t_.map_.find(word) : MergeTable::kNone;
  if (whole != MergeTable::kNone) {
    ids_.push_back(whole);
  } else if (t_.spec_.characters) {
    const uint8_t* p = bytes_of(word);
    const uint8_t* end = p + word.size();
    while (p < end) {
      const uint8_t* from = p;
      const uint32_t id = t_.id_of_character(next_character(p));
      if (id != MergeTable::kNone)
        ids_.push_back(id);
      else
        for (; from < p; ++from) ids_.push_back(t_.spec_.bytes[*from]);
    }
  } else {
    for (const char byte : word) ids_.push_back(t_.spec_.bytes[static_cast<uint8_t>(byte)]);
  }
  t_.table_.merge(ids_, scratch_);
  return {ids_.data(), static_cast<uint32_t>(ids_.size())};
}

}  // namespace thalweg::text
