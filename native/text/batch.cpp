#include "native/text/batch.h"

#include <algorithm>
#include <cstring>

#include "native/base/error.h"

namespace thalweg::text {

namespace {
/** About so many bytes are encoded at a time. */
constexpr size_t kTile = 1 << 16;
}  // namespace

BatchEncoder::BatchEncoder(std::shared_ptr<const Tokenizer> tokenizer, int threads)
    : tokenizer_(std::move(tokenizer)), pool_(threads > 0 ? threads : available_cpus()) {
  for (int i = 0; i < pool_.threads(); i++) encoders_.push_back(std::make_unique<Encoder>(*tokenizer_));
}

std::vector<BatchEncoder::Tile> BatchEncoder::cut(const std::vector<std::string_view>& texts) const {
  std::vector<Tile> tiles;
  size_t first = 0, bytes = 0;
  const auto close = [&](size_t last) {
    if (first < last) tiles.push_back({first, last, 0, texts[last - 1].size(), {}, {}});
    first = last;
    bytes = 0;
  };
  for (size_t i = 0; i < texts.size(); i++) {
    const size_t size = texts[i].size();
    if (size <= 2 * kTile) {
      bytes += size + 64;
      if (bytes >= kTile) close(i + 1);
      continue;
    }
    close(i);
    for (size_t begin = 0; begin < size;) {
      const size_t end = size - begin <= 2 * kTile ? size : tokenizer_->cut_after(texts[i], begin + kTile);
      tiles.push_back({i, i + 1, begin, end, {}, {}});
      begin = end;
    }
    first = i + 1;
  }
  close(texts.size());
  return tiles;
}

void BatchEncoder::encode_tile(const std::vector<std::string_view>& texts, Tile& tile, Encoder& encoder) const {
  size_t before = 0;
  for (size_t i = tile.first; i < tile.last; i++) {
    const size_t begin = i == tile.first ? tile.begin : 0;
    const size_t end = i + 1 == tile.last ? tile.end : texts[i].size();
    encoder.encode(texts[i].substr(begin, end - begin), begin > 0, tile.ids);
    tile.counts.push_back(static_cast<uint32_t>(tile.ids.size() - before));
    before = tile.ids.size();
  }
}

EncodedBatch BatchEncoder::encode(const std::vector<std::string_view>& texts, const std::function<void()>& poll) {
  std::vector<Tile> tiles = cut(texts);
  pool_.run(static_cast<int64_t>(tiles.size()), [&](int64_t tile, int worker) {
    poll();
    encode_tile(texts, tiles[static_cast<size_t>(tile)], *encoders_[static_cast<size_t>(worker)]);
  });

  EncodedBatch batch;
  std::vector<uint64_t> starts;
  uint64_t total = 0;
  std::vector<uint64_t> counts(texts.size(), 0);
  for (const Tile& tile : tiles) {
    starts.push_back(total);
    total += tile.ids.size();
    for (size_t i = tile.first; i < tile.last; i++) counts[i] += tile.counts[i - tile.first];
  }
  if (total > ~uint32_t{0}) fail("BAD_INPUT", "a batch of ", total, " ids is too large; encode fewer texts at a time");
  batch.offsets.assign(1, 0);
  for (const uint64_t count : counts) batch.offsets.push_back(batch.offsets.back() + static_cast<uint32_t>(count));

  batch.id_bytes = tokenizer_->id_count() <= 65536 ? 2 : 4;
  batch.ids.reset(new std::byte[std::max<size_t>(batch.bytes(), 1)]);
  pool_.run(static_cast<int64_t>(tiles.size()), [&](int64_t index, int) {
    const auto i = static_cast<size_t>(index);
    const IdBuffer& ids = tiles[i].ids;
    std::byte* to = batch.ids.get() + starts[i] * batch.id_bytes;
    if (batch.id_bytes == 4) {
      if (ids.size() > 0) std::memcpy(to, ids.data(), ids.size() * 4);
      return;
    }
    auto* narrow = reinterpret_cast<uint16_t*>(to);
    for (size_t k = 0; k < ids.size(); k++) narrow[k] = static_cast<uint16_t>(ids.data()[k]);
  });
  return batch;
}

}  // namespace thalweg::text
