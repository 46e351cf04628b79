#pragma once
#include "native/cpu/context.h"

/** Splitting work into tiles whose borders depend on the shape alone, so that results do not depend on the number of
 * threads. */
namespace thalweg::cpu::THALWEG_ISA {

/** Elements a tile of streaming work should hold: 64 KiB of fp32, large against the cost of handing out a tile. */
constexpr int64_t kTileElements = 16384;

static inline int64_t blocks_of(int64_t count, int64_t block) { return (count + block - 1) / block; }

/** Rows of `width` elements that make one tile. */
static inline int64_t tile_rows(int64_t width) {
  return width >= kTileElements ? 1 : kTileElements / (width < 1 ? 1 : width);
}

/** body(begin, end, worker) over [0, count) in blocks of `block`. */
template <class Body>
static inline void run_blocks(ThreadPool& pool, int64_t count, int64_t block, Body&& body) {
  pool.run(blocks_of(count, block), [&](int64_t tile, int worker) {
    const int64_t begin = tile * block;
    body(begin, begin + block < count ? begin + block : count, worker);
  });
}

/** Bytes rounded up to whole cache lines. */
static inline size_t lines(size_t bytes) { return (bytes + 63) / 64 * 64; }

}  // namespace thalweg::cpu::THALWEG_ISA
