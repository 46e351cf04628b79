#pragma once
#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace thalweg::text {

/** What the word splitters tell apart: \p{L}, \p{N}, White_Space, everything else. */
enum class CharClass : uint8_t { Other = 0, Letter = 1, Number = 2, Space = 3 };

/** Upper: \p{Lu} and \p{Lt}; Lower: \p{Ll}; Both, where neither is meant: \p{Lm}, \p{Lo} and \p{M}. */
enum class LetterCase : uint8_t { None = 0, Upper = 1, Lower = 2, Both = 3 };

/** One of four classes for every character, expanded once from generated ranges. */
template <class Class>
class CharTable {
 public:
  static const CharTable& get();
  Class of(uint32_t code_point) const {
    return static_cast<Class>(packed_[code_point >> 2] >> (2 * (code_point & 3)) & 3);
  }
  /** Class of a byte below 0x80; kMany for the others, whose character must be decoded. */
  static constexpr uint8_t kMany = 4;
  uint8_t of_byte(uint8_t byte) const { return bytes_[byte]; }

 private:
  CharTable(const uint32_t* starts, size_t count);
  std::vector<uint8_t> packed_;  // 2 bits a character
  std::array<uint8_t, 256> bytes_;
};
using CharClasses = CharTable<CharClass>;
using LetterCases = CharTable<LetterCase>;
template <>
const CharClasses& CharClasses::get();
template <>
const LetterCases& LetterCases::get();

/** Normalization Form C (Unicode standard annex 15) of well-formed UTF-8. */
class Nfc {
 public:
  static const Nfc& get();
  /** True when the text surely is in NFC; false when it has to be looked at. */
  bool is_plain(std::string_view text) const;
  void normalize(std::string_view text, std::string& out) const;

 private:
  Nfc();
  struct Pair {
    uint64_t key = 0;  // first << 32 | last, 0 for an empty slot
    uint32_t composed = 0;
  };
  void decompose(uint32_t c, std::vector<uint32_t>& out) const;
  void compose(std::vector<uint32_t>& run) const;
  uint32_t composed(uint32_t first, uint32_t last) const;
  uint8_t order(uint32_t c) const { return c < orders_.size() ? orders_[c] : 0; }

  bool suspect(uint32_t c) const { return c < suspects_.size() && suspects_[c]; }

  std::vector<uint8_t> orders_;         // combining class places by character
  std::vector<uint32_t> decomposable_;  // sorted characters; parts at the same place in kDecompositions
  std::vector<Pair> pairs_;             // open addressing
  std::vector<bool> suspects_;          // characters that composing or reordering may touch
};

}  // namespace thalweg::text
