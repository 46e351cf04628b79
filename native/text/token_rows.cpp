#include "native/text/token_rows.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace thalweg::text {

namespace {

/** Tokens read at once: their bytes stay in the first-level cache. */
constexpr size_t kPart = 4096;

bool read_exactly(int file, std::byte* to, size_t bytes, uint64_t offset) {
  while (bytes > 0) {
    const ssize_t got = pread(file, to, bytes, static_cast<off_t>(offset));
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return false;
    to += got;
    bytes -= static_cast<size_t>(got);
    offset += static_cast<uint64_t>(got);
  }
  return true;
}

template <class T>
void widen(const std::byte* from, size_t count, int32_t* to) {
  for (size_t i = 0; i < count; i++) {
    T token;
    std::memcpy(&token, from + i * sizeof(T), sizeof(T));
    to[i] = static_cast<int32_t>(token);
  }
}

/** Tokens [at, at + count) of the rows. */
void place(const int32_t* from, uint64_t at, size_t count, size_t length, int32_t* tokens, int32_t* targets) {
  while (count > 0) {
    const size_t row = at / (length + 1), column = at % (length + 1);
    const size_t here = std::min(count, length + 1 - column);
    const size_t inputs = std::min(here, length - std::min(column, length));
    std::copy_n(from, inputs, tokens + row * length + column);
    const size_t skip = column == 0 ? 1 : 0;
    std::copy_n(from + skip, here - skip, targets + row * length + column + skip - 1);
    from += here;
    at += here;
    count -= here;
  }
}

/** Ends of documents read at once. */
constexpr uint64_t kEnds = 512;

bool place_starts(const DocumentRun& run, size_t length, int32_t* starts, uint64_t& squares) {
  uint64_t ends[kEnds];
  const auto read_ends = [&](uint64_t document, uint64_t count) {
    return read_exactly(run.file, reinterpret_cast<std::byte*>(ends), count * sizeof(uint64_t),
                        run.index + document * sizeof(uint64_t));
  };
  uint64_t low = 0, high = run.documents;  // the first document that ends after `first` is one of these
  while (high - low > kEnds) {
    const uint64_t middle = low + (high - low) / 2;
    if (!read_ends(middle, 1)) return false;
    if (ends[0] > run.first)
      high = middle + 1;
    else
      low = middle + 1;
  }
  const uint64_t row_position = run.at % length, from = low > 0 ? low - 1 : 0;
  uint64_t begin = 0, done = 0;  // begin of the next document; tokens placed
  for (uint64_t document = from; done < run.count; document++) {
    if (document >= run.documents) return false;
    const uint64_t in_page = (document - from) % kEnds;
    if (in_page == 0 && !read_ends(document, std::min(kEnds, run.documents - document))) return false;
    const uint64_t end = ends[in_page];
    if (end < begin || (document < low && end > run.first)) return false;
    if (end > run.first) {
      const uint64_t stop = std::min(end - run.first, run.count);
      const uint64_t start = row_position + std::max(begin, run.first) - run.first;
      std::fill(starts + run.at + done, starts + run.at + stop, static_cast<int32_t>(start));
      squares += (stop - done) * (stop - done);
      done = stop;
    }
    begin = end;
  }
  return true;
}

}  // namespace

PlacedStarts read_document_starts(const std::vector<DocumentRun>& runs, size_t length, int32_t* starts) {
  PlacedStarts placed;
  for (const DocumentRun& run : runs) {
    if (!place_starts(run, length, starts, placed.squares)) break;
    placed.runs++;
  }
  return placed;
}

size_t read_token_rows(const std::vector<TokenRun>& runs, size_t length, int32_t* tokens, int32_t* targets) {
  std::byte bytes[kPart * 4];
  int32_t wide[kPart];
  for (size_t r = 0; r < runs.size(); r++) {
    const TokenRun& run = runs[r];
    for (size_t done = 0; done < run.count;) {
      const size_t count = std::min<size_t>(run.count - done, kPart);
      if (!read_exactly(run.file, bytes, count * run.width, run.offset + done * run.width)) return r;
      run.width == 2 ? widen<uint16_t>(bytes, count, wide) : widen<uint32_t>(bytes, count, wide);
      place(wide, run.at + done, count, length, tokens, targets);
      done += count;
    }
  }
  return runs.size();
}

}  // namespace thalweg::text
