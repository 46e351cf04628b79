#include <functional>
#include <queue>

#include "native/cuda/kernels/hopper_attention_tiles.h"
#include "test/native/bench/documents.h"
#include "test/native/bench/harness.h"
#include "test/native/bench/predict.h"

namespace bench {

namespace {

using thalweg::cuda::hopper_backward_tiles;
using thalweg::cuda::hopper_forward_tiles;
using thalweg::cuda::HopperTileOrder;
using thalweg::cuda::kBackwardKeys;

constexpr int kMultiprocessors = 132;
/** What a tile's beginning and end take, in steps: forward its result's way out, backward also a block's way in and the
 * first loads, since those blocks are not persistent. */
constexpr double kForwardEnds = 0.7, kBackwardEnds = 2;
/** What FlashAttention-3's loops reach without a mask at 16384 positions (Shah et al. 2024): forward a share of 989
 * TFLOP/s, backward TFLOP/s without turns; and what is left of those in turns (474 of 575, causal, D = 128, 8192). At
 * 48 columns nobody published any: exponentials and shared memory bound it more than at 64. */
constexpr double forward_rate(int dim) { return (dim == 128 ? 0.65 : dim == 64 ? 0.5 : 0.42) * 989; }
constexpr double backward_rate(int dim) { return dim == 128 ? 561 : dim == 64 ? 474 : 400; }
constexpr double kTurns = 0.82;

/** Attention over `batch` sequences, and of each position the first it sees and the end of those that see it. */
struct Sequences {
  int seq, batch, heads, kv_heads, dim;
  std::vector<int32_t> starts, ends;
  double pairs;  // visible, of one head

  Sequences(int length, int sequences, int query_heads, int key_heads, int head_dim, bool documents)
      : seq(length), batch(sequences), heads(query_heads), kv_heads(key_heads), dim(head_dim) {
    const int64_t tokens = int64_t{seq} * batch;
    starts = documents ? document_starts(tokens, seq) : std::vector<int32_t>(static_cast<size_t>(tokens));
    ends.resize(starts.size());
    pairs = visible_pairs(starts, seq);
    for (int b = 0; b < batch; b++)
      for (int t = seq - 1, end = seq; t >= 0; t--) {
        ends[at(b, t)] = end;
        if (starts[at(b, t)] == t) end = t;
      }
  }
  size_t at(int b, int t) const { return static_cast<size_t>(b) * static_cast<size_t>(seq) + static_cast<size_t>(t); }
};

/** How long tiles take, in steps, when each, in this order, goes to the multiprocessor that is free first. */
struct Time {
  double last, sum;
  double balance() const { return sum / (kMultiprocessors * last); }
};

Time time_of(const HopperTileOrder& order, double ends,
             const std::function<double(const HopperTileOrder::Tile&)>& steps) {
  std::priority_queue<double, std::vector<double>, std::greater<>> free;
  for (int i = 0; i < kMultiprocessors; i++) free.push(0);
  Time time{0, 0};
  for (int i = 0; i < order.count(); i++) {
    const double cost = steps(order.at(i)) + ends, end = free.top() + cost;
    free.pop();
    free.push(end);
    time = {std::max(time.last, end), time.sum + cost};
  }
  return time;
}

/** TFLOP/s at `rate` where tiles are full: times the share of pairs that are visible, ends of tiles and balance
 * counted. `pairs`: of a step. */
double reached(const Sequences& s, const Time& time, double pairs, double rate) {
  return rate * s.pairs * s.heads / (pairs * kMultiprocessors * time.last);
}

struct Prediction {
  Time time;
  double tflops;
};

Prediction forward_of(const Sequences& s, bool documents) {
  const int rows = hopper_forward_tiles(s.dim).rows(), keys = hopper_forward_tiles(s.dim).step;
  const thalweg::cuda::HopperWork work{s.seq, s.dim, s.heads, s.kv_heads, s.batch, documents};
  const auto order = HopperTileOrder::of_queries((s.seq + rows - 1) / rows, work);
  const Time time = time_of(order, kForwardEnds, [&](const HopperTileOrder::Tile& tile) {
    const int first = tile.index * rows, end = std::min(first + rows, s.seq);
    return (end + keys - 1) / keys - s.starts[s.at(tile.sequence, first)] / keys;
  });
  return {time, reached(s, time, double(rows) * keys, forward_rate(s.dim))};
}

Prediction backward_of(const Sequences& s, bool documents, bool any_order) {
  const int queries = hopper_backward_tiles(s.dim).step;
  const thalweg::cuda::HopperWork work{s.seq, s.dim, s.heads, s.kv_heads, s.batch, documents};
  const auto order = HopperTileOrder::of_keys(work, !any_order, kMultiprocessors);
  const Time time = time_of(order, kBackwardEnds, [&](const HopperTileOrder::Tile& tile) {
    const int first = (any_order ? order.tiles - 1 - tile.index : tile.index) * kBackwardKeys;
    const int end = s.ends[s.at(tile.sequence, std::min(first + kBackwardKeys, s.seq) - 1)];
    return double((end - first + queries - 1) / queries) * (s.heads / s.kv_heads);
  });
  return {time, reached(s, time, double(kBackwardKeys) * queries, backward_rate(s.dim) * (any_order ? 1 : kTurns))};
}

void print_row(const char* what, const Sequences& s, bool documents, const Prediction& p) {
  std::printf("| %s | %d | %d x %d%s | %d/%d | %.3f | %.0f |\n", what, s.dim, s.batch, s.seq,
              documents ? ", documents" : "", s.heads, s.kv_heads, p.time.balance(), p.tflops);
}

void print_rows(const Sequences& s, bool documents) {
  print_row("forward", s, documents, forward_of(s, documents));
  for (bool any_order : {false, true})
    print_row(any_order ? "backward, any order" : "backward, in turns", s, documents,
              backward_of(s, documents, any_order));
}

}  // namespace

AttentionSeconds attention_seconds(int seq, int sequences, int heads, int head_dim) {
  const Sequences s(seq, sequences, heads, heads, head_dim, false);
  const double flops = 4 * s.pairs * heads * head_dim;
  return {flops / (forward_of(s, false).tflops * 1e12), 2.5 * flops / (backward_of(s, false, false).tflops * 1e12)};
}

void print_attention_predictions() {
  std::printf("\n| attention | head dim | sequences | heads | balance | TFLOP/s |\n");
  std::printf("| --- | --- | --- | --- | --- | --- |\n");
  constexpr int kTokens = 16384, kWidth = 2048;
  for (int dim : {64, 128})
    for (int seq : {1024, 4096, 16384})
      for (bool documents : {false, true})
        if (seq > 1024 || !documents)
          print_rows({seq, kTokens / seq, kWidth / dim, kWidth / dim, dim, documents}, documents);
  for (bool documents : {false, true}) print_rows({4096, 4, 16, 4, 128, documents}, documents);
}

}  // namespace bench
