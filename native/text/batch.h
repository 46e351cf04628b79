#pragma once
#include <cstdint>
#include <functional>
#include <memory>
#include <string_view>
#include <vector>

#include "native/base/thread_pool.h"
#include "native/text/encoder.h"

namespace thalweg::text {

/** The ids of several texts: text i is ids[offsets[i]] up to ids[offsets[i + 1]]. */
struct EncodedBatch {
  /** uint16 when every id of the tokenizer fits, otherwise uint32. */
  std::unique_ptr<std::byte[]> ids;
  size_t id_bytes = 2;
  std::vector<uint32_t> offsets;
  size_t bytes() const { return id_bytes * offsets.back(); }
};

/**
 * Encodes many texts on a team of threads. Work is cut by the texts alone (small ones together, large ones where
 * Tokenizer::cut_after allows), so the ids do not depend on the number of threads.
 */
class BatchEncoder {
 public:
  BatchEncoder(std::shared_ptr<const Tokenizer> tokenizer, int threads);
  /** `poll` is called between parts and may throw to stop. Not reentrant. */
  EncodedBatch encode(const std::vector<std::string_view>& texts, const std::function<void()>& poll);

 private:
  /** Texts [first, last), or when `last` is first + 1 the bytes [begin, end) of one. */
  struct Tile {
    size_t first, last, begin, end;
    IdBuffer ids;
    std::vector<uint32_t> counts;
  };
  std::vector<Tile> cut(const std::vector<std::string_view>& texts) const;
  void encode_tile(const std::vector<std::string_view>& texts, Tile& tile, Encoder& encoder) const;

  std::shared_ptr<const Tokenizer> tokenizer_;
  ThreadPool pool_;
  std::vector<std::unique_ptr<Encoder>> encoders_;
};

}  // namespace thalweg::text
