#include <algorithm>

#include "native/text/trainer.h"
#include "native/text/utf8.h"
#include "native/text/words.h"

namespace thalweg::text {

namespace {
constexpr size_t kTile = 1 << 16;
}  // namespace

WordCounter::WordCounter(int threads)
    : pool_(threads > 0 ? threads : available_cpus()), maps_(static_cast<size_t>(pool_.threads())) {}

void WordCounter::add(const std::vector<std::string_view>& texts, const std::function<void()>& poll) {
  std::vector<std::string_view> tiles;
  for (std::string_view text : texts)
    while (!text.empty()) {
      const size_t size = text.size() <= 2 * kTile ? text.size() : word_cut_after(text, kTile);
      tiles.push_back(text.substr(0, size));
      text.remove_prefix(size);
    }
  const Words words(WordRule::Gpt2);
  pool_.run(static_cast<int64_t>(tiles.size()), [&](int64_t index, int worker) {
    poll();
    std::string_view tile = tiles[static_cast<size_t>(index)];
    std::string repaired;
    if (well_formed_prefix(tile) != tile.size()) {
      repair_utf8(tile, repaired);
      tile = repaired;
    }
    Map& map = maps_[static_cast<size_t>(worker)];
    const uint8_t* end = bytes_of(tile) + tile.size();
    for (const uint8_t* p = bytes_of(tile); p < end;) {
      const uint8_t* to = words.word_end(p, end);
      const std::string_view word(reinterpret_cast<const char*>(p), static_cast<size_t>(to - p));
      const auto found = map.find(word);
      if (found == map.end())
        map.emplace(word, 1);
      else
        found->second++;
      p = to;
    }
  });
}

std::vector<WordCount> WordCounter::words() const {
  std::vector<WordCount> all;
  for (const Map& map : maps_)
    for (const auto& [word, count] : map) all.push_back({word, count});
  std::sort(all.begin(), all.end(), [](const WordCount& a, const WordCount& b) { return a.word < b.word; });
  size_t kept = 0;
  for (WordCount& word : all) {
    if (kept > 0 && all[kept - 1].word == word.word)
      all[kept - 1].count += word.count;
    else if (&all[kept] == &word)
      kept++;
    else
      all[kept++] = std::move(word);
  }
  all.resize(kept);
  return all;
}

}  // namespace thalweg::text
