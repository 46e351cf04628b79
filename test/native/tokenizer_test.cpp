#include <algorithm>
#include <cstring>
#include <string>
#include <vector>

#include "native/base/error.h"
#include "native/text/batch.h"
#include "native/text/utf8.h"
#include "test/native/check.h"

using namespace thalweg::text;

namespace {

std::mt19937_64 random_source(uint64_t salt) { return std::mt19937_64(check::seed() + salt); }

size_t below(std::mt19937_64& random, size_t n) { return random() % n; }

/** Bytes that look like text here and like nothing there. */
std::string random_bytes(std::mt19937_64& random, size_t longest) {
  static const std::vector<std::string> parts = {"the",
                                                 " the",
                                                 "'s",
                                                 "'ll",
                                                 " ",
                                                 "  ",
                                                 "\n",
                                                 "a",
                                                 "ab",
                                                 "abc",
                                                 "123",
                                                 "\xc3\xa9",
                                                 "e\xcc\x81",
                                                 "\xe6\xbc\xa2",
                                                 "\xf0\x9f\x98\x80",
                                                 "\xe2\x96\x81",
                                                 "<s>",
                                                 "<|x|>",
                                                 "\xff",
                                                 "\xc0\xaf",
                                                 "\xed\xa0\x80",
                                                 "\xf0\x9f",
                                                 "\xe1\x84\x80\xe1\x85\xa1\xe1\x86\xa8",
                                                 "\xc2\x85",
                                                 "\xe3\x80\x80",
                                                 std::string(1, '\0'),
                                                 "zzzzzzzzzzzzzzzzzzzz"};
  std::string text;
  while (text.size() < longest && below(random, 12) != 0) {
    if (below(random, 8) == 0)
      for (size_t n = below(random, 9); n > 0; n--) text.push_back(static_cast<char>(random()));
    else
      text += parts[below(random, parts.size())];
    if (below(random, 200) == 0) text += std::string(below(random, 300), "a \xe6="[below(random, 4)]);
  }
  return text;
}

/** A tokenizer over bytes with a few merges, or over characters with byte fallback. */
TokenizerSpec small_spec(std::mt19937_64& random, bool characters) {
  TokenizerSpec spec;
  spec.characters = characters;
  for (int byte = 0; byte < 256; byte++) {
    spec.bytes[static_cast<size_t>(byte)] = static_cast<uint32_t>(byte);
    spec.tokens.push_back(characters ? std::string() : std::string(1, static_cast<char>(byte)));
  }
  if (characters)
    for (const char* c : {" ", "a", "b", "c", "e", "h", "t", "z", "\xc3\xa9", "\xe6\xbc\xa2"})
      spec.tokens.emplace_back(c);
  for (int i = 0; i < 40; i++) {
    const size_t from = characters ? 256 : 0;
    const auto pick = [&] { return from + below(random, spec.tokens.size() - from); };
    const size_t left = pick(), right = pick();
    const std::string both = spec.tokens[left] + spec.tokens[right];
    if (both.size() > 12 || std::find(spec.tokens.begin(), spec.tokens.end(), both) != spec.tokens.end()) continue;
    spec.merges.push_back(
        {static_cast<uint32_t>(left), static_cast<uint32_t>(right), static_cast<uint32_t>(spec.tokens.size())});
    spec.tokens.push_back(both);
  }
  spec.mark_is_space = characters;
  if (!characters) spec.words = static_cast<WordRule>(below(random, 5));
  spec.nfc = below(random, 2) == 0;
  spec.prefix = static_cast<Prefix>(below(random, 4));
  spec.match_special = below(random, 2) == 0;
  for (const char* content : {"<s>", "<|x|>", "  ", "ab c"})
    if (below(random, 2) == 0) {
      AddedToken token;
      token.content = content;
      token.id = static_cast<uint32_t>(spec.tokens.size() + spec.added.size());
      token.normalized = below(random, 2) == 0;
      token.special = below(random, 2) == 0;
      token.lstrip = below(random, 4) == 0;
      token.rstrip = below(random, 4) == 0;
      spec.added.push_back(token);
    }
  return spec;
}

std::vector<uint32_t> encode(const Tokenizer& tokenizer, std::string_view text) {
  Encoder encoder(tokenizer);
  IdBuffer out;
  encoder.encode(text, false, out);
  return {out.data(), out.data() + out.size()};
}

std::vector<uint32_t> ids_of(const EncodedBatch& batch, size_t i) {
  std::vector<uint32_t> out;
  for (uint32_t k = batch.offsets[i]; k < batch.offsets[i + 1]; k++) {
    uint32_t id = 0;
    std::memcpy(&id, batch.ids.get() + k * batch.id_bytes, batch.id_bytes);
    out.push_back(id);
  }
  return out;
}

/** The definition, word for word: of all pairs the lowest rank, leftmost. */
std::vector<uint32_t> merge_plainly(const std::vector<Merge>& merges, std::vector<uint32_t> ids) {
  for (;;) {
    size_t best = merges.size(), at = 0;
    for (size_t i = 0; i + 1 < ids.size(); i++)
      for (size_t rank = 0; rank < best; rank++)
        if (merges[rank][0] == ids[i] && merges[rank][1] == ids[i + 1]) {
          best = rank;
          at = i;
        }
    if (best == merges.size()) return ids;
    ids[at] = merges[best][2];
    ids.erase(ids.begin() + static_cast<std::ptrdiff_t>(at) + 1);
  }
}

}  // namespace

