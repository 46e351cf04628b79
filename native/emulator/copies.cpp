#include "native/emulator/copies.h"

#include <algorithm>

#include "native/emulator/copies_state.h"

namespace thalweg::emulator {

namespace {

template <class T>
T& pick(std::vector<T>& from, Copies::Random& random) {
  return from[static_cast<size_t>(random() % from.size())];
}

/** "Starting co-ordinates for Bounding Box must be non-negative" in the direction to global memory. */
void check_store_start(std::span<const int32_t> at, const char* what) {
  for (const int32_t c : at)
    if (c < 0) fault(what, " to a box that starts at coordinate ", c, ": stores need coordinates of 0 and up");
}

}  // namespace

Copies::Copies(std::vector<SharedMemory> blocks, CheckGlobal check, CopyTiming timing)
    : state_(std::make_unique<State>()) {
  state_->left.assign(blocks.size(), false);
  state_->blocks = std::move(blocks);
  state_->check = std::move(check);
  state_->timing = timing;
}
Copies::~Copies() = default;

Copies::Place Copies::place(Issuer who, uint32_t window, uint32_t bytes, uint32_t alignment, const char* what) const {
  return state_->place(who, window, bytes, alignment, what);
}

// ---- cp.async

void Copies::start(Issuer who, uint32_t destination, uint64_t source, uint32_t bytes, uint32_t source_bytes) {
  State& s = *state_;
  if (bytes != 4 && bytes != 8 && bytes != 16) fault("cp.async of ", bytes, " bytes, expected 4, 8 or 16");
  if (source_bytes > bytes) fault("cp.async with a source size of ", source_bytes, " of ", bytes, " bytes");
  if (destination >> 24 != 0) fault("cp.async to shared memory of another block");
  const Place at = place(who, destination, bytes, bytes, "cp.async");
  if (source % bytes != 0) fault("cp.async from an address that is no multiple of ", bytes);
  if (source_bytes > 0) s.check(source, source_bytes, false);
  if (ProxyState* p = s.proxies(who.rank)) p->begin_thread_copy(who.thread, at.offset, bytes);
  ThreadGroups& t = s.thread(who);
  const SmallCopy copy{t.small_committed, source, at.offset, bytes, source_bytes};
  if (s.timing == CopyTiming::AtOnce) {
    s.land(who, copy);
    return;
  }
  if (t.pending.empty()) s.with_small.push_back(State::key(who));
  t.pending.push_back(copy);
}

void Copies::commit(Issuer who) { state_->thread(who).small_committed++; }

void Copies::wait(Issuer who, uint32_t groups) {
  const uint64_t committed = state_->thread(who).small_committed;
  state_->land_groups(who, committed > groups ? committed - groups : 0);
}

// ---- bulk copies

void Copies::load(Issuer who, uint32_t destination, uint64_t source, uint32_t bytes, uint32_t mbarrier) {
  Bulk copy = state_->load_of(who, destination, bytes, 16, mbarrier, "cp.async.bulk");
  state_->plain_spans(copy, source);
  state_->start(std::move(copy));
}

void Copies::load_box(Issuer who, uint32_t destination, const void* map, std::span<const int32_t> at,
                      uint32_t mbarrier) {
  constexpr const char* kWhat = "cp.async.bulk.tensor";
  const TensorMap tensor = decode_tensor_map(map);
  Bulk copy = state_->load_of(who, destination, tensor.box_bytes(), 128, mbarrier, kWhat);
  state_->box_spans(copy, tensor, at);
  state_->start(std::move(copy));
}

void Copies::load_box(Issuer who, uint32_t destination, const void* map, std::span<const int32_t> at, uint32_t mbarrier,
                      uint16_t blocks) {
  constexpr const char* kWhat = "cp.async.bulk.tensor.multicast";
  const TensorMap tensor = decode_tensor_map(map);
  Bulk copy = state_->load_of(who, destination, tensor.box_bytes(), 128, mbarrier, kWhat);
  state_->box_spans(copy, tensor, at);
  const uint32_t offset = copy.targets[0].offset;
  copy.targets.clear();
  if (blocks == 0) fault(kWhat, " with an empty mask of blocks");
  for (uint32_t rank = 0; rank < 16; rank++)
    if (blocks >> rank & 1) {
      const uint32_t base = (rank + 1) << 24;
      place(who, base | copy.barrier, 8, 8, kWhat);
      copy.targets.push_back(place(who, base | offset, copy.bytes, 128, kWhat));
    }
  state_->start(std::move(copy));
}

void Copies::store(Issuer who, uint64_t destination, uint32_t source, uint32_t bytes) {
  Bulk copy = state_->store_of(Bulk::Kind::Store, who, source, bytes, 16, "cp.async.bulk");
  state_->plain_spans(copy, destination);
  state_->start(std::move(copy));
}

void Copies::add_floats(Issuer who, uint64_t destination, uint32_t source, uint32_t bytes) {
  Bulk copy = state_->store_of(Bulk::Kind::Add, who, source, bytes, 16, "cp.reduce.async.bulk");
  state_->plain_spans(copy, destination);
  state_->start(std::move(copy));
}

void Copies::store_box(Issuer who, const void* map, std::span<const int32_t> at, uint32_t source) {
  constexpr const char* kWhat = "cp.async.bulk.tensor";
  const TensorMap tensor = decode_tensor_map(map);
  check_store_start(at, kWhat);
  Bulk copy = state_->store_of(Bulk::Kind::Store, who, source, tensor.box_bytes(), 128, kWhat);
  state_->box_spans(copy, tensor, at);
  state_->start(std::move(copy));
}

void Copies::add_box(Issuer who, const void* map, std::span<const int32_t> at, uint32_t source) {
  constexpr const char* kWhat = "cp.reduce.async.bulk.tensor";
  const TensorMap tensor = decode_tensor_map(map);
  if (tensor.type != TensorType::Float32)
    fault(kWhat, ".add of type ", static_cast<int>(tensor.type), " is not emulated, expected float32");
  check_store_start(at, kWhat);
  Bulk copy = state_->store_of(Bulk::Kind::Add, who, source, tensor.box_bytes(), 128, kWhat);
  state_->box_spans(copy, tensor, at);
  state_->start(std::move(copy));
}

void Copies::commit_bulk(Issuer who) { state_->thread(who).bulk_committed++; }

void Copies::wait_bulk(Issuer who, uint32_t groups, bool read_only) {
  State& s = *state_;
  const uint64_t committed = s.thread(who).bulk_committed, end = committed > groups ? committed - groups : 0;
  for (Bulk& copy : s.bulks) {
    if (copy.kind == Bulk::Kind::Load || State::key(copy.who) != State::key(who) || copy.group >= end) continue;
    if (!copy.read) s.read_source(copy);
    if (!read_only) s.write_destination(copy);
  }
  s.drop_finished();
}

// ---- time

bool Copies::step(Random& random, bool must) {
  State& s = *state_;
  if (idle() || (s.timing == CopyTiming::Late && !must)) return false;
  const size_t bulks = s.bulks.size();
  if (random() % (bulks + s.with_small.size()) < bulks) {
    Bulk& copy = pick(s.bulks, random);
    s.act(copy, static_cast<size_t>(random() % copy.targets.size()));
    s.drop_finished();
    return true;
  }
  const uint32_t key = pick(s.with_small, random);
  ThreadGroups& t = s.threads[key];
  SmallCopy& copy = pick(t.pending, random);
  s.land({key >> 16, key & 0xffff}, copy);
  // Order within the thread matters to nobody: groups are numbers.
  copy = t.pending.back();
  t.pending.pop_back();
  if (t.pending.empty()) std::erase(s.with_small, key);
  return true;
}

bool Copies::idle() const { return state_->bulks.empty() && state_->with_small.empty(); }

void Copies::leave(uint32_t rank) {
  State& s = *state_;
  for (const Bulk& copy : s.bulks) {
    const bool store = copy.kind != Bulk::Kind::Load;
    for (const Place& at : copy.targets)
      if (at.rank == rank && !(store && copy.read))
        fault("the block of rank ", rank, " exits while a bulk ", store ? "store still reads" : "load still writes",
              " its shared memory at offset ", at.offset, store ? ": cp.async.bulk.wait_group.read 0 comes first" : "");
  }
  for (const uint32_t key : s.with_small)
    if (key >> 16 == rank)
      fault("the block of rank ", rank, " exits while a cp.async of thread ", key & 0xffff,
            " still writes its shared memory");
  s.left[rank] = true;
}

void Copies::finish() {
  State& s = *state_;
  for (Bulk& copy : s.bulks)
    while (!copy.targets.empty()) s.act(copy, 0);
  s.drop_finished();
}

}  // namespace thalweg::emulator
