#include "native/text/tokenizer.h"

#include <algorithm>

#include "native/base/error.h"
#include "native/text/utf8.h"

namespace thalweg::text {

namespace {

constexpr std::string_view kMark = "\xe2\x96\x81";  // U+2581

uint8_t join_class(char c) { return std::min<uint8_t>(static_cast<uint8_t>(c), 0x80); }

bool is_one_character(std::string_view token) {
  if (token.empty() || well_formed_prefix(token) != token.size()) return false;
  const uint8_t* p = bytes_of(token);
  next_character(p);
  return p == bytes_of(token) + token.size();
}

}  // namespace

Tokenizer::Tokenizer(TokenizerSpec spec)
    : spec_(std::move(spec)), map_(spec_.tokens), words_(spec_.words), raw_({}, false), normalized_({}, false) {
  check();
  if (spec_.ranks) {
    spec_.merges = recover_merges(spec_.tokens, map_);
    const auto longer = std::count_if(spec_.tokens.begin(), spec_.tokens.end(), [](auto& t) { return t.size() > 1; });
    spec_.whole_words = spec_.whole_words || static_cast<size_t>(longer) != spec_.merges.size();
  }
  table_ = MergeTable(spec_.merges);
  id_count_ = static_cast<uint32_t>(spec_.tokens.size());
  for (const AddedToken& token : spec_.added) id_count_ = std::max(id_count_, token.id + 1);
  raw_ = added(false);
  normalized_ = added(true);
  build_joins();
  if (spec_.characters) build_characters();
  may_cut_ = cuts_are_safe();
}

void Tokenizer::check() const {
  const size_t n = spec_.tokens.size();
  if (n >= 1u << 30) fail("BAD_INPUT", n, " tokens are too many");
  for (size_t byte = 0; byte < 256; byte++) {
    const uint32_t id = spec_.bytes[byte];
    if (id == MergeTable::kNone && (byte == 0xc0 || byte == 0xc1 || byte > 0xf4)) continue;
    if (id >= n) fail("BAD_INPUT", "the tokenizer has no token for the byte ", byte);
    if (!spec_.characters && spec_.tokens[id] != std::string(1, static_cast<char>(byte)))
      fail("BAD_INPUT", "the token of the byte ", byte, " is another");
  }
  for (const Merge& merge : spec_.merges) {
    for (const uint32_t id : merge)
      if (id >= n) fail("BAD_INPUT", "a merge names the token ", id, " of ", n);
    if (spec_.tokens[merge[0]] + spec_.tokens[merge[1]] != spec_.tokens[merge[2]] || spec_.tokens[merge[0]].empty() ||
        spec_.tokens[merge[1]].empty())
      fail("BAD_INPUT", "the merge of the tokens ", merge[0], " and ", merge[1], " is not token ", merge[2]);
  }
  if (spec_.whole_words && spec_.words == WordRule::None) fail("BAD_INPUT", "whole words need words");
  if (spec_.ranks && spec_.characters) fail("BAD_INPUT", "ranks are of bytes");
  for (const AddedToken& token : spec_.added) {
    if (token.content.empty()) fail("BAD_INPUT", "the added token ", token.id, " is empty");
    if (token.id >= 1u << 30) fail("BAD_INPUT", "the added token ", token.id, " is beyond any vocabulary");
    if (well_formed_prefix(token.content) != token.content.size())
      fail("BAD_INPUT", "the added token ", token.id, " is not UTF-8");
  }
}

void Tokenizer::build_joins() {
  for (const Merge& merge : spec_.merges) {
    const std::string& token = spec_.tokens[merge[2]];
    for (size_t i = 1; i < token.size(); i++) joins_[join_class(token[i - 1])][join_class(token[i])] = true;
  }
  joins_[0x80][0x80] = true;
  if (!spec_.split_spaces) return;
  for (auto& row : joins_) row[' '] = false;
}

void Tokenizer::build_characters() {
  low_characters_.assign(0x800, MergeTable::kNone);
  for (size_t id = 0; id < spec_.tokens.size(); id++) {
    if (!is_one_character(spec_.tokens[id])) continue;
    const uint8_t* p = bytes_of(spec_.tokens[id]);
    const uint32_t c = next_character(p);
    if (c >= 0x800)
      higher_characters_.emplace_back(c, id);
    else if (low_characters_[c] == MergeTable::kNone)
      low_characters_[c] = static_cast<uint32_t>(id);
  }
  std::sort(higher_characters_.begin(), higher_characters_.end());
}

uint32_t Tokenizer::id_of_character(uint32_t c) const {
  if (c < 0x800) return low_characters_[c];
  const auto found =
      std::lower_bound(higher_characters_.begin(), higher_characters_.end(), std::pair<uint32_t, uint32_t>{c, 0});
  return found != higher_characters_.end() && found->first == c ? found->second : MergeTable::kNone;
}

AddedTokens Tokenizer::added(bool normalized) const {
  std::vector<AddedToken> some;
  for (AddedToken token : spec_.added) {
    if (token.normalized != normalized) continue;
    if (normalized) {
      std::string content;
      normalize(token.content, spec_.prefix == Prefix::Space, content);
      token.content = std::move(content);
    }
    some.push_back(std::move(token));
  }
  // None is ever read out of a text then: there is nothing to look for.
  if (!spec_.match_special && std::all_of(some.begin(), some.end(), [](auto& token) { return token.special; }))
    some.clear();
  return AddedTokens(std::move(some), spec_.match_special);
}

void Tokenizer::normalize(std::string_view text, bool prefixed, std::string& out) const {
  if (prefixed) out.push_back(' ');
  const size_t from = out.size();
  if (spec_.nfc && !Nfc::get().is_plain(text))
    Nfc::get().normalize(text, out);
  else
    out.append(text);
  if (!spec_.mark_is_space) return;
  size_t at = out.find(kMark, from);
  if (at == std::string::npos) return;
  size_t to = at;
  while (at < out.size()) {
    if (out.compare(at, kMark.size(), kMark) == 0) {
      out[to++] = ' ';
      at += kMark.size();
    } else {
      out[to++] = out[at++];
    }
  }
  out.resize(to);
}

/**
 * A text may be cut between a letter a-z and a space (or line feed, where there are words): a word never goes on there,
 * the letter composes with nothing behind it, and no match of an added token may reach across or end there.
 */
bool Tokenizer::cuts_are_safe() const {
  for (const AddedTokens* set : {&raw_, &normalized_})
    for (const AddedToken& token : set->tokens()) {
      const std::string& s = token.content;
      if (token.rstrip || (s.back() >= 'a' && s.back() <= 'z')) return false;
      for (size_t i = 1; i < s.size(); i++)
        if (s[i - 1] >= 'a' && s[i - 1] <= 'z' && (s[i] == ' ' || s[i] == '\n')) return false;
    }
  if (spec_.words != WordRule::None) return true;
  for (int c = 'a'; c <= 'z'; c++)
    if (joins_[static_cast<size_t>(c)][' ']) return false;
  return true;
}

size_t Tokenizer::cut_after(std::string_view text, size_t from) const {
  if (!may_cut_) return text.size();
  if (spec_.words != WordRule::None) return word_cut_after(text, from);
  for (size_t i = std::max<size_t>(from, 1); i < text.size(); i++)
    if (text[i] == ' ' && text[i - 1] >= 'a' && text[i - 1] <= 'z') return i;
  return text.size();
}

}  // namespace thalweg::text
