#pragma once
#include <cstdint>

/** Asynchronous copies: cp.async of single threads, and TMA boxes under a tensor map. */
namespace thalweg::simt {

/** cp.async: source_bytes (0 to bytes) are read, the rest is zero. */
void copy_async(void* shared, const void* global, uint32_t bytes, uint32_t source_bytes);
void copy_async_commit();
/** Waits until at most `groups` of the newest groups of this thread are unfinished. */
void copy_async_wait(unsigned groups);

enum class Swizzle : uint8_t { None = 0, B32 = 1, B64 = 2, B128 = 3 };  // the driver's numbers

/** What a CUtensorMap says. Axis 0 is the innermost and dense; stride[i] are the bytes from one index of axis i to the
 * next. Made by the checked builder only. */
struct TensorMap {
  static constexpr uint32_t kMagic = 0x54574d50;
  uint32_t magic = 0;
  uint32_t rank = 0;
  const void* base = nullptr;
  uint64_t size[5] = {1, 1, 1, 1, 1};
  uint64_t stride[5] = {0, 0, 0, 0, 0};
  uint32_t box[5] = {1, 1, 1, 1, 1};
  uint32_t element_bytes = 2;
  Swizzle swizzle = Swizzle::None;
  uint32_t box_bytes() const { return box[0] * box[1] * box[2] * box[3] * box[4] * element_bytes; }
};

/** A box at `at` into shared memory; outside the tensor it is zero, but all its bytes count towards the barrier. `mask`
 * (bits of block ranks) multicasts to the same place in several blocks of the cluster, 0 = this block. */
void tma_load(void* shared, const TensorMap& map, uint64_t* barrier, const int32_t at[5], uint16_t mask);
/** A box out of shared memory as the asynchronous proxy sees it; what lies outside the tensor is dropped. */
void tma_store(const TensorMap& map, const void* shared, const int32_t at[5], bool add_float);
/** The same for dense bytes, without a map. */
void bulk_load(void* shared, const void* global, uint32_t bytes, uint64_t* barrier);
void bulk_store(void* global, const void* shared, uint32_t bytes, bool add_float);
void bulk_commit();
/** Waits until at most `groups` of the newest groups of this thread have not been read from shared memory. */
void bulk_wait_read(unsigned groups);
/** The same, have not been written: a store reads and writes at two moments. */
void bulk_wait(unsigned groups);

/** The swizzle's place for a byte address: 16-byte chunks exchanged within rows of 128 (64, 32) bytes. */
uint32_t swizzled(uint32_t address, Swizzle swizzle);

}  // namespace thalweg::simt
