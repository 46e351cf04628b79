#include "native/emulator/proxies.h"

namespace thalweg::emulator {

ProxyState::ProxyState(size_t bytes, uint32_t threads) : pieces_((bytes + 15) / 16), fence_times_(threads, 0) {}

void ProxyState::check_range(uint32_t offset, uint32_t bytes, const char* what) const {
  if (static_cast<uint64_t>(offset) + bytes > pieces_.size() * 16)
    fault(what, " of ", bytes, " bytes at offset ", offset, " of shared memory, which has ", pieces_.size() * 16,
          " bytes");
}

bool ProxyState::fenced(const Piece& piece) const {
  if (piece.writer == kNobody) return true;
  // A fence at time f covers what was written before f: the clock moves with each fence and each barrier.
  if (piece.writer < fence_times_.size() && piece.time < fence_times_[piece.writer]) return true;
  return piece.time < covered_[piece.writer / 32 % kWarps];
}

void ProxyState::fence(uint32_t thread) {
  clock_++;
  if (thread >= fence_times_.size()) fault("fence.proxy.async by thread ", thread, " of ", fence_times_.size());
  fence_times_[thread] = clock_;
  const auto& met = met_[thread / 32 % kWarps];
  for (int w = 0; w < kWarps; w++) covered_[w] = std::max(covered_[w], met[w]);
  barrier_fence(thread);
}

void ProxyState::meet(std::span<const uint32_t> warps) {
  clock_++;
  for (const uint32_t a : warps)
    for (const uint32_t b : warps) met_[a % kWarps][b % kWarps] = clock_;
}

void ProxyState::fault_read(uint32_t thread, uint32_t piece) const {
  fault(
      "thread ", thread, " reads shared memory at offset ", piece * 16,
      " which a pending asynchronous copy still writes: wait for the copy (its mbarrier's phase, or its group) first");
}

void ProxyState::check_write(uint32_t thread, uint32_t piece, uint32_t offset, uint32_t bytes) const {
  const Piece& at = pieces_[piece];
  for (uint32_t half = 0; half < 2; half++)
    if (at.barriers >> half & 1 && offset < piece * 16 + half * 8 + 8 && offset + bytes > piece * 16 + half * 8)
      fault("thread ", thread, " writes ", bytes, " bytes at offset ", offset,
            " of shared memory over a live mbarrier at offset ", piece * 16 + half * 8);
  if (at.writes)
    fault("thread ", thread, " writes shared memory at offset ", piece * 16,
          " which a pending asynchronous copy still writes: wait for the copy first");
  if (at.reads)
    fault("thread ", thread, " writes shared memory at offset ", piece * 16,
          " which a pending bulk store or wgmma still reads: wait for it first (cp.async.bulk.wait_group.read, "
          "wgmma.wait_group)");
}

void ProxyState::fault_async_read(uint32_t piece, const char* what) const {
  if (pieces_[piece].writes)
    fault(what, " reads shared memory at offset ", piece * 16,
          " which a pending asynchronous copy still writes: wait for the copy (its mbarrier's phase) first");
  fault(what, " reads shared memory at offset ", piece * 16, " which thread ", pieces_[piece].writer,
        " wrote by an ordinary store that no fence.proxy.async covers");
}

void ProxyState::check_async_read(uint32_t offset, uint32_t bytes, const char* what) const {
  check_range(offset, bytes, what);
  for (uint32_t i = offset / 16, end = (offset + bytes + 15) / 16; i < end; i++) check_async_piece(i, what);
}

void ProxyState::begin_async_write(uint32_t offset, uint32_t bytes) {
  check_range(offset, bytes, "an asynchronous copy");
  for (uint32_t i = offset / 16, end = (offset + bytes + 15) / 16; i < end; i++) {
    const Piece& piece = pieces_[i];
    if (piece.writes)
      fault("an asynchronous copy is to write shared memory at offset ", i * 16, " which another still writes");
    if (piece.reads)
      fault("an asynchronous copy is to write shared memory at offset ", i * 16,
            " which a pending bulk store or wgmma still reads: the buffer was handed back too early");
    if (piece.barriers & 3) fault("an asynchronous copy is to write over a live mbarrier near offset ", i * 16);
    if (!fenced(piece))
      fault("an asynchronous copy is to write shared memory at offset ", i * 16, " after an ordinary store of thread ",
            piece.writer, " that no fence.proxy.async covers");
  }
  for (uint32_t i = offset / 16, end = (offset + bytes + 15) / 16; i < end; i++) pieces_[i].writes++;
}

void ProxyState::end_async_write(uint32_t offset, uint32_t bytes) {
  for (uint32_t i = offset / 16, end = (offset + bytes + 15) / 16; i < end; i++) {
    pieces_[i].writes--;
    pieces_[i].writer = kNobody;
  }
}

void ProxyState::begin_thread_copy(uint32_t thread, uint32_t offset, uint32_t bytes) {
  check_range(offset, bytes, "cp.async");
  Piece& piece = pieces_[offset / 16];
  if (piece.writes | piece.reads | piece.barriers) check_write(thread, offset / 16, offset, bytes);
  // Smaller ones share a piece with their neighbours: not noted.
  if (bytes == 16) piece.writes++;
}

void ProxyState::end_thread_copy(uint32_t thread, uint32_t offset, uint32_t bytes) {
  Piece& piece = pieces_[offset / 16];
  if (bytes == 16) piece.writes--;
  piece.writer = static_cast<uint16_t>(thread);
  piece.time = clock_;
}

void ProxyState::begin_async_read(uint32_t offset, uint32_t bytes, const char* what) {
  check_async_read(offset, bytes, what);
  for (uint32_t i = offset / 16, end = (offset + bytes + 15) / 16; i < end; i++) pieces_[i].reads++;
}

void ProxyState::end_async_read(uint32_t offset, uint32_t bytes) {
  for (uint32_t i = offset / 16, end = (offset + bytes + 15) / 16; i < end; i++) pieces_[i].reads--;
}

void ProxyState::barrier_init(uint32_t thread, uint32_t offset) {
  check_range(offset, 8, "mbarrier.init");
  Piece& piece = pieces_[offset / 16];
  const auto bit = static_cast<uint8_t>(1u << (offset / 8 & 1));
  if (piece.barriers & bit)
    fault("mbarrier.init at offset ", offset,
          " of shared memory, where a live mbarrier is: mbarrier.inval comes first");
  if (piece.writes | piece.reads) check_write(thread, offset / 16, offset, 8);
  piece.barriers |= bit;
  fresh_.push_back({thread, offset});
}

void ProxyState::barrier_invalidate(uint32_t offset) {
  check_range(offset, 8, "mbarrier.inval");
  pieces_[offset / 16].barriers &= static_cast<uint8_t>(~(1u << (offset / 8 & 1)));
  std::erase_if(fresh_, [&](const FreshBarrier& b) { return b.offset == offset; });
}

void ProxyState::barrier_fence(uint32_t thread) {
  std::erase_if(fresh_, [&](const FreshBarrier& b) { return b.thread == thread; });
}

void ProxyState::check_remote_barrier(uint32_t offset) const {
  for (const FreshBarrier& b : fresh_)
    if (b.offset == offset)
      fault("the mbarrier at offset ", offset, " is used by another block, but thread ", b.thread,
            " that initialised it never ran fence.mbarrier_init (or fence.proxy.async)");
}

}  // namespace thalweg::emulator
