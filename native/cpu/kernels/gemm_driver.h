#pragma once
/**
 * Runs a Product on an engine: cut into chunks whose panels fit the workspace, and for each chunk
 *   1. pack   strips of A and B that are not packed yet become panels, strip groups shared out over the pool;
 *   2. multiply   a fixed grid of tiles of C, each done by one thread: blocks of k outermost (a strip of B's block
 * stays in L1, the tile's part of A in L2), then strips of B, then strips of A. Chunks and blocks of k depend on the
 * shape only, so a sum's order does too: the grid may follow the threads, and the bits do not depend on them.
 */
#include <cstring>
#include <numeric>
#include <utility>

#include "native/cpu/context.h"
#include "native/cpu/kernels/gemm.h"

namespace thalweg::cpu::THALWEG_ISA::gemm {

/** Everything decided from the shape. Lengths in elements unless named bytes. */
template <class Engine>
struct Plan {
  static constexpr int64_t kChunkK = 2048, kChunkM = 4096, kChunkN = 4096;  // panels of at most 4096 x 2048 each
  static constexpr int64_t kPackElements = 1 << 15;                         // one packing task
  static constexpr int64_t kMinTileN = 128;
  static constexpr int64_t kMinTiles = 48, kTilesPerThread = 6;  // the lesser: keeps 64 threads busy, and 2 balanced

  int64_t m, n, k;
  int64_t left_strips, right_strips;
  int64_t packed_from;                       // strips of A from here on are packed, those before are read in place
  int64_t depth;                             // k rounded up to whole steps
  int64_t block;                             // k per block
  int64_t chunk_k, chunk_left, chunk_right;  // the last two in strips
  bool partial, partial_whole;           // sums between blocks need memory; one matrix of them, or one tile per worker
  int64_t partial_ld, partial_elements;  // of one worker, or of the matrix
  int64_t tile_left, tile_right;         // largest tile, strips
  bool packs_in_tile;                    // A is packed by the tile that reads it, block by block
  int64_t left_elements;                 // of packed A: of one worker if packs_in_tile
  size_t left_bytes, right_bytes, partial_bytes;

  Plan(const Operand& left, const Operand& right, DType out, bool right_is_packed, int threads)
      : m(left.extent), n(right.extent), k(left.k) {
    left_strips = ceil_div(m, Engine::kMr);
    right_strips = ceil_div(n, Engine::kNr);
    const bool in_place = Engine::reads_in_place(left);
    packed_from = !in_place ? 0 : Engine::kPacksLastStrip ? m / Engine::kMr : left_strips;
    depth = round_up(k, Engine::kStep);
    const int64_t blocks = std::max<int64_t>(1, ceil_div(depth, Engine::kBlock));
    block = std::max<int64_t>(Engine::kStep, round_up(ceil_div(depth, blocks), Engine::kStep));
    const bool whole_k = in_place && right_is_packed;
    chunk_k = whole_k ? std::max(depth, block) : std::min(blocks, std::max<int64_t>(1, kChunkK / block)) * block;
    packs_in_tile = Engine::kPacksInTile && !in_place;
    chunk_left = in_place || packs_in_tile ? left_strips : std::min(left_strips, kChunkM / Engine::kMr);
    chunk_right = right_is_packed ? right_strips : std::min(right_strips, kChunkN / Engine::kNr);
    choose_tile(std::min<int64_t>(kMinTiles, kTilesPerThread * threads));

    if (packs_in_tile) {
      left_elements = tile_left * Engine::kMr * block;
      left_bytes = round_up(left_elements, 64) * sizeof(Element) * threads;
    } else {
      left_elements = std::min(left_strips - packed_from, chunk_left) * Engine::kMr * chunk_k;
      left_bytes = round_up(left_elements * sizeof(Element), 64);
    }
    right_bytes = right_is_packed ? 0 : round_up(chunk_right * Engine::kNr * chunk_k * sizeof(Element), 64);
    partial = depth > block && !Engine::sums_in(out);
    partial_whole = partial && chunk_k < depth;
    // 16 elements beyond the width keep rows of sums off one another's cache sets.
    partial_ld = (partial_whole ? right_strips : tile_right) * Engine::kNr + 16;
    partial_elements = (partial_whole ? left_strips : tile_left) * Engine::kMr * partial_ld;
    partial_bytes = partial ? static_cast<size_t>(partial_elements) * 4 * (partial_whole ? 1 : threads) : 0;
  }

  size_t workspace() const { return left_bytes + right_bytes + round_up(partial_bytes, 64); }

 private:
  using Element = typename Engine::Element;

