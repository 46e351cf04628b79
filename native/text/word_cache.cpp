#include "native/text/word_cache.h"

#include <algorithm>

namespace thalweg::text {

uint64_t WordCache::hash(std::string_view word) {
  uint64_t h = word.size();
  for (size_t i = 0; i < word.size(); i += 8) {
    uint64_t eight = 0;
    std::memcpy(&eight, word.data() + i, std::min<size_t>(8, word.size() - i));
    h = (h ^ eight) * 0x9e3779b97f4a7c15u;
    h ^= h >> 29;
  }
  return h * 0xd6e8feb86659fd93u;
}

Ids WordCache::find_long(std::string_view word) const {
  const uint64_t h = hash(word);
  const LongSlot& slot = long_slots_[h >> 40 & (kLongSlots - 1)];
  if (slot.hash != h || slot.bytes != word.size()) return {};
  const uint32_t* ids = &store_[slot.at];
  if (std::memcmp(ids + slot.count, word.data(), word.size()) != 0) return {};
  return {ids, slot.count};
}

void WordCache::add_long(std::string_view word, Ids ids) {
  const uint64_t h = hash(word);
  uint32_t numbers[2 * kLongest] = {};
  std::memcpy(numbers, ids.data, ids.count * sizeof(uint32_t));
  std::memcpy(numbers + ids.count, word.data(), word.size());
  const uint32_t at = keep(numbers, ids.count + (word.size() + 3) / 4);
  long_slots_[h >> 40 & (kLongSlots - 1)] = {h, static_cast<uint32_t>(word.size()), ids.count, at};
}

uint32_t WordCache::keep(const uint32_t* numbers, size_t count) {
  if (store_.size() + count > kStore) {
    std::fill(slots_.begin(), slots_.end(), Slot{});
    std::fill(long_slots_.begin(), long_slots_.end(), LongSlot{});
    store_.clear();
  }
  if (store_.empty()) store_.reserve(kStore);
  const size_t at = store_.size();
  store_.insert(store_.end(), numbers, numbers + count);
  return static_cast<uint32_t>(at);
}

}  // namespace thalweg::text
