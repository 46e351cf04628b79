#include "native/text/token_rows.h"

#include <unistd.h>

#include <cstdio>
#include <memory>

#include "test/native/check.h"

using namespace thalweg::text;

namespace {

struct TemporaryFile {
  std::FILE* file = std::tmpfile();
  ~TemporaryFile() { std::fclose(file); }
  int descriptor() const { return fileno(file); }
  void write(const void* bytes, size_t count) {
    CHECK(std::fwrite(bytes, 1, count, file) == count);
    std::fflush(file);
  }
};

TEST("rows are the tokens of the runs and those one further") {
  std::mt19937_64 random(check::seed());
  const size_t total = 40000;
  std::vector<uint32_t> values(total);
  for (uint32_t& v : values) v = static_cast<uint32_t>(random() % 60000);
  const std::vector<uint16_t> narrow(values.begin(), values.end());
  TemporaryFile wide, slim;
  wide.write(values.data(), total * 4);
  slim.write(narrow.data(), total * 2);
  for (int round = 0; round < 200; round++) {
    const size_t length = 1 + random() % (round % 10 == 0 ? 9000 : 60), rows = 1 + random() % 4;
    std::vector<TokenRun> runs;
    std::vector<int32_t> expected;
    for (size_t row = 0; row < rows; row++) {
      const size_t start = random() % (total - length);
      // A row in one to three runs, as it lies across shards.
      for (size_t done = 0; done < length + 1;) {
        const size_t count = runs.size() % 3 == 2 ? length + 1 - done : 1 + random() % (length + 1 - done);
        const bool four = random() % 2;
        runs.push_back({four ? wide.descriptor() : slim.descriptor(), (start + done) * (four ? 4 : 2),
                        static_cast<uint32_t>(count), four ? 4u : 2u, row * (length + 1) + done});
        done += count;
      }
      for (size_t i = 0; i <= length; i++) expected.push_back(static_cast<int32_t>(values[start + i]));
    }
    const std::unique_ptr<int32_t[]> tokens(new int32_t[rows * length]), targets(new int32_t[rows * length]);
    CHECK(read_token_rows(runs, length, tokens.get(), targets.get()) == runs.size());
    for (size_t row = 0; row < rows; row++)
      for (size_t i = 0; i < length; i++) {
        CHECK(tokens[row * length + i] == expected[row * (length + 1) + i]);
        CHECK(targets[row * length + i] == expected[row * (length + 1) + i + 1]);
      }
  }
}

TEST("a file that ends too early is told by its run") {
  TemporaryFile file;
  const std::vector<uint16_t> values(10, 7);
  file.write(values.data(), 20);
  std::vector<int32_t> tokens(8), targets(8);
  const auto run = [&](uint64_t offset, uint64_t at) { return TokenRun{file.descriptor(), offset, 5, 2, at}; };
  CHECK(read_token_rows({run(0, 0), run(10, 5)}, 4, tokens.data(), targets.data()) == 2);
  CHECK(read_token_rows({run(0, 0), run(12, 5)}, 4, tokens.data(), targets.data()) == 1);
  CHECK(read_token_rows({{-1, 0, 5, 2, 0}}, 4, tokens.data(), targets.data()) == 0);
}

}  // namespace

TEST_MAIN()
