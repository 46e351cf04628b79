#include "native/cuda/weight_copies.h"

#include <algorithm>

namespace thalweg::cuda {

namespace {

bool overlaps(const WeightTable::Weight& weight, const void* from, size_t bytes) {
  const auto start = reinterpret_cast<uintptr_t>(weight.master), at = reinterpret_cast<uintptr_t>(from);
  return at < start + static_cast<size_t>(weight.n) * sizeof(float) && start < at + bytes;
}

}  // namespace

void WeightTable::add(const std::vector<Weight>& weights) {
  size_t bytes = bytes_of_entries();
  for (const auto& weight : weights) {
    if (std::any_of(entries_.begin(), entries_.end(), [&](const Entry& e) { return e.weight == weight; })) continue;
    entries_.push_back({weight, bytes, true});
    bytes += copy_bytes(weight.n);
  }
  make_room();
}

void WeightTable::keep(size_t count) {
  entries_.resize(std::min(count, entries_.size()));
  make_room();
}

size_t WeightTable::bytes_of_entries() const {
  return entries_.empty() ? 0 : entries_.back().offset + copy_bytes(entries_.back().weight.n);
}

void WeightTable::make_room() {
  const size_t bytes = bytes_of_entries();
  if (memory_.bytes() == bytes) return;
  memory_ = DeviceMemory();  // derived data: free first, so the peak is the larger of the two
  memory_ = DeviceMemory(bytes, "bf16 copies of the weights");
  for (auto& entry : entries_) entry.stale = true;
}

void* WeightTable::find(const void* master) const {
  for (const auto& entry : entries_)
    if (entry.weight.master == master) return memory_.data() + entry.offset;
  return nullptr;
}

void WeightTable::touch(const void* from, size_t bytes) {
  for (auto& entry : entries_) entry.stale = entry.stale || overlaps(entry.weight, from, bytes);
}

void WeightTable::refresh(Context& ctx) {
  for (auto& entry : entries_) {
    if (entry.stale) round_weights(entry.weight.master, memory_.data() + entry.offset, entry.weight.n, ctx);
    entry.stale = false;
  }
}

void WeightTable::round(const void* from, size_t bytes, Context& ctx) const {
  for (const auto& entry : entries_)
    if (overlaps(entry.weight, from, bytes))
      round_weights(entry.weight.master, memory_.data() + entry.offset, entry.weight.n, ctx);
}

}  // namespace thalweg::cuda
