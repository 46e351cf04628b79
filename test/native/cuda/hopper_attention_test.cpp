// The sm_90a kernels of attention and its gradient against float64.
#include <array>
#include <set>

#include "native/cuda/kernels/hopper_attention_tiles.h"
#include "test/native/cuda/attention_command.h"

using namespace check;
using check::attention::Backward;
using check::attention::check_any_order;
using check::attention::check_bad_starts;
using check::attention::check_problem;
using check::attention::check_separation;
using check::attention::check_whole_sequences;
using check::attention::compare;
using check::attention::Doubles;
using check::attention::Forward;
using check::attention::kBf16;
using check::attention::Problem;
using check::attention::random_values;

namespace {

// Pairs of head dim 48 64 128, group 1 2 4 8, and length around the tiles of 64, 128 and 192.
const Problem kProblems[] = {
    {2, 1, 4, 2, 48},    {1, 63, 8, 1, 48},   {2, 64, 4, 1, 48},  {1, 65, 1, 1, 48},  {1, 200, 2, 1, 48},
    {1, 1, 8, 1, 64},    {2, 63, 2, 2, 64},   {1, 64, 2, 1, 64},  {1, 65, 4, 1, 64},  {1, 200, 8, 1, 64},
    {1, 513, 1, 1, 64},  {1, 1, 2, 1, 128},   {2, 63, 4, 1, 128}, {1, 64, 8, 1, 128}, {2, 65, 2, 2, 128},
    {1, 200, 4, 2, 128}, {1, 513, 2, 1, 128},
};

}  // namespace

TEST("the orders of tiles are permutations: sections first, then longest first, the heads of a group side by side") {
  using Order = cuda::HopperTileOrder;
  const auto check_order = [](const Order& order) {
    std::set<std::array<int, 3>> seen;
    Order::Tile last{};
    const int batch = order.pairs / order.kv_heads, heads = order.group * order.kv_heads;
    for (int i = 0; i < order.count(); i++) {
      const auto tile = order.at(i);
      CHECK(tile.index >= 0 && tile.index < order.tiles && tile.head >= 0 && tile.head < heads && tile.sequence >= 0 &&
                tile.sequence < batch,
            "tile ", i, " is (", tile.index, ", ", tile.head, ", ", tile.sequence, ")");
      seen.insert({tile.index, tile.head, tile.sequence});
      const auto section = [&](const auto& t) {
        return (t.sequence * order.kv_heads + t.head / order.group) / order.section;
      };
      if (i > 0) {
        CHECK(section(tile) >= section(last), "tile ", i, " goes back to a section");
        CHECK(section(tile) > section(last) || tile.index <= last.index, "tile ", i, " is longer than the one before");
        if (i % order.group != 0)
          CHECK(tile.head == last.head + 1 && tile.index == last.index, "tile ", i, " leaves its group");
      }
      last = tile;
    }
    CHECK(static_cast<int>(seen.size()) == order.count() && order.count() == order.tiles * heads * batch,
          "some tile comes twice");
  };
  struct Shape {
    int tiles, seq, heads, kv_heads, batch;
  };
  for (const Shape& s : {Shape{1, 1, 1, 1, 1}, {3, 500, 8, 2, 3}, {86, 16384, 12, 4, 3}, {342, 65536, 4, 4, 2}}) {
    for (bool documents : {false, true}) {
      const cuda::HopperWork work{s.seq, 64, s.heads, s.kv_heads, s.batch, documents};
      check_order(Order::of_queries(s.tiles, work));
      for (bool turns : {false, true}) check_order(Order::of_keys(work, turns, 132));
    }
  }
}

TEST("the Hopper attention and its gradient agree with float64, with the same bits on every schedule") {
  for (const Problem& c : kProblems) on_device(90, 3, [&] { check_problem(c, DType::BF16, c.scale()); });
}

TEST(
    "inside documents the Hopper attention and its gradient agree with float64, with the same bits on every schedule") {
  // Several tiles of keys that a warpgroup, a block or nobody passes over.
  const Problem problems[] = {{1, 420, 1, 1, 48}, {1, 520, 1, 1, 64}, {2, 200, 2, 1, 64}, {1, 300, 1, 1, 128}};
  for (int kind = 0; kind < check::attention::kStartKinds; kind++)
    on_device(90, 3, [&] {
      const Problem& c = problems[(kind + kind / 4) % 4];
      check_problem(c, DType::BF16, c.scale(), random_starts(c, kind, 3));
    });
}

