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

TEST("documents begin where a walk over their ends says, in any index and from any token") {
  std::mt19937_64 random(check::seed());
  for (int round = 0; round < 60; round++) {
    // Some rounds with more ends than are read at once, on both sides of the row.
    const size_t documents = 1 + random() % (round % 3 == 0 ? 4000 : 40), longest = 1 + random() % 30;
    std::vector<uint64_t> ends(3, 0);  // what lies before the index in the file
    std::vector<uint64_t> begins;      // of each token
    for (size_t d = 0; d < documents; d++) {
      const uint64_t begin = begins.size();
      begins.resize(begin + random() % (longest + 1), begin);
      ends.push_back(begins.size());
    }
    if (begins.empty()) continue;
    TemporaryFile file;
    file.write(ends.data(), ends.size() * 8);
    const size_t length = 1 + random() % std::min<size_t>(begins.size(), 3000), rows = 1 + random() % 3;
    std::vector<DocumentRun> runs;
    std::vector<int32_t> expected;
    for (size_t row = 0; row < rows; row++) {
      const size_t first = random() % (begins.size() - length + 1);
      // The rest of a row that began in another shard is the beginning of this one.
      const size_t before = random() % 2 ? random() % length : 0, from = before ? 0 : first;
      runs.push_back({file.descriptor(), 24, documents, from, length - before, row * length + before});
      expected.resize(row * length + before, -1);
      for (size_t i = 0; i < length - before; i++)
        expected.push_back(static_cast<int32_t>(before + std::max<uint64_t>(begins[from + i], from) - from));
    }
    std::vector<int32_t> starts(rows * length, -1);
    const auto placed = read_document_starts(runs, length, starts.data());
    CHECK(placed.runs == runs.size());
    CHECK(starts == expected, "round ", round);
    uint64_t squares = 0;  // a piece of n tokens: 1 + 3 + ... + (2 n - 1)
    for (size_t i = 0; i < starts.size(); i++)
      if (starts[i] >= 0) squares += 2 * (i % length - static_cast<size_t>(starts[i])) + 1;
    CHECK(placed.squares == squares, "round ", round, ": ", placed.squares, ", not ", squares);
  }
}

TEST("an index out of order, too short or unreadable is told by its run") {
  TemporaryFile file;
  const std::vector<uint64_t> ends = {10, 20, 15, 40};
  file.write(ends.data(), 32);
  std::vector<int32_t> starts(60, -1);
  const auto run = [&](uint64_t documents, uint64_t first, uint64_t count, uint64_t at) {
    return DocumentRun{file.descriptor(), 0, documents, first, count, at};
  };
  const auto runs_placed = [](const std::vector<DocumentRun>& runs, size_t length, int32_t* into) {
    return read_document_starts(runs, length, into).runs;
  };
  CHECK(runs_placed({run(2, 0, 20, 0)}, 20, starts.data()) == 1);
  CHECK(starts[9] == 0 && starts[10] == 10 && starts[19] == 10 && starts[20] == -1);
  CHECK(runs_placed({run(2, 0, 20, 0), run(4, 0, 20, 20), run(4, 12, 20, 40)}, 20, starts.data()) == 2);
  CHECK(runs_placed({run(2, 5, 16, 0)}, 20, starts.data()) == 0);
  CHECK(runs_placed({run(5, 35, 10, 0)}, 20, starts.data()) == 0);
  CHECK(runs_placed({{-1, 0, 2, 0, 20, 0}}, 20, starts.data()) == 0);
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
