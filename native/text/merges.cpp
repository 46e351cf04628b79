#include "native/text/merges.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <functional>

namespace thalweg::text {

namespace {

constexpr size_t kShort = 48;

size_t capacity_for(size_t entries) { return std::bit_ceil(std::max<size_t>(16, 2 * entries)); }

uint64_t mix(uint64_t x) {
  x *= 0x9e3779b97f4a7c15u;
  return x ^ x >> 32;
}

uint64_t hash_bytes(std::string_view s) {
  uint64_t h = s.size();
  while (s.size() >= 8) {
    uint64_t eight;
    std::memcpy(&eight, s.data(), 8);
    h = mix(h ^ eight);
    s.remove_prefix(8);
  }
  uint64_t rest = 0;
  std::memcpy(&rest, s.data(), s.size());
  return mix(h ^ rest);
}

}  // namespace

MergeTable::MergeTable(const std::vector<Merge>& merges) {
  reserve(merges.size());
  for (size_t rank = 0; rank < merges.size(); rank++)
    set(merges[rank][0], merges[rank][1], {static_cast<uint32_t>(rank), merges[rank][2]});
}

void MergeTable::reserve(size_t merges) {
  while (slots_.size() < capacity_for(merges)) grow();
}

inline size_t MergeTable::slot_of(uint32_t left, uint32_t right) const {
  return mix(uint64_t{left} << 32 | right) & (slots_.size() - 1);
}

void MergeTable::set(uint32_t left, uint32_t right, Found found) {
  if (2 * (used_ + 1) > slots_.size()) grow();
  size_t at = slot_of(left, right);
  while (slots_[at].found.rank != kNone && (slots_[at].left != left || slots_[at].right != right))
    at = (at + 1) & (slots_.size() - 1);
  if (slots_[at].found.rank == kNone) used_++;
  slots_[at] = {left, right, found};
}

inline MergeTable::Found MergeTable::find(uint32_t left, uint32_t right) const {
  for (size_t at = slot_of(left, right);; at = (at + 1) & (slots_.size() - 1)) {
    const Slot& slot = slots_[at];
    if (slot.found.rank == kNone) return {};
    if (slot.left == left && slot.right == right) return slot.found;
  }
}

void MergeTable::grow() {
  std::vector<Slot> old(2 * slots_.size());
  old.swap(slots_);
  used_ = 0;
  for (const Slot& slot : old)
    if (slot.found.rank != kNone) set(slot.left, slot.right, slot.found);
}

void MergeTable::merge(std::vector<uint32_t>& ids, Scratch& scratch, uint32_t limit) const {
  if (ids.size() < 2) return;
  if (ids.size() <= kShort)
    merge_short(ids, limit);
  else
    merge_long(ids, scratch, limit);
}

void MergeTable::merge_short(std::vector<uint32_t>& ids, uint32_t limit) const {
  std::array<Found, kShort> pairs;
  size_t n = ids.size();
  for (size_t i = 0; i + 1 < n; i++) pairs[i] = find(ids[i], ids[i + 1]);
  for (;;) {
    size_t best = 0;
    uint32_t rank = limit;
    for (size_t i = 0; i + 1 < n; i++)
      if (pairs[i].rank < rank) {
        rank = pairs[i].rank;
        best = i;
      }
    if (rank == limit) break;
    ids[best] = pairs[best].id;
    for (size_t i = best + 1; i + 1 < n; i++) {
      ids[i] = ids[i + 1];
      pairs[i - 1] = pairs[i];
    }
    n--;
    if (best > 0) pairs[best - 1] = find(ids[best - 1], ids[best]);
    if (best + 1 < n) pairs[best] = find(ids[best], ids[best + 1]);
  }
  ids.resize(n);
}

/** A heap of (rank, place) over a linked list of symbols; entries whose pair has changed meanwhile are passed over. */
void MergeTable::merge_long(std::vector<uint32_t>& ids, Scratch& s, uint32_t limit) const {
  const uint32_t n = static_cast<uint32_t>(ids.size());
  s.heap.clear();
  s.next.resize(n);
  s.previous.resize(n);
  for (uint32_t i = 0; i < n; i++) {
    s.next[i] = i + 1;
    s.previous[i] = i - 1;  // of the first: kNone
  }
  const auto pair_at = [&](uint32_t i) { return s.next[i] < n ? find(ids[i], ids[s.next[i]]) : Found{}; };
  const auto offer = [&](uint32_t i) {
    const Found found = pair_at(i);
    if (found.rank >= limit) return false;
    s.heap.push_back(uint64_t{found.rank} << 32 | i);
    return true;
  };
  const auto push = [&](uint32_t i) {
    if (offer(i)) std::push_heap(s.heap.begin(), s.heap.end(), std::greater<>());
  };
  for (uint32_t i = 0; i + 1 < n; i++) offer(i);
  std::make_heap(s.heap.begin(), s.heap.end(), std::greater<>());
  while (!s.heap.empty()) {
    std::pop_heap(s.heap.begin(), s.heap.end(), std::greater<>());
    const uint64_t top = s.heap.back();
    s.heap.pop_back();
    const uint32_t i = static_cast<uint32_t>(top);
    if (ids[i] == kNone) continue;
    const Found found = pair_at(i);
    if (found.rank != top >> 32) continue;
    const uint32_t gone = s.next[i];
    ids[i] = found.id;
    ids[gone] = kNone;
    s.next[i] = s.next[gone];
    if (s.next[i] < n) s.previous[s.next[i]] = i;
    push(i);
    if (s.previous[i] != kNone) push(s.previous[i]);
  }
  std::erase(ids, kNone);
}

TokenMap::TokenMap(const std::vector<std::string>& tokens)
    : tokens_(tokens), slots_(capacity_for(tokens.size()), MergeTable::kNone) {
  for (size_t id = 0; id < tokens.size(); id++) {
    if (tokens[id].empty()) continue;
    size_t at = hash_bytes(tokens[id]) & (slots_.size() - 1);
    while (slots_[at] != MergeTable::kNone && tokens_[slots_[at]] != tokens[id]) at = (at + 1) & (slots_.size() - 1);
    if (slots_[at] == MergeTable::kNone) slots_[at] = static_cast<uint32_t>(id);
  }
}

uint32_t TokenMap::find(std::string_view token) const {
  for (size_t at = hash_bytes(token) & (slots_.size() - 1);; at = (at + 1) & (slots_.size() - 1)) {
    const uint32_t id = slots_[at];
    if (id == MergeTable::kNone || tokens_[id] == token) return id;
  }
}

std::vector<Merge> recover_merges(const std::vector<std::string>& tokens, const TokenMap& map) {
  MergeTable pairs;
  pairs.reserve(3 * tokens.size());
  for (size_t id = 0; id < tokens.size(); id++) {
    const std::string_view token = tokens[id];
    for (size_t cut = 1; cut < token.size(); cut++) {
      const uint32_t left = map.find(token.substr(0, cut));
      if (left == MergeTable::kNone) continue;
      const uint32_t right = map.find(token.substr(cut));
      const auto rank = static_cast<uint32_t>(id);
      if (right != MergeTable::kNone) pairs.set(left, right, {rank, rank});
    }
  }
  std::vector<Merge> merges;
  std::vector<uint32_t> parts;
  MergeTable::Scratch scratch;
  for (size_t id = 0; id < tokens.size(); id++) {
    if (tokens[id].size() < 2) continue;
    parts.clear();
    for (const char byte : tokens[id]) parts.push_back(map.find(std::string_view(&byte, 1)));
    pairs.merge(parts, scratch, static_cast<uint32_t>(id));
    if (parts.size() == 2) merges.push_back({parts[0], parts[1], static_cast<uint32_t>(id)});
  }
  return merges;
}

}  // namespace thalweg::text