TEST("a warpgroup passes over as many tiles of keys as another of its block needs") {
  // The first queries of a tile see the whole sequence before them, the last warpgroup's begin a document: it passes
  // over five tiles of 128 keys, or four at head dim 128.
  for (const auto& [dim, begins] : {std::pair{48, 640}, {64, 640}, {128, 576}}) {
    const Problem c{1, 700, 1, 1, dim};
    check::attention::Starts starts(static_cast<size_t>(c.rows()), 0);
    std::fill(starts.begin() + begins, starts.end(), begins);
    on_device(90, 3, [&] { check_problem(c, DType::BF16, c.scale(), starts); });
  }
}

TEST("dQ added in any order agrees with float64 too, and dK and dV have the bits they have in order") {
  for (const Problem& c : kProblems) on_device(90, 3, [&] { check_any_order(c, DType::BF16, c.scale()); });
  const Problem problems[] = {{1, 420, 1, 1, 48}, {2, 200, 2, 1, 64}, {1, 300, 1, 1, 128}};
  for (int kind : {1, 3, 5, 6})
    on_device(90, 3, [&] {
      const Problem& c = problems[kind % 3];
      check_any_order(c, DType::BF16, c.scale(), random_starts(c, kind, 3));
    });
}

TEST("one document over each sequence gives the bits of no documents") {
  for (const Problem& c : {Problem{1, 330, 2, 1, 64}, Problem{1, 200, 1, 1, 128}})
    check_whole_sequences(c, DType::BF16, 90);
}

TEST("nothing of one document reaches another") {
  check_separation({1, 420, 1, 1, 64}, DType::BF16, 90, 6);
  check_separation({2, 200, 1, 1, 128}, DType::BF16, 90, 5);
}

TEST("starts that the host refuses do no harm on the device") {
  for (int64_t dim : {64, 128}) check_bad_starts({1, 700, 1, 1, dim}, DType::BF16, 90);
}

TEST("the Hopper gradient is the slope of y . dy, by finite differences in float64") {
  const Problem c{1, 20, 2, 1, 48};
  const Doubles qkv = random_values(c.rows() * c.qkv_width(), DType::BF16, 1),
                dy = random_values(c.rows() * c.y_width(), DType::BF16, 2);
  Forward f(c, DType::BF16, qkv);
  Backward b(c, DType::BF16, dy);
  on_device(90, 2, [&] {
    f.run(c, c.scale());
    b.run(c, f, c.scale());
  });
  const Doubles found = b.dqkv.get();
  const auto loss = [&](int64_t at, double change) {
    Doubles moved = qkv;
    moved[at] += change;
    const auto y = check::attention::reference(c, moved, {}, c.scale()).y;
    double sum = 0;
    for (size_t i = 0; i < y.size(); i++) sum += y[i] * dy[i];
    return sum;
  };
  std::mt19937_64 random(seed());
  double error2 = 0, slope2 = 0;
  for (int i = 0; i < 120; i++) {
    const auto at = static_cast<int64_t>(random() % qkv.size());
    const double slope = (loss(at, 1e-4) - loss(at, -1e-4)) / 2e-4;
    error2 += (found[at] - slope) * (found[at] - slope), slope2 += slope * slope;
  }
  // bf16: P, dS and the result are rounded (2^-9 / sqrt 3 each); a wrong factor or term is off by tens of percent.
  CHECK(std::sqrt(error2) <= 1e-2 * std::sqrt(slope2), "error ", std::sqrt(error2), " of ", std::sqrt(slope2));
}

TEST("a NaN key reaches every later query of its group and no earlier one, at every edge of a tile") {
  for (int64_t dim : {64, 128}) {
    const Problem c{1, 260, 2, 1, dim};
    const Doubles good = random_values(c.rows() * c.qkv_width(), DType::BF16, 1);
    for (int64_t bad : {0, 63, 64, 127, 128, 191, 192, 255, 256, 259}) {
      Doubles qkv = good;
      qkv[bad * c.qkv_width() + c.heads * c.dim + 3] = std::numeric_limits<double>::quiet_NaN();
      Forward f(c, DType::BF16, qkv);
      on_device(90, 3, [&] { f.run(c, c.scale()); });
      const Doubles y = f.y.get();
      for (int64_t r = 0; r < c.rows(); r++)
        CHECK(std::isnan(y[r * c.y_width()]) == (r >= bad), "dim ", dim, ", key ", bad, ", row ", r);
    }
  }
}

