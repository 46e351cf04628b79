#pragma once
#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "native/base/thread_pool.h"
#include "native/text/merges.h"

namespace thalweg::text {

/** A distinct word and how often it was met. */
struct WordCount {
  std::string word;
  uint64_t count;
};

/** Counts GPT-2's words of many texts on a team of threads. Memory grows with the distinct words, not with the text. */
class WordCounter {
 public:
  explicit WordCounter(int threads);
  /** Ill-formed UTF-8 counts as U+FFFD. `poll` may throw to stop; what was counted until then stays. Not reentrant. */
  void add(const std::vector<std::string_view>& texts, const std::function<void()>& poll);
  /** All words met, sorted by their bytes: the same for any number of threads. */
  std::vector<WordCount> words() const;

 private:
  struct Hash {
    using is_transparent = void;
    size_t operator()(std::string_view s) const { return std::hash<std::string_view>()(s); }
  };
  using Map = std::unordered_map<std::string, uint64_t, Hash, std::equal_to<>>;
  ThreadPool pool_;
  std::vector<Map> maps_;  // one a thread
};

/**
 * Learns byte-pair merges (Sennrich et al. 2016): the most frequent pair of neighbours, of equal ones that with the
 * smallest ids, becomes a new token, until there are `tokens` new ones or no pair occurs `least` times. A pair that
 * spells a token already learned is merged to that one. Ids below 256 are bytes (`bytes`: id of each), new ones follow.
 * @param learned counts the new tokens meanwhile; may be read by another thread
 */
std::vector<Merge> learn_merges(const std::vector<WordCount>& words, const std::array<uint32_t, 256>& bytes,
                                size_t tokens, uint64_t least, std::atomic<uint32_t>& learned,
                                const std::function<void()>& poll);

}  // namespace thalweg::text
