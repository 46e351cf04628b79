#include "native/text/trainer.h"

#include <algorithm>
#include <queue>

#include "native/base/error.h"

namespace thalweg::text {

namespace {

using Pair = uint64_t;  // left << 32 | right
Pair pair_of(uint32_t left, uint32_t right) { return uint64_t{left} << 32 | right; }

/** A pair that may be the next: the most frequent first, then the smallest. */
struct Candidate {
  int64_t count;
  Pair pair;
  bool operator<(const Candidate& other) const {
    return count != other.count ? count < other.count : pair > other.pair;
  }
};

/** How often a pair occurs, and the words that may hold it, in order. */
struct Occurrences {
  int64_t count = 0;
  std::vector<uint32_t> words;
};

class Learner {
 public:
  Learner(const std::vector<WordCount>& words, const std::array<uint32_t, 256>& bytes) : tokens_(256) {
    for (size_t byte = 0; byte < 256; byte++) {
      if (bytes[byte] >= 256 || !tokens_[bytes[byte]].empty()) fail("BAD_INPUT", "the bytes have not the ids 0 to 255");
      tokens_[bytes[byte]] = std::string(1, static_cast<char>(byte));
    }
    for (uint32_t id = 0; id < 256; id++) ids_.emplace(tokens_[id], id);
    if (words.size() >= MergeTable::kNone) fail("BAD_INPUT", words.size(), " distinct words are too many");
    for (const WordCount& word : words) {
      std::vector<uint32_t> symbols;
      for (const char c : word.word) symbols.push_back(bytes[static_cast<uint8_t>(c)]);
      words_.push_back({std::move(symbols), static_cast<int64_t>(word.count)});
    }
    for (uint32_t w = 0; w < words_.size(); w++)
      for (size_t i = 0; i + 1 < words_[w].symbols.size(); i++)
        change(pair_of(words_[w].symbols[i], words_[w].symbols[i + 1]), 1, w);
    offer_grown();
  }

  size_t tokens() const { return tokens_.size() - 256; }

  /** Makes the next merge; false when no pair occurs `least` times. */
  bool next(uint64_t least, std::vector<Merge>& merges) {
    while (!queue_.empty()) {
      const Candidate top = queue_.top();
      queue_.pop();
      Occurrences& found = pairs_[top.pair];
      if (found.count != top.count) {
        offer(top.pair);
        continue;
      }
      if (static_cast<uint64_t>(top.count) < least) return false;
      const auto left = static_cast<uint32_t>(top.pair >> 32), right = static_cast<uint32_t>(top.pair);
      const uint32_t id = id_of(tokens_[left] + tokens_[right]);
      merges.push_back({left, right, id});
      const std::vector<uint32_t> words = std::move(found.words);
      pairs_.erase(top.pair);
      for (const uint32_t word : words) merge_in(word, left, right, id);
      // The pair itself is gone; what its own overlaps counted down meanwhile does not matter.
      pairs_.erase(top.pair);
      offer_grown();
      return true;
    }
    return false;
  }

 private:
  struct Word {
    std::vector<uint32_t> symbols;
    int64_t count;
  };

  uint32_t id_of(std::string token) {
    const auto [at, made] = ids_.try_emplace(std::move(token), static_cast<uint32_t>(tokens_.size()));
    if (made) tokens_.push_back(at->first);
    return at->second;
  }

  void offer(Pair pair) {
    const auto found = pairs_.find(pair);
    if (found != pairs_.end() && found->second.count > 0) queue_.push({found->second.count, pair});
  }

  void offer_grown() {
    std::sort(grown_.begin(), grown_.end());
    grown_.erase(std::unique(grown_.begin(), grown_.end()), grown_.end());
    for (const Pair pair : grown_) offer(pair);
    grown_.clear();
  }

  /** One occurrence more (+1) or less (-1) in word w. */
  void change(Pair pair, int64_t by, uint32_t w) {
    Occurrences& of = pairs_[pair];
    of.count += by * words_[w].count;
    if (by < 0) return;
    if (of.words.empty() || of.words.back() != w) of.words.push_back(w);
    if (grown_.empty() || grown_.back() != pair) grown_.push_back(pair);
  }

  void merge_in(uint32_t w, uint32_t left, uint32_t right, uint32_t id) {
    std::vector<uint32_t>& symbols = words_[w].symbols;
    size_t kept = 0;
    for (size_t i = 0; i < symbols.size(); i++) {
      if (symbols[i] != left || i + 1 >= symbols.size() || symbols[i + 1] != right) {
        symbols[kept++] = symbols[i];
        continue;
      }
      i++;
      if (kept > 0) {
        change(pair_of(symbols[kept - 1], left), -1, w);
        change(pair_of(symbols[kept - 1], id), 1, w);
      }
      if (i + 1 < symbols.size()) {
        change(pair_of(right, symbols[i + 1]), -1, w);
        change(pair_of(id, symbols[i + 1]), 1, w);
      }
      symbols[kept++] = id;
    }
    symbols.resize(kept);
  }

  std::vector<std::string> tokens_;
  std::unordered_map<std::string, uint32_t> ids_;
  std::vector<Word> words_;
  std::unordered_map<Pair, Occurrences> pairs_;
  std::priority_queue<Candidate> queue_;
  std::vector<Pair> grown_;  // pairs that a merge made more frequent
};

}  // namespace

std::vector<Merge> learn_merges(const std::vector<WordCount>& words, const std::array<uint32_t, 256>& bytes,
                                size_t tokens, uint64_t least, std::atomic<uint32_t>& learned,
                                const std::function<void()>& poll) {
  Learner learner(words, bytes);
  std::vector<Merge> merges;
  while (learner.tokens() < tokens && learner.next(std::max<uint64_t>(least, 1), merges)) {
    learned.store(static_cast<uint32_t>(learner.tokens()));
    poll();
  }
  return merges;
}

}  // namespace thalweg::text
