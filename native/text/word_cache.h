#pragma once
#include <algorithm>
#include <cstdint>
#include <cstring>
#include <string_view>
#include <vector>

namespace thalweg::text {

/** The ids of a word. */
struct Ids {
  const uint32_t* data = nullptr;
  uint32_t count = 0;
};

/**
 * Words already encoded, each thread its own. Words of up to 15 bytes lie in slots of half a cache line, four to a
 * group, the newest in front; longer ones (up to 64 bytes) are found by hash and compared. Bounded: a new word takes
 * the place of an old one, and when the store of long lists is full everything is forgotten.
 */
class WordCache {
 public:
  static constexpr size_t kInline = 15;
  static constexpr size_t kLongest = 64;

  /** A word of up to kInline bytes as two numbers: the bytes, zeros, and the length in the last byte. */
  struct Key {
    uint64_t low, high;
  };
  /** `readable`: where reading must stop, at or behind the word's end. */
  static Key key_of(const uint8_t* word, size_t bytes, const uint8_t* readable) {
    uint64_t part[2] = {0, 0};
    if (word + 16 <= readable) {
      std::memcpy(part, word, 16);
      part[0] &= kMask[bytes < 8 ? bytes : 8];
      part[1] &= kMask[bytes < 8 ? 0 : bytes - 8];
    } else {
      std::memcpy(part, word, bytes);
    }
    return {part[0], part[1] | uint64_t{bytes} << 56};
  }

  /** The group where a word would lie. Asking for many words ahead hides the memory's delay. */
  size_t place(Key key) const {
    uint64_t x = (key.low ^ key.high >> 29) * 0x9e3779b97f4a7c15u;
    x = (x ^ key.high) * 0xd6e8feb86659fd93u;
    return x >> 47 & (kSlots - kGroup);
  }
  void prefetch(size_t place) const {
    __builtin_prefetch(&slots_[place]);
    __builtin_prefetch(&slots_[place + 2]);
  }

  /** Null data: not known. */
  Ids find(Key key, size_t at) const {
    for (size_t i = 0; i < kGroup; i++) {
      const Slot& slot = slots_[at + i];
      if (slot.key.low == key.low && slot.key.high == key.high)
        return {slot.count <= kHere ? slot.ids : &store_[slot.ids[0]], slot.count};
    }
    return {};
  }
  void add(Key key, size_t at, Ids ids) {
    Slot slot{key, ids.count, {}};
    if (ids.count <= kHere)
      std::memcpy(slot.ids, ids.data, ids.count * sizeof(uint32_t));
    else
      slot.ids[0] = keep(ids.data, ids.count);
    std::copy_backward(&slots_[at], &slots_[at + kGroup - 1], &slots_[at + kGroup]);
    slots_[at] = slot;
  }

  Ids find_long(std::string_view word) const;
  void add_long(std::string_view word, Ids ids);

 private:
  static constexpr uint32_t kHere = 3;
  static constexpr size_t kGroup = 4, kSlots = 1 << 17, kLongSlots = 1 << 13, kStore = 1 << 20;
  static constexpr uint64_t kMask[9] = {
      0, 0xff, 0xffff, 0xffffff, 0xffffffff, 0xffffffffff, 0xffffffffffff, 0xffffffffffffff, ~uint64_t{0}};
  struct alignas(32) Slot {
    Key key{0, 0};
    uint32_t count = 0;
    uint32_t ids[kHere] = {};
  };
  struct LongSlot {
    uint64_t hash = 0;
    uint32_t bytes = 0, count = 0;
    uint32_t at = 0;  // in store_: the ids, then the bytes
  };

  static uint64_t hash(std::string_view word);
  uint32_t keep(const uint32_t* numbers, size_t count);

  std::vector<Slot> slots_ = std::vector<Slot>(kSlots);
  std::vector<LongSlot> long_slots_ = std::vector<LongSlot>(kLongSlots);
  std::vector<uint32_t> store_;
};

}  // namespace thalweg::text
