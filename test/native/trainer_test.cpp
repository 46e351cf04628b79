#include "native/text/trainer.h"

#include <algorithm>
#include <map>

#include "native/base/error.h"
#include "test/native/check.h"

using namespace thalweg::text;

namespace {

std::array<uint32_t, 256> byte_ids() {
  std::array<uint32_t, 256> ids{};
  for (uint32_t byte = 0; byte < 256; byte++) ids[byte] = 255 - byte;
  return ids;
}

std::vector<Merge> learn(const std::vector<WordCount>& words, size_t tokens, uint64_t least) {
  std::atomic<uint32_t> learned{0};
  return learn_merges(words, byte_ids(), tokens, least, learned, [] {});
}

/** Counts every pair anew for each merge. */
std::vector<Merge> learn_plainly(const std::vector<WordCount>& words, size_t tokens, uint64_t least) {
  std::vector<std::string> strings(256);
  std::vector<std::vector<uint32_t>> split;
  for (uint32_t byte = 0; byte < 256; byte++) strings[byte_ids()[byte]] = std::string(1, static_cast<char>(byte));
  for (const WordCount& word : words) {
    split.emplace_back();
    for (const char c : word.word) split.back().push_back(byte_ids()[static_cast<uint8_t>(c)]);
  }
  std::vector<Merge> merges;
  while (strings.size() < 256 + tokens) {
    std::map<std::pair<uint32_t, uint32_t>, uint64_t> counts;
    for (size_t w = 0; w < words.size(); w++)
      for (size_t i = 0; i + 1 < split[w].size(); i++) counts[{split[w][i], split[w][i + 1]}] += words[w].count;
    std::pair<uint32_t, uint32_t> best;
    uint64_t most = 0;
    for (const auto& [pair, count] : counts)
      if (count > most) {
        most = count;
        best = pair;
      }
    if (most < std::max<uint64_t>(least, 1)) break;
    const std::string both = strings[best.first] + strings[best.second];
    const auto known = std::find(strings.begin(), strings.end(), both);
    const auto id = static_cast<uint32_t>(known - strings.begin());
    if (known == strings.end()) strings.push_back(both);
    merges.push_back({best.first, best.second, id});
    for (auto& word : split) {
      std::vector<uint32_t> merged;
      for (size_t i = 0; i < word.size(); i++) {
        const bool here = i + 1 < word.size() && word[i] == best.first && word[i + 1] == best.second;
        merged.push_back(here ? id : word[i]);
        if (here) i++;
      }
      word = merged;
    }
  }
  return merges;
}

}  // namespace

TEST("merges are those of counting every pair anew") {
  std::mt19937_64 random(check::seed());
  for (int round = 0; round < 200; round++) {
    std::vector<WordCount> words;
    for (int i = 0; i < 30; i++) {
      std::string word(1, "abcd"[random() % 4]);
      for (size_t n = random() % 9; n > 0; n--) word.push_back("abcd"[random() % 4]);
      words.push_back({word, 1 + random() % 5});
    }
    const uint64_t least = 1 + random() % 3;
    const auto merges = learn(words, 12, least);
    const auto expected = learn_plainly(words, 12, least);
    CHECK(merges == expected, "round ", round);
  }
}

TEST("words are counted the same for any number of threads, and bytes outside UTF-8 as U+FFFD") {
  std::mt19937_64 random(check::seed() + 1);
  std::vector<std::string> texts = {std::string("a \xff b"), ""};
  for (int i = 0; i < 20; i++) {
    std::string text;
    for (size_t n = random() % 60'000; n > 0; n--) text += " the river runs"[random() % 15];
    texts.push_back(text);
  }
  const std::vector<std::string_view> views(texts.begin(), texts.end());
  std::vector<WordCount> first;
  for (const int threads : {1, 4}) {
    WordCounter counter(threads);
    counter.add(views, [] {});
    counter.add({"one more"}, [] {});
    const auto words = counter.words();
    if (threads == 1) first = words;
    CHECK(words.size() == first.size());
    for (size_t i = 0; i < words.size(); i++)
      CHECK(words[i].word == first[i].word && words[i].count == first[i].count, words[i].word);
  }
  CHECK(std::any_of(first.begin(), first.end(), [](const WordCount& w) { return w.word == " \xef\xbf\xbd"; }));
}

TEST("bytes without ids of their own are refused") {
  std::atomic<uint32_t> learned{0};
  bool refused = false;
  try {
    learn_merges({}, {}, 1, 1, learned, [] {});
  } catch (const thalweg::Error& e) {
    refused = e.code() == "BAD_INPUT";
  }
  CHECK(refused);
}

TEST_MAIN()