TEST("merging equals its definition for short and long words") {
  auto random = random_source(1);
  for (int round = 0; round < 300; round++) {
    const TokenizerSpec spec = small_spec(random, false);
    const MergeTable table(spec.merges);
    MergeTable::Scratch scratch;
    std::vector<uint32_t> ids(below(random, 200));
    for (uint32_t& id : ids)
      id = spec.merges.empty() ? 0 : spec.merges[below(random, spec.merges.size())][below(random, 2)];
    const std::vector<uint32_t> expected = merge_plainly(spec.merges, ids);
    table.merge(ids, scratch);
    CHECK(ids == expected, "round ", round);
  }
}

TEST("any bytes are encoded without harm, and bytes outside UTF-8 as U+FFFD") {
  auto random = random_source(2);
  for (int round = 0; round < 200; round++) {
    const Tokenizer tokenizer(small_spec(random, round % 2 == 1));
    Encoder encoder(tokenizer);
    for (int i = 0; i < 60; i++) {
      const std::string text = random_bytes(random, 200);
      // A heap copy of the exact size, so that the sanitizer sees a read behind the end.
      const std::vector<char> exact(text.begin(), text.end());
      IdBuffer out;
      encoder.encode({exact.data(), exact.size()}, false, out);
      std::string repaired;
      repair_utf8(text, repaired);
      CHECK(well_formed_prefix(repaired) == repaired.size());
      const std::vector<uint32_t> ids(out.data(), out.data() + out.size());
      CHECK(ids == encode(tokenizer, repaired), "round ", round, " text ", i);
      for (const uint32_t id : ids) CHECK(id < tokenizer.id_count());
    }
  }
}

