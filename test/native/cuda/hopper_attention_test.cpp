// The sm_90a kernels of attention and its gradient against float64.
#include <array>
#include <set>

#include "native/cuda/kernels/hopper_attention_tiles.h"
#include "test/native/cuda/attention_command.h"

using namespace check;
using check::attention::check_problem;
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

TEST("the forward tiles are a permutation, sections first, then longest first, the heads of a group side by side") {
  struct Shape {
    int tiles, seq, heads, kv_heads, batch;
  };
  for (const Shape& s : {Shape{1, 1, 1, 1, 1}, {3, 500, 8, 2, 3}, {86, 16384, 12, 4, 3}, {342, 65536, 4, 4, 2}}) {
    const auto order = cuda::HopperTileOrder::of(s.tiles, s.seq, 64, s.heads, s.kv_heads, s.batch);
    std::set<std::array<int, 3>> seen;
    cuda::HopperTileOrder::Tile last{};
    for (int i = 0; i < order.count(); i++) {
      const auto tile = order.at(i);
      CHECK(tile.index >= 0 && tile.index < s.tiles && tile.head >= 0 && tile.head < s.heads && tile.sequence >= 0 &&
                tile.sequence < s.batch,
            "tile ", i, " is (", tile.index, ", ", tile.head, ", ", tile.sequence, ")");
      seen.insert({tile.index, tile.head, tile.sequence});
      const auto section = [&](const auto& t) {
        return (t.sequence * s.kv_heads + t.head / order.group) / order.section;
      };
      if (i > 0) {
        CHECK(section(tile) >= section(last), "tile ", i, " goes back to a section");
        CHECK(section(tile) > section(last) || tile.index <= last.index, "tile ", i, " is longer than the one before");
        if (i % order.group != 0)
          CHECK(tile.head == last.head + 1 && tile.index == last.index, "tile ", i, " leaves its group");
      }
      last = tile;
    }
    CHECK(static_cast<int>(seen.size()) == order.count() && order.count() == s.tiles * s.heads * s.batch,
          "some tile comes twice");
    for (int blocks : {1, 3, 132}) {
      std::set<int> turns;
      for (int round = 0; round < 5; round++)
        for (int block = 0; block < blocks; block++) turns.insert(cuda::HopperTileOrder::turn(round, block, blocks));
      CHECK(static_cast<int>(turns.size()) == 5 * blocks && *turns.begin() == 0 && *turns.rbegin() == 5 * blocks - 1,
            "the turns of ", blocks, " blocks are not the first numbers");
    }
  }
}

TEST("the Hopper attention and its gradient agree with float64, with the same bits on every schedule") {
  for (const Problem& c : kProblems) on_device(90, 3, [&] { check_problem(c, DType::BF16, c.scale()); });
}

TEST_MAIN()
