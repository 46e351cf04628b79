#pragma once
#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace thalweg::text {

/** left, right and the id they become. */
using Merge = std::array<uint32_t, 3>;

/** Byte-pair merging: of all neighbouring pairs the one of lowest rank, leftmost first, until none is left. */
class MergeTable {
 public:
  struct Found {
    uint32_t rank = kNone;
    uint32_t id = 0;
  };
  static constexpr uint32_t kNone = ~uint32_t{0};
  /** What merging long words needs, kept by each thread. */
  struct Scratch {
    std::vector<uint64_t> heap;
    std::vector<uint32_t> next, previous;
  };

  MergeTable() = default;
  /** Merges in order of priority; of equal pairs the last one counts. */
  explicit MergeTable(const std::vector<Merge>& merges);

  void reserve(size_t merges);
  void set(uint32_t left, uint32_t right, Found found);
  Found find(uint32_t left, uint32_t right) const;
  /** Merges in place, below rank `limit` only. Quadratic for short words, which is fastest; O(n log n) for long ones.
   */
  void merge(std::vector<uint32_t>& ids, Scratch& scratch, uint32_t limit = kNone) const;

 private:
  struct Slot {
    uint32_t left = 0, right = 0;
    Found found;
  };
  size_t slot_of(uint32_t left, uint32_t right) const;
  void grow();
  void merge_short(std::vector<uint32_t>& ids, uint32_t limit) const;
  void merge_long(std::vector<uint32_t>& ids, Scratch& scratch, uint32_t limit) const;

  std::vector<Slot> slots_ = std::vector<Slot>(16);
  size_t used_ = 0;
};

/** Token bytes -> id, by open addressing; the tokens must outlive it. Empty ones are left out, of equal ones the first
 * counts. */
class TokenMap {
 public:
  explicit TokenMap(const std::vector<std::string>& tokens);
  /** The id, or MergeTable::kNone. */
  uint32_t find(std::string_view token) const;

 private:
  const std::vector<std::string>& tokens_;
  std::vector<uint32_t> slots_;
};

/**
 * The pair whose merge makes each token of several bytes, when id is rank (a tiktoken file): the two parts that merging
 * the lower ranks leaves of it. With these pairs alone words become the same ids as with every pair that concatenates
 * to a token: a pair is merged only after all lower ranks are done within its bytes, and none of them crossed its
 * edges. A token that is not left in two parts can never be made by merging and has no pair.
 */
std::vector<Merge> recover_merges(const std::vector<std::string>& tokens, const TokenMap& map);

}  // namespace thalweg::text
