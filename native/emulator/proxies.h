#pragma once
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "native/emulator/fault.h"

/** Who may touch which bytes of a block's shared memory (PTX ISA, "Memory consistency model: proxies"). Ordinary
 * accesses go by the generic proxy, bulk copies and wgmma's operands by the async proxy; fence.proxy.async orders the
 * two.
 *
 * A note is kept per 16 bytes, the least that a bulk copy touches. */
namespace thalweg::emulator {

class ProxyState {
 public:
  /** `bytes` of shared memory, `threads` of the block. */
  ProxyState(size_t bytes, uint32_t threads);

  /** Thread of a DSMEM access of another block of the cluster: checked against pending copies, not for fences. */
  static constexpr uint32_t kRemoteThread = 0xffff;

  /** An ordinary load: faults where a pending copy still writes. */
  void ordinary_read(uint32_t thread, uint32_t offset, uint32_t bytes) const {
    for (uint32_t i = offset / 16, end = (offset + bytes + 15) / 16; i < end; i++)
      if (pieces_[i].writes) [[unlikely]]
        fault_read(thread, i);
  }
  /** An ordinary store, or a cp.async that lands: faults where a pending copy still reads or writes, or over an
   * mbarrier. */
  void ordinary_write(uint32_t thread, uint32_t offset, uint32_t bytes) {
    for (uint32_t i = offset / 16, end = (offset + bytes + 15) / 16; i < end; i++) {
      Piece& piece = pieces_[i];
      if (piece.writes | piece.reads | piece.barriers) [[unlikely]]
        check_write(thread, i, offset, bytes);
      piece.writer = static_cast<uint16_t>(thread);
      piece.time = clock_;
    }
  }

  /** fence.proxy.async (also .shared::cta): covers the thread's own writes, and those of other warps before a barrier
   * both took part in. */
  void fence(uint32_t thread);
  /** A barrier (bar.sync, bar.warp.sync, barrier.cluster, ...) of these warps of the block is over. Without such calls
   * only the writers' own fences count. */
  void meet(std::span<const uint32_t> warps);

  /** A read by the async proxy (wgmma, the source of a bulk store): faults on ordinary writes no fence covers and on
   * pending writes. `what` names the reader. */
  void check_async_read(uint32_t offset, uint32_t bytes, const char* what) const;
  /** The same of piece i, the 16 bytes at 16 i (in range). */
  void check_async_piece(uint32_t i, const char* what) const {
    const Piece& piece = pieces_[i];
    if (piece.writes || (piece.writer != kNobody && !fenced(piece))) [[unlikely]]
      fault_async_read(i, what);
  }

  /** A pending asynchronous write (bulk load): from its start until it lands. Faults over unfenced ordinary writes and
   * over other pending accesses. */
  void begin_async_write(uint32_t offset, uint32_t bytes);
  void end_async_write(uint32_t offset, uint32_t bytes);
  /** cp.async, which is of the generic proxy: likewise, but no fence is needed. */
  void begin_thread_copy(uint32_t thread, uint32_t offset, uint32_t bytes);
  void end_thread_copy(uint32_t thread, uint32_t offset, uint32_t bytes);
  /** A pending asynchronous read (bulk store's source, wgmma's operand). Checks as check_async_read. */
  void begin_async_read(uint32_t offset, uint32_t bytes, const char* what);
  void end_async_read(uint32_t offset, uint32_t bytes);

  /** mbarrier.init by a thread; fence.mbarrier_init by it (fence() counts too). */
  void barrier_init(uint32_t thread, uint32_t offset);
  void barrier_invalidate(uint32_t offset);
  void barrier_fence(uint32_t thread);
  /** Another block of the cluster (its arrival, its copy) is about to use the mbarrier: faults when its init was never
   * fenced. Copies of the own block use it by the generic proxy: they need no fence. */
  void check_remote_barrier(uint32_t offset) const;

  uint32_t bytes() const { return static_cast<uint32_t>(pieces_.size() * 16); }

 private:
  static constexpr uint16_t kNobody = 0xffff;
  struct Piece {
    uint64_t time = 0;               // of the last ordinary write
    uint16_t writer = kNobody;       // its thread, unless an asynchronous write came later
    uint16_t reads = 0, writes = 0;  // pending copies
    uint8_t barriers = 0;            // bits 0, 1: an mbarrier in the lower, upper half
  };
  bool fenced(const Piece& piece) const;
  [[noreturn]] void fault_read(uint32_t thread, uint32_t piece) const;
  [[noreturn]] void fault_async_read(uint32_t piece, const char* what) const;
  void check_write(uint32_t thread, uint32_t piece, uint32_t offset, uint32_t bytes) const;
  void check_range(uint32_t offset, uint32_t bytes, const char* what) const;

  static constexpr int kWarps = 32;
  std::vector<Piece> pieces_;
  uint64_t clock_ = 1;
  std::vector<uint64_t> fence_times_;                       // by thread
  std::array<uint64_t, kWarps> covered_{};                  // by warp: some fence covers its writes before this time
  std::array<std::array<uint64_t, kWarps>, kWarps> met_{};  // by two warps: their last barrier
  struct FreshBarrier {
    uint32_t thread, offset;
  };
  std::vector<FreshBarrier> fresh_;  // initialised, not fenced
};

/** A block's shared memory as wgmma reads it; `proxies` may be null (no checks but the range). */
struct SharedReader {
  const std::byte* data;
  size_t bytes;
  const ProxyState* proxies;
};

}  // namespace thalweg::emulator