TEST("a batch gives the same ids for any number of threads, however texts are cut") {
  auto random = random_source(3);
  for (int round = 0; round < 12; round++) {
    const auto tokenizer = std::make_shared<const Tokenizer>(small_spec(random, round % 2 == 1));
    std::vector<std::string> texts;
    for (int i = 0; i < 40; i++) texts.push_back(random_bytes(random, 2000));
    std::string large;
    while (large.size() < 500'000) large += random_bytes(random, 300) + " the cab ";
    texts.push_back(large);
    texts.push_back("");
    const std::vector<std::string_view> views(texts.begin(), texts.end());
    for (const int threads : {1, 3}) {
      BatchEncoder batch(tokenizer, threads);
      const EncodedBatch encoded = batch.encode(views, [] {});
      CHECK(encoded.offsets.size() == texts.size() + 1);
      for (size_t i = 0; i < texts.size(); i++)
        CHECK(ids_of(encoded, i) == encode(*tokenizer, texts[i]), "round ", round, " text ", i, " threads ", threads);
    }
  }
}

TEST("a batch can be stopped, and the encoder goes on afterwards") {
  auto random = random_source(4);
  const auto tokenizer = std::make_shared<const Tokenizer>(small_spec(random, false));
  BatchEncoder batch(tokenizer, 2);
  const std::string text(1 << 20, 'a');
  const std::vector<std::string_view> texts(20, text);
  bool stopped = false;
  try {
    batch.encode(texts, [] { thalweg::fail("CANCELLED", "stop"); });
  } catch (const thalweg::Error& e) {
    stopped = e.code() == "CANCELLED";
  }
  CHECK(stopped);
  CHECK(ids_of(batch.encode({text}, [] {}), 0) == encode(*tokenizer, text));
}

TEST("words that fill the cache many times over keep their ids") {
  auto random = random_source(5);
  const Tokenizer tokenizer(small_spec(random, false));
  Encoder kept(tokenizer);
  std::vector<std::string> words;
  for (int i = 0; i < 200'000; i++) {
    std::string word = " ";
    for (size_t n = 1 + below(random, 40); n > 0; n--) word.push_back("abcehtz"[below(random, 7)]);
    words.push_back(word);
  }
  for (int pass = 0; pass < 2; pass++)
    for (size_t i = 0; i < words.size(); i++) {
      IdBuffer out;
      kept.encode(words[i], false, out);
      if (i % 1000 == 0)
        CHECK(std::vector<uint32_t>(out.data(), out.data() + out.size()) == encode(tokenizer, words[i]), words[i]);
    }
}

TEST("tables that contradict each other are refused, never played") {
  auto random = random_source(6);
  int refused = 0;
  for (int round = 0; round < 4000; round++) {
    TokenizerSpec spec = small_spec(random, round % 2 == 1);
    const auto any = [&] { return static_cast<uint32_t>(below(random, 2) == 0 ? random() : below(random, 400)); };
    for (size_t n = below(random, 3); n > 0; n--) switch (below(random, 7)) {
        case 0:
          spec.bytes[below(random, 256)] = any();
          break;
        case 1:
          spec.merges.push_back({any(), any(), any()});
          break;
        case 2:
          spec.tokens.resize(1 + below(random, 300));
          break;
        case 3:
          spec.tokens[below(random, spec.tokens.size())] = random_bytes(random, 20);
          break;
        case 4:
          spec.added.push_back({random_bytes(random, 10), any(), false, false, false, false});
          break;
        case 5:
          spec.whole_words = true;
          break;
        case 6:
          spec.ranks = true;
          break;
      }
    try {
      const Tokenizer tokenizer(std::move(spec));
      for (int i = 0; i < 5; i++)
        for (const uint32_t id : encode(tokenizer, random_bytes(random, 100))) CHECK(id < tokenizer.id_count());
    } catch (const thalweg::Error& e) {
      CHECK(e.code() == "BAD_INPUT", e.code(), " ", e.what());
      refused++;
    }
  }
  CHECK(refused > 1000, refused);
}

TEST("NFC composes, orders marks and leaves what is composed") {
  const auto nfc = [](std::string_view text) {
    std::string out;
    Nfc::get().normalize(text, out);
    return out;
  };
  CHECK(nfc("e\xcc\x81") == "\xc3\xa9");
  CHECK(nfc("a\xcc\x81\xcc\xa3") == "\xe1\xba\xa1\xcc\x81");             // the lower mark first
  CHECK(nfc("\xe1\x84\x80\xe1\x85\xa1\xe1\x86\xa8") == "\xea\xb0\x81");  // Hangul
  CHECK(nfc("\xe2\x84\xab") == "\xc3\x85");                              // Angstrom sign
  CHECK(nfc("\xe0\xa5\x98") == "\xe0\xa4\x95\xe0\xa4\xbc");              // never composed
  CHECK(nfc("x\xcc\xa3 \xcc\x81") == "x\xcc\xa3 \xcc\x81");
  auto random = random_source(7);
  for (int i = 0; i < 5000; i++) {
    std::string text;
    repair_utf8(random_bytes(random, 200), text);
    const std::string once = nfc(text);
    CHECK(nfc(once) == once, "normalizing twice changes something");
    if (Nfc::get().is_plain(text)) CHECK(once == text, "a text said to be plain changes");
  }
}

TEST_MAIN()