  /** The largest tile that leaves at least so many: first fewer rows (which cost nothing but reuse of B from L2), then
   * fewer columns. A tile that packs its part of A is twice as wide, so that A is packed half as often. */
  void choose_tile(int64_t least) {
    tile_left = Engine::kTileM / Engine::kMr;
    tile_right = (packs_in_tile ? 2 : 1) * Engine::kTileN / Engine::kNr;
    const auto tiles = [&] { return ceil_div(chunk_left, tile_left) * ceil_div(chunk_right, tile_right); };
    while (tiles() < least && tile_left > Engine::kMinTileM / Engine::kMr) tile_left /= 2;
    while (tiles() < least && tile_right > kMinTileN / Engine::kNr) tile_right /= 2;
  }
};

/** Bytes a product may need, whether or not packed weights are found. */
template <class Engine>
size_t workspace_bytes(const Operand& left, const Operand& right, DType out, int threads) {
  return std::max(Plan<Engine>(left, right, out, false, threads).workspace(),
                  Plan<Engine>(left, right, out, true, threads).workspace());
}

template <class Engine>
class Run {
 public:
  Run(const Product& product, Context& ctx)
      : g_(product),
        pool_(ctx.pool),
        plan_(product.left, product.right, product.out.dtype, product.packed_right != nullptr, ctx.pool.threads()),
        left_(reinterpret_cast<Element*>(ctx.workspace)),
        right_(reinterpret_cast<Element*>(ctx.workspace + plan_.left_bytes)),
        partial_(reinterpret_cast<float*>(ctx.workspace + plan_.left_bytes + plan_.right_bytes)) {}

  void operator()() {
    const int64_t depth = std::max<int64_t>(plan_.depth, Engine::kStep);
    for (int64_t k0 = 0; k0 < depth; k0 += plan_.chunk_k) {
      chunk_.k0 = k0;
      chunk_.k1 = std::min(plan_.depth, k0 + plan_.chunk_k);
      for (int64_t l = 0; l < plan_.left_strips; l += plan_.chunk_left) {
        chunk_.left0 = l;
        chunk_.left1 = std::min(plan_.left_strips, l + plan_.chunk_left);
        for (int64_t r = 0; r < plan_.right_strips; r += plan_.chunk_right) {
          chunk_.right0 = r;
          chunk_.right1 = std::min(plan_.right_strips, r + plan_.chunk_right);
          pack(r == 0, l == 0 || plan_.chunk_right < plan_.right_strips);
          multiply();
        }
      }
    }
  }

 private:
  using Element = typename Engine::Element;
  struct Chunk {
    int64_t k0, k1, left0, left1, right0, right1;  // k in elements, the rest in strips
  };

  /** k elements of the chunk that the operands really have (the rest of the last step is padding). */
  int64_t chunk_depth() const { return chunk_.k1 - chunk_.k0; }

  void pack(bool left_is_new, bool right_is_new) {
    const int64_t depth = chunk_depth();
    if (depth == 0) return;
    const int64_t left_from = std::max(chunk_.left0, plan_.packed_from);
    const int64_t left_count = left_is_new && !plan_.packs_in_tile ? std::max<int64_t>(0, chunk_.left1 - left_from) : 0;
    const int64_t right_count = right_is_new && g_.packed_right == nullptr ? chunk_.right1 - chunk_.right0 : 0;
    const int64_t left_group = std::max<int64_t>(8, Plan<Engine>::kPackElements / (Engine::kMr * depth));
    const int64_t right_group = std::max<int64_t>(4, Plan<Engine>::kPackElements / (Engine::kNr * depth));
    const int64_t left_tasks = ceil_div(left_count, left_group), right_tasks = ceil_div(right_count, right_group);
    if (left_tasks + right_tasks == 0) return;
    auto task = [&](int64_t t, int) {
      const bool right = t < right_tasks;
      const int64_t first = right ? chunk_.right0 : left_from, group = right ? right_group : left_group;
      const int64_t begin = first + (right ? t : t - right_tasks) * group;
      const int64_t end = std::min(right ? chunk_.right1 : chunk_.left1, begin + group);
      // Rows along k are read to their end. Otherwise a few k of all strips at a time: neighbouring strips lie in the
      // same rows, whose cache lines are then read once.
      const int64_t most = (right ? g_.right : g_.left).k_contiguous ? depth : Engine::kPackSteps;
      for (int64_t k = 0; k < depth; k += most) {
        const int64_t steps = std::min(most, depth - k);
        for (int64_t s = begin; s < end; s++) {
          if (right)
            Engine::pack_right(g_.right, s, chunk_.k0 + k, steps, right_panel(s) + k * Engine::kNr);
          else
            Engine::pack_left(g_.left, s, chunk_.k0 + k, steps, left_panel(s) + k * Engine::kMr);
        }
      }
    };
    pool_.run(left_tasks + right_tasks, std::move(task));
  }

  Element* left_panel(int64_t strip) const {
    return left_ + (strip - std::max(chunk_.left0, plan_.packed_from)) * Engine::kMr * chunk_depth();
  }
  Element* right_panel(int64_t strip) const { return right_ + (strip - chunk_.right0) * Engine::kNr * chunk_depth(); }

  LeftView left_view(int64_t strip, int64_t k0, const Element* tile_panels, int64_t panel) const {
    if (strip < plan_.packed_from) return Engine::view_in_place(g_.left, strip, k0);
    if (plan_.packs_in_tile) return Engine::view_packed(tile_panels + panel);
    return Engine::view_packed(left_panel(strip) + Engine::kMr * (k0 - chunk_.k0));
  }
  const Element* right_view(int64_t strip, int64_t k0) const {
    if (g_.packed_right != nullptr)
      return static_cast<const Element*>(g_.packed_right) + Engine::kNr * (strip * plan_.depth + k0);
    return right_panel(strip) + Engine::kNr * (k0 - chunk_.k0);
  }

