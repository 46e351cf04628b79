#include "native/text/added_tokens.h"

#include <algorithm>

#include "native/text/unicode.h"
#include "native/text/utf8.h"

namespace thalweg::text {

namespace {

/** Where the white space that ends at `end` begins. */
size_t space_before(std::string_view text, size_t end) {
  size_t begin = end;
  while (begin > 0) {
    size_t at = begin - 1;
    while (at > 0 && (static_cast<uint8_t>(text[at]) & 0xc0) == 0x80) at--;
    const uint8_t* p = bytes_of(text) + at;
    if (CharClasses::get().of(next_character(p)) != CharClass::Space) break;
    begin = at;
  }
  return begin;
}

/** Where the white space that begins at `begin` ends. */
size_t space_after(std::string_view text, size_t begin) {
  const uint8_t* p = bytes_of(text) + begin;
  const uint8_t* end = bytes_of(text) + text.size();
  while (p < end) {
    const uint8_t* next = p;
    if (CharClasses::get().of(next_character(next)) != CharClass::Space) break;
    p = next;
  }
  return static_cast<size_t>(p - bytes_of(text));
}

}  // namespace

AddedTokens::AddedTokens(std::vector<AddedToken> tokens, bool match_special)
    : tokens_(std::move(tokens)), match_special_(match_special) {
  for (size_t i = 0; i < tokens_.size(); i++) {
    uint32_t node = 0;
    for (const char c : tokens_[i].content) {
      const auto byte = static_cast<uint8_t>(c);
      uint32_t to = child(node, byte);
      if (to == 0) {
        to = static_cast<uint32_t>(nodes_.size());
        nodes_[node].children.emplace_back(byte, to);
        nodes_.emplace_back();
      }
      node = to;
    }
    if (node == 0) continue;
    first_[static_cast<uint8_t>(tokens_[i].content[0])] = true;
    if (nodes_[node].token < 0) nodes_[node].token = static_cast<int32_t>(i);
  }
}

uint32_t AddedTokens::child(uint32_t node, uint8_t byte) const {
  for (const auto& [label, to] : nodes_[node].children)
    if (label == byte) return to;
  return 0;
}

AddedTokens::Match AddedTokens::next(std::string_view text, size_t& from, size_t done) const {
  const uint8_t* bytes = bytes_of(text);
  while (from < text.size()) {
    if (!first_[bytes[from]]) {
      from++;
      continue;
    }
    int32_t found = -1;
    size_t end = 0;
    uint32_t node = 0;
    for (size_t i = from; i < text.size() && (node = child(node, bytes[i])) != 0; i++)
      if (nodes_[node].token >= 0) {
        found = nodes_[node].token;
        end = i + 1;
      }
    if (found < 0) {
      from++;
      continue;
    }
    const AddedToken& token = tokens_[static_cast<size_t>(found)];
    size_t begin = from;
    from = end;
    if (token.special && !match_special_) continue;
    if (token.lstrip) begin = std::max(space_before(text, begin), done);
    if (token.rstrip) end = space_after(text, end);
    return {begin, end, &token};
  }
  return {text.size(), text.size(), nullptr};
}

}  // namespace thalweg::text
