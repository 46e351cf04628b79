#include "native/cpu/packed.h"

#include <algorithm>

namespace thalweg::cpu {

namespace {
constexpr size_t kAlign = 64;
size_t round_up(size_t n) { return (n + kAlign - 1) / kAlign * kAlign; }
int64_t blocks(const PackRequest& r) { return (r.n + kPackRows - 1) / kPackRows; }
}  // namespace

void PackedWeights::add(const std::vector<PackRequest>& requests) {
  std::vector<std::pair<PackRequest, size_t>> fresh;  // with their place in a new arena
  size_t bytes = 0;
  for (const auto& r : requests) {
    const bool known = std::any_of(entries_.begin(), entries_.end(), [&](const Entry& e) { return e.request == r; }) ||
                       std::any_of(fresh.begin(), fresh.end(), [&](const auto& f) { return f.first == r; });
    const size_t size = known ? 0 : kernels_.packed_weight_bytes(r.n, r.k, r.act, r.orientation);
    if (size == 0) continue;
    fresh.emplace_back(r, bytes);
    bytes += round_up(size);
  }
  if (fresh.empty()) return;
  arenas_.emplace_back(bytes, "packed copies of the weights");
  bytes_ += bytes;
  for (const auto& [request, place] : fresh) {
    by_master_[request.master].push_back(entries_.size());
    entries_.push_back({request, {request.orientation, request.act, arenas_.back().data() + place}, true});
  }
  any_stale_ = true;
}

const void* PackedWeights::find(const void* master, Orientation orientation, DType act) const {
  const auto found = by_master_.find(master);
  if (found == by_master_.end()) return nullptr;
  for (const size_t i : found->second)
    if (entries_[i].packed.orientation == orientation && entries_[i].packed.act == act) return entries_[i].packed.data;
  return nullptr;
}

int PackedWeights::all(const void* master, Packed out[4]) const {
  const auto found = by_master_.find(master);
  if (found == by_master_.end()) return 0;
  int count = 0;
  for (const size_t i : found->second) out[count++] = entries_[i].packed;  // two orientations x two data types at most
  return count;
}

void PackedWeights::touch(const void* from, size_t bytes) {
  const auto begin = reinterpret_cast<uintptr_t>(from), end = begin + bytes;
  for (auto& e : entries_) {
    const auto master = reinterpret_cast<uintptr_t>(e.request.master);
    const auto master_end = master + static_cast<size_t>(e.request.n * e.request.k) * sizeof(float);
    if (begin < master_end && master < end) e.stale = any_stale_ = true;
  }
}

void PackedWeights::touch_all() {
  for (auto& e : entries_) e.stale = any_stale_ = true;
}

void PackedWeights::pack(ThreadPool& pool) {
  if (!any_stale_) return;
  std::vector<std::pair<int64_t, const Entry*>> stale;  // with the number of their first block
  int64_t total = 0;
  for (const auto& e : entries_) {
    if (!e.stale) continue;
    stale.emplace_back(total, &e);
    total += blocks(e.request);
  }
  pool.run(total, [&](int64_t tile, int) {
    const auto after =
        std::upper_bound(stale.begin(), stale.end(), tile, [](int64_t t, const auto& s) { return t < s.first; });
    const auto& [first, entry] = *(after - 1);
    const PackRequest& r = entry->request;
    const int64_t row = (tile - first) * kPackRows;
    kernels_.pack_weight_rows(r.master, r.n, r.k, row, std::min(kPackRows, r.n - row), entry->packed);
  });
  for (auto& e : entries_) e.stale = false;
  any_stale_ = false;
}

}  // namespace thalweg::cpu