  /** While B's strip r meets strip `index` of `count` of A, such a part of strip r + 1 comes nearer: the hardware would
   * begin at its first use, and all of it at once would keep other lines waiting. */
  void announce(Destination& d, int64_t r, int64_t r_end, int64_t index, int64_t count, int64_t k0, int64_t k1) const {
    const bool more = r + 1 < r_end;
    d.ahead_step = more ? ceil_div(Engine::kNr * static_cast<int64_t>(sizeof(Element)), count) : 0;
    d.ahead = reinterpret_cast<const char*>(right_view(more ? r + 1 : r, k0)) + index * d.ahead_step * (k1 - k0);
  }

  /** The chunk's strips in equal groups of at most the tile's size: the grid of C, in whole rounds of the threads. */
  void multiply() {
    const int64_t lefts = chunk_.left1 - chunk_.left0, rights = chunk_.right1 - chunk_.right0;
    const int64_t groups_r = ceil_div(rights, plan_.tile_right), threads = pool_.threads();
    const int64_t even = round_up(ceil_div(lefts, plan_.tile_left), threads / std::gcd(groups_r, threads));
    const int64_t groups_l = std::min(even, lefts);
    auto task = [&](int64_t t, int worker) {
      // Neighbouring tiles share their part of B.
      const int64_t gl = t % groups_l, gr = t / groups_l;
      Engine::enter();
      tile(chunk_.left0 + gl * lefts / groups_l, chunk_.left0 + (gl + 1) * lefts / groups_l,
           chunk_.right0 + gr * rights / groups_r, chunk_.right0 + (gr + 1) * rights / groups_r, worker);
    };
    pool_.run(groups_l * groups_r, std::move(task));
  }

  /** Panels of the tile's strips of A for one block of k, one after the other, into this worker's memory. */
  void pack_tile(int64_t l0, int64_t l1, int64_t k0, int64_t k1, Element* panels) const {
    for (int64_t k = k0; k < k1; k += Engine::kPackSteps) {
      const int64_t steps = std::min(Engine::kPackSteps, k1 - k);
      for (int64_t l = l0; l < l1; l++)
        Engine::pack_left(g_.left, l, k, steps, panels + Engine::kMr * ((l - l0) * (k1 - k0) + k - k0));
    }
  }

  void tile(int64_t l0, int64_t l1, int64_t r0, int64_t r1, int worker) {
    const Output& out = g_.out;
    const int64_t size = static_cast<int64_t>(dtype_size(out.dtype));
    float* partial = plan_.partial_whole ? partial_ : partial_ + worker * plan_.partial_elements;
    const int64_t origin_l = plan_.partial_whole ? 0 : l0, origin_r = plan_.partial_whole ? 0 : r0;
    Element* left = left_ + (plan_.packs_in_tile ? worker * round_up(plan_.left_elements, 64) : 0);
    int64_t k0 = chunk_.k0;
    do {
      const int64_t k1 = std::min(chunk_.k1, k0 + plan_.block);
      if (plan_.packs_in_tile) pack_tile(l0, l1, k0, k1, left);
      for (int64_t r = r0; r < r1; r++) {
        const Element* b = right_view(r, k0);
        for (int64_t l = l0; l < l1; l++) {
          const int64_t row = l * Engine::kMr, column = r * Engine::kNr, at = (row * out.ld + column) * size;
          Destination d;
          d.partial = !plan_.partial
                          ? nullptr
                          : partial + (l - origin_l) * Engine::kMr * plan_.partial_ld + (r - origin_r) * Engine::kNr;
          d.ld_partial = plan_.partial_ld;
          d.first = k0 == 0;
          d.last = k1 == plan_.depth;
          d.out = static_cast<char*>(out.data) + at;
          d.addend = out.addend ? static_cast<const char*>(out.addend) + at : nullptr;
          d.dtype = out.dtype;
          d.ld = out.ld;
          d.rows = static_cast<int>(std::min<int64_t>(Engine::kMr, plan_.m - row));
          d.cols = static_cast<int>(std::min<int64_t>(Engine::kNr, plan_.n - column));
          announce(d, r, r1, l - l0, l1 - l0, k0, k1);
          Engine::multiply(k1 - k0, left_view(l, k0, left, (l - l0) * Engine::kMr * (k1 - k0)), b, d);
        }
      }
      k0 = k1;
    } while (k0 < chunk_.k1);
  }

  const Product& g_;
  ThreadPool& pool_;
  const Plan<Engine> plan_;
  Element *left_, *right_;
  float* partial_;
  Chunk chunk_{};
};

template <class Engine>
void run(const Product& product, Context& ctx) {
  if (product.left.extent == 0 || product.right.extent == 0) return;
  Run<Engine>(product, ctx)();
}

}  // namespace thalweg::cpu::THALWEG_ISA::gemm