TEST("a change of dy in one row changes dq of that row, dk and dv up to it, and nothing else") {
  for (int64_t dim : {64, 128}) {
    const Problem c{1, 260, 2, 2, dim};
    const Doubles qkv = random_values(c.rows() * c.qkv_width(), DType::BF16, 1),
                  dy = random_values(c.rows() * c.y_width(), DType::BF16, 2);
    Forward f(c, DType::BF16, qkv);
    on_device(90, 3, [&] { f.run(c, c.scale()); });
    const auto gradient = [&](const Doubles& of) {
      Backward b(c, DType::BF16, of);
      on_device(90, 3, [&] { b.run(c, f, c.scale()); });
      return b.dqkv.get();
    };
    const Doubles before = gradient(dy);
    for (int64_t at : {1, 63, 64, 127, 128, 191, 259}) {
      Doubles moved = dy;
      for (int64_t d = 0; d < dim; d++) moved[at * c.y_width() + d] = 64;  // head 0
      const Doubles after = gradient(moved);
      int64_t changes = 0;
      for (int64_t r = 0; r < c.rows(); r++)
        for (int64_t part = 0; part < 6; part++) {  // q heads, k heads, v heads: two each
          const auto from = r * c.qkv_width() + part * dim;
          const bool changed = !std::equal(before.begin() + from, before.begin() + from + dim, after.begin() + from);
          const bool may = part % 2 == 0 && (part == 0 ? r == at : r <= at);
          CHECK(may || !changed, "dim ", dim, ", dy row ", at, ", row ", r, " part ", part, " changed");
          // The query itself and the key on the diagonal surely; some others by less than bf16 shows.
          CHECK(changed || !may || part == 2 || r != at, "dim ", dim, ", dy row ", at, ", part ", part,
                " did not change");
          changes += changed ? 1 : 0;
        }
      CHECK(changes >= 9 * (2 * at + 3) / 10 - 1, "dim ", dim, ", dy row ", at, ": only ", changes, " changes");
    }
  }
}

TEST("on Hopper too, scores far beyond the range of exp do not overflow, and rising scores move the maximum") {
  on_device(90, 3, [] {
    for (bool rising : {false, true}) {
      const Problem c{1, 400, 1, 1, 64};
      Doubles qkv = random_values(c.rows() * c.qkv_width(), DType::BF16, 1);
      for (int64_t r = 0; r < c.rows(); r++) {
        double &q = qkv[r * c.qkv_width()], &k = qkv[r * c.qkv_width() + c.dim];
        if (rising)  // towards earlier keys, the way the kernel goes: every tile outgrows the one before
          q = 4, k = 2 * std::floor(static_cast<double>(c.rows() - r) / 2);
        else
          q = k = r % 2 ? 64 : 72;
      }
      const auto want = check::attention::reference(c, qkv, {}, c.scale());
      Forward f(c, DType::BF16, qkv);
      f.run(c, c.scale());
      compare(rising ? "rising y" : "large y", f.y.get(), want.y, kBf16);
    }
  });
}

TEST("where the Hopper kernels do not apply, others do: other head dims, scales and capabilities") {
  on_device(90, 2, [] {
    check_problem({1, 70, 2, 1, 80}, DType::BF16, 0.1f);
    check_problem({1, 70, 2, 1, 64}, DType::BF16, -0.1f);
  });
  on_device(100, 2, [] { check_problem({1, 70, 2, 1, 64}, DType::BF16, 0.125f); });
}

TEST("kernels that add in a fixed order anyway ignore the leave not to") {
  for (int capability : {80, 90, 100})
    on_device(capability, 2, [capability] {
      for (DType act : {DType::F32, DType::BF16}) {
        const bool hopper = capability == 90 && act == DType::BF16;
        check_any_order({1, 70, 2, 1, hopper ? 80 : 64}, act, 0.125f, {}, true);
      }
    });
}

TEST_MAIN()
