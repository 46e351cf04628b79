#include "native/text/json_lines.h"

#include <cstring>
#include <memory>
#include <string>

#include "native/text/utf8.h"
#include "test/native/check.h"

using namespace thalweg::text;

namespace {

/** Reads lines that lie in memory of exactly their size, so that a sanitizer sees every byte read or written beyond. */
JsonTexts read(const std::string& lines, std::string& texts, size_t longest = 1 << 20) {
  const std::unique_ptr<char[]> bytes(new char[lines.size()]), out(new char[lines.size()]);
  std::memcpy(bytes.get(), lines.data(), lines.size());
  JsonTexts found = json_texts({bytes.get(), lines.size()}, "text", longest, out.get());
  texts.assign(out.get(), found.offsets.back());
  return found;
}

/** A well-formed line or a torn, flipped, nested or random one. */
std::string random_line(std::mt19937_64& random) {
  const auto below = [&](size_t n) { return static_cast<size_t>(random() % n); };
  std::string line = R"({"id":[1,-2.5e3,{"a":null}],"text":"it\u2019s \ud83d\ude00 caf)"
                     "\xc3\xa9 \\\"quoted\\\" and so on\"}";
  switch (below(6)) {
    case 0:
      return line.substr(0, below(line.size()));
    case 1:
      for (size_t n = 1 + below(4); n > 0; n--) line[below(line.size())] ^= static_cast<char>(1 << below(8));
      return line;
    case 2:
      return std::string(1 + below(5000), "[{\"\\"[below(4)]);
    case 3:
      return "{\"text\":\"" + std::string(below(300), "a\\\xe2\""[below(4)]) + "\\u" + line.substr(below(line.size()));
    case 4: {
      std::string any(below(40), ' ');
      for (char& c : any) c = static_cast<char>(random());
      return any;
    }
    default:
      return line;
  }
}

TEST("malformed lines are read within their bytes") {
  std::mt19937_64 random(check::seed());
  int texts_read = 0;
  for (int block = 0; block < 2000; block++) {
    std::string lines, texts;
    for (int i = 0; i < 6; i++) lines += random_line(random) + (i < 5 || random() % 2 ? "\n" : "");
    const JsonTexts found = read(lines, texts);
    CHECK(found.ends.size() == found.kinds.size() && found.offsets.size() == found.kinds.size() + 1);
    CHECK(found.ends.back() == lines.size());
    CHECK(well_formed_prefix(texts) == texts.size());
    for (const LineKind kind : found.kinds) texts_read += kind == LineKind::Text;
  }
  CHECK(texts_read > 1000);
}

TEST("the text of a line is unescaped") {
  std::string texts;
  const JsonTexts found = read(
      "\xef\xbb\xbf{\"text\":\"a\\n\\u00e9\\ud83d\\ude00\\ud800x\"}\r\n{\"text\":\" "
      "\\u00a0\"}\n{\"text\":\"1\",\"text\":\"two\"}",
      texts);
  CHECK(found.kinds[0] == LineKind::Text && found.kinds[1] == LineKind::Blank && found.kinds[2] == LineKind::Text);
  CHECK(texts == "a\n\xc3\xa9\xf0\x9f\x98\x80\xef\xbf\xbdxtwo");
}

}  // namespace

TEST_MAIN()
