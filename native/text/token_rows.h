#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

namespace thalweg::text {

/** Tokens of an open file, and where they go among rows of `length` + 1 tokens laid one after the other. */
struct TokenRun {
  int file;         // descriptor
  uint64_t offset;  // bytes
  uint32_t count;   // tokens
  uint32_t width;   // bytes of a token: 2 or 4, unsigned, little-endian
  uint64_t at;      // tokens before them in the rows
};

/**
 * Reads runs into sequences and their targets, both [rows, length]: of the length + 1 tokens of a row the first
 * `length` are the sequence, the last `length` the targets. Returns how many runs were read: fewer than all when a file
 * ended or could not be read. Every run must lie within the rows.
 */
size_t read_token_rows(const std::vector<TokenRun>& runs, size_t length, int32_t* tokens, int32_t* targets);

/** Tokens of an open shard among rows of `length` tokens, and its document index: where each document ends, in tokens
 * from the shard's start, u64. Documents are never cut between shards. */
struct DocumentRun {
  int file;            // descriptor
  uint64_t index;      // byte offset of the document index
  uint64_t documents;  // ends in it
  uint64_t first;      // tokens of the shard before these
  uint64_t count;      // tokens, of one row
  uint64_t at;         // tokens before them in the rows
};

struct PlacedStarts {
  size_t runs = 0;       // that were read: fewer than all when an index could not be, is out of order or ends too early
  uint64_t squares = 0;  // of the lengths of the pieces of documents in the rows, summed: what attention in them costs
};

/**
 * For each token of rows [rows, length] the position in its row where its document begins, 0 where that was before the
 * row. Finds its place in an index by binary search, so nothing of it is kept.
 */
PlacedStarts read_document_starts(const std::vector<DocumentRun>& runs, size_t length, int32_t* starts);

}  // namespace thalweg::text
