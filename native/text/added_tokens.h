#pragma once
#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace thalweg::text {

/** A token that is looked for in the text before it is split into words. */
struct AddedToken {
  std::string content;
  uint32_t id = 0;
  bool normalized = false;  // looked for in the normalized text
  bool special = false;
  bool lstrip = false, rstrip = false;  // takes the white space before or after it along
};

/** Finds added tokens: the leftmost, of those the longest; then on behind it. */
class AddedTokens {
 public:
  struct Match {
    size_t begin, end;
    const AddedToken* token;
  };
  /** With match_special false special tokens are ordinary text, but nothing is found inside their span. */
  AddedTokens(std::vector<AddedToken> tokens, bool match_special);

  bool empty() const { return tokens_.empty(); }
  const std::vector<AddedToken>& tokens() const { return tokens_; }
  /** The next match that ends behind `from`. token null: there is none, and begin is the text's size. `done` is where
   * the text before has been given out: white space taken along never reaches before it. */
  Match next(std::string_view text, size_t& from, size_t done) const;

 private:
  struct Node {
    std::vector<std::pair<uint8_t, uint32_t>> children;
    int32_t token = -1;
  };
  uint32_t child(uint32_t node, uint8_t byte) const;
  std::vector<AddedToken> tokens_;
  std::vector<Node> nodes_ = std::vector<Node>(1);
  std::array<bool, 256> first_{};
  bool match_special_;
};

}  // namespace thalweg::text
