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

}  // namespace thalweg::text
