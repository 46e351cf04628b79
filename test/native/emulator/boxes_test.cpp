#include "test/native/emulator/copies_support.h"
#include "test/native/emulator/wgmma_support.h"

using namespace check;
using namespace thalweg::emulator;

namespace {

constexpr CopyTiming kTimings[] = {CopyTiming::AtOnce, CopyTiming::Random, CopyTiming::Late};
constexpr uint32_t kBarrier = 96 * 1024;
constexpr size_t kShared = 97 * 1024;

/** A tensor of random sizes up to rank 5, and a box somewhere about it. */
struct RandomBox {
  std::vector<uint64_t> sizes, strides;  // strides of dimensions 1 and up, bytes
  std::vector<uint32_t> box, steps;
  std::vector<int32_t> at;
  int swizzle;
  size_t elements;  // of the allocation
  uint32_t shared;  // where in shared memory

  template <class R>
  RandomBox(R& random, bool store) {
    const size_t rank = 1 + random() % 5;
    swizzle = static_cast<int>(random() % 4);
    uint64_t stride = 0;
    for (size_t d = 0; d < rank; d++) {
      sizes.push_back(1 + random() % (d == 0 ? 100 : 9));
      const uint32_t inner = swizzle == 0 ? 8 * (1 + static_cast<uint32_t>(random() % 8)) : 8u << swizzle;
      box.push_back(d == 0 ? inner : 1 + static_cast<uint32_t>(random() % 4));
      steps.push_back(d == 0 || random() % 3 ? 1 : 1 + static_cast<uint32_t>(random() % 3));
      const int32_t lowest = store ? 0 : -static_cast<int32_t>(box[d]) - 1;
      at.push_back(lowest + static_cast<int32_t>(random() % (sizes[d] + static_cast<uint64_t>(-lowest) + 2)));
      if (d + 1 < rank) {
        stride = d == 0 ? (sizes[0] * 2 + 15) / 16 * 16 : stride * sizes[d];
        stride += 16 * (random() % 3);
        strides.push_back(stride);
      }
    }
    elements = rank == 1 ? sizes[0] : stride / 2 * sizes[rank - 1];
    shared = 128 * static_cast<uint32_t>(random() % 16);
  }
  Map map(const void* address, int type = kBfloat16) const {
    return {type, address, sizes, strides, box, swizzle, steps};
  }

  /** Calls f(index in the box's order, index of the tensor's element or -1) for each element of the box: the nested
   * loops. */
  template <class F>
  void each(F&& f) const {
    std::vector<uint32_t> counts;
    uint32_t total = 1;
    for (size_t d = 0; d < box.size(); d++) {
      counts.push_back(d == 0 ? box[0] : (box[d] + steps[d] - 1) / steps[d]);
      total *= counts[d];
    }
    for (uint32_t i = 0; i < total; i++) {
      uint32_t rest = i;
      int64_t element = 0;
      bool inside = true;
      for (size_t d = 0; d < box.size(); d++) {
        const int64_t c = at[d] + static_cast<int64_t>(rest % counts[d]) * steps[d];
        rest /= counts[d];
        inside = inside && c >= 0 && c < static_cast<int64_t>(sizes[d]);
        element += c * (d == 0 ? 1 : static_cast<int64_t>(strides[d - 1] / 2));
      }
      f(i, inside ? element : -1);
    }
  }
  /** Where element i of the box lies in shared memory. */
  uint32_t place(uint32_t i) const {
    const uint32_t address = shared + 2 * i, line = address / 128, piece = address / 16 % 8;
    const uint32_t mask = swizzle == 3 ? 7 : swizzle == 2 ? 3 : swizzle == 1 ? 1 : 0;
    return line * 128 + (piece ^ (line & mask)) * 16 + address % 16;
  }
};

}  // namespace

TEST("boxes of every rank and swizzle land where the nested loops say, zeros outside") {
  for (int round = 0; round < 150; round++) {
    auto random = random_of(static_cast<uint64_t>(round));
    Cluster cluster(kTimings[round % 3], kShared);
    const RandomBox box(random, false);
    Global<uint16_t> tensor(cluster, box.elements);
    for (size_t i = 0; i < tensor.count; i++) tensor.data[i] = static_cast<uint16_t>(1 + random() % 60000);
    const Map map = box.map(tensor.data);
    const uint32_t bytes = decode_tensor_map(map.bytes).box_bytes();
    cluster.barrier(kBarrier, bytes);
    cluster.copies->load_box({0, 0}, box.shared, map.bytes, box.at, kBarrier);
    cluster.drain();
    CHECK(cluster.over(kBarrier), "the bytes of a clipped box count in full");
    uint32_t count = 0;
    box.each([&](uint32_t i, int64_t element) {
      CHECK(cluster.shared[0]->half(box.place(i)) == (element < 0 ? 0 : tensor.data[element]), "round ", round,
            " element ", i);
      count++;
    });
    CHECK(count * 2 == bytes);
    CHECK(cluster.shared[0]->half(box.shared + bytes) == 0xffff);
  }
}

TEST("stores of boxes write what lies inside the tensor and nothing else") {
  for (int round = 0; round < 150; round++) {
    auto random = random_of(1000 + static_cast<uint64_t>(round));
    Cluster cluster(kTimings[round % 3], kShared);
    const RandomBox box(random, true);
    Global<uint16_t> tensor(cluster, box.elements);
    std::vector<uint16_t> want(tensor.count, 7);
    std::fill(tensor.data, tensor.data + tensor.count, uint16_t{7});
    const Map map = box.map(tensor.data);
    box.each([&](uint32_t i, int64_t element) {
      const auto value = static_cast<uint16_t>(random());
      cluster.shared[0]->set_half(box.place(i), value);
      if (element >= 0) want[static_cast<size_t>(element)] = value;
    });
    cluster.copies->store_box({0, 0}, map.bytes, box.at, box.shared);
    cluster.copies->commit_bulk({0, 0});
    cluster.copies->wait_bulk({0, 0}, 0, false);
    CHECK(std::equal(want.begin(), want.end(), tensor.data), "round ", round);
  }
}

TEST("additions of boxes add once to each element inside") {
  for (const CopyTiming timing : kTimings) {
    Cluster cluster(timing, kShared);
    Global<float> tensor(cluster, 12 * 5);
    std::fill(tensor.data, tensor.data + 60, 100.0f);
    const Map map(kFloat32, tensor.data, {10, 5}, {48}, {8, 4}, 1);  // rows of 32 bytes, swizzled
    for (uint32_t row = 0; row < 4; row++)
      for (uint32_t j = 0; j < 8; j++) {
        const float value = static_cast<float>(10 * row + j);
        std::memcpy(cluster.at(32 * row + 16 * (j / 4) + 4 * (j % 4)), &value,
                    4);  // one line of 128 bytes: even, as it is
      }
    const std::vector<int32_t> at{4, 2};
    cluster.copies->add_box({0, 0}, map.bytes, at, 0);
    cluster.copies->add_box({0, 1}, map.bytes, at, 0);
    cluster.copies->finish();
    for (int row = 0; row < 5; row++)
      for (int j = 0; j < 12; j++) {
        const bool inside = row >= 2 && j >= 4 && j < 10;
        CHECK(tensor.data[12 * row + j] == 100 + (inside ? 2.0f * static_cast<float>(10 * (row - 2) + j - 4) : 0), row,
              " ", j);
      }
  }
}

TEST("a multicast lands at one offset in each block of the mask and signals each block's mbarrier") {
  for (int round = 0; round < 12; round++) {
    auto random = random_of(static_cast<uint64_t>(round));
    Cluster cluster(kTimings[round % 3], kShared, 4);
    Global<uint16_t> tensor(cluster, 64 * 8);
    for (size_t i = 0; i < tensor.count; i++) tensor.data[i] = static_cast<uint16_t>(i);
    const Map map(kBfloat16, tensor.data, {64, 8}, {128}, {64, 8}, 3);
    for (uint32_t rank = 0; rank < 4; rank++) cluster.barrier(kBarrier, 1024, rank);
    const std::vector<int32_t> at{0, 0};
    const auto mask = static_cast<uint16_t>(1 + random() % 15);
    cluster.copies->load_box({2, 5}, 2048, map.bytes, at, kBarrier, mask);
    int landed = 0;
    while (cluster.copies->step(cluster.random, true)) {
      int over = 0;
      for (uint32_t rank = 0; rank < 4; rank++) over += cluster.over(kBarrier, rank);
      CHECK(over == ++landed);  // one block at a time
    }
    CHECK(round % 3 == 0 || landed == __builtin_popcount(mask));
    for (uint32_t rank = 0; rank < 4; rank++) {
      const bool named = mask >> rank & 1;
      CHECK(cluster.over(kBarrier, rank) == named);
      CHECK(cluster.shared[rank]->half(2048 + 128 + 16) == (named ? 64 : 0xffff));  // row 1's first piece is at piece 1
    }
  }
}

TEST("boxes fault on coordinates, alignment, fences and blocks the manual leaves undefined") {
  Cluster cluster(CopyTiming::Late, kShared, 2);
  Global<uint16_t> tensor(cluster, 64 * 8), small(cluster, 64 * 4);
  const Map map(kBfloat16, tensor.data, {64, 8}, {128}, {64, 8}, 3),
      narrow(kBfloat16, tensor.data, {64, 8}, {128}, {32, 8}, 3),
      longer(kBfloat16, small.data, {64, 5}, {128}, {64, 8}, 3);
  cluster.barrier(kBarrier, 1 << 14);
  Copies& copies = *cluster.copies;
  const Issuer who{0, 0};
  const std::vector<int32_t> at{0, 0}, one{0}, before{0, -1};
  CHECK_FAULT("expected a multiple of 128", copies.load_box(who, 64, map.bytes, at, kBarrier));
  CHECK_FAULT("1 coordinates of a tensor of rank 2", copies.load_box(who, 0, map.bytes, one, kBarrier));
  CHECK_FAULT("as wide as the swizzle", copies.load_box(who, 0, narrow.bytes, at, kBarrier));
  CHECK_FAULT("reads outside of global", copies.load_box(who, 0, longer.bytes, at, kBarrier));
  CHECK_FAULT("coordinate -1", copies.store_box(who, map.bytes, before, 0));
  CHECK_FAULT("not emulated", copies.add_box(who, map.bytes, at, 0));
  CHECK_FAULT("rank 2 in a cluster of 2", copies.load_box(who, 0, map.bytes, at, kBarrier, uint16_t{5}));
  CHECK_FAULT("empty mask", copies.load_box(who, 0, map.bytes, at, kBarrier, uint16_t{0}));
  CHECK_FAULT("no mbarrier is initialised", copies.load_box(who, 0, map.bytes, at, kBarrier, uint16_t{3}));
  mbarrier_init(cluster.at(kBarrier, 1), 1);
  cluster.proxies[1]->barrier_init(33, kBarrier);
  CHECK_FAULT("thread 33 that initialised it never", copies.load_box(who, 0, map.bytes, at, kBarrier, uint16_t{2}));
  cluster.proxies[1]->barrier_fence(33);
  copies.load_box(who, 0, map.bytes, at, kBarrier, uint16_t{2});
  CHECK_FAULT("rank 1 exits while a bulk load still writes", copies.leave(1));
  CHECK_FAULT("mbarrier.init at offset", cluster.proxies[1]->barrier_init(0, kBarrier));
  CHECK_FAULT("over a live mbarrier", cluster.proxies[1]->ordinary_write(0, kBarrier + 4, 4));
  cluster.proxies[1]->ordinary_write(0, kBarrier + 8, 4);  // its neighbour
}

TEST("a box loaded with each swizzle is wgmma's operand, K-major and MN-major") {
  for (int n = 8; n <= 256; n += 8) {
    auto random = random_of(static_cast<uint64_t>(n));
    const int swizzle = 1 + static_cast<int>(random() % 3), width = 8 << swizzle;  // elements of a row
    const Mode mode = swizzle == 3 ? Mode::B128 : swizzle == 2 ? Mode::B64 : Mode::B32;
    const uint32_t pattern = 128u << swizzle;
    const Matrix left(64, 16, random), right(n, 16, random), want = product(left, right);
    for (const bool mn_major : {false, true}) {
      Cluster cluster(kTimings[random() % 3], kShared);
      // K-major: [n, width] in global memory, of which k is the first 16 columns. MN-major: [16, n].
      const uint64_t row = mn_major ? (static_cast<uint64_t>(n) + 7) / 8 * 8 : static_cast<uint64_t>(width);
      const uint64_t rows = mn_major ? 16 : static_cast<uint64_t>(n);
      Global<uint16_t> tensor(cluster, row * rows);
      for (int i = 0; i < n; i++)
        for (int k = 0; k < 16; k++)
          tensor.data[mn_major ? static_cast<size_t>(k) * row + static_cast<size_t>(i)
                               : static_cast<size_t>(i) * row + static_cast<size_t>(k)] = bf16_of(right(i, k));
      const uint32_t box_rows = mn_major ? 16 : static_cast<uint32_t>(n);
      const Map map(kBfloat16, tensor.data, {row, rows}, {row * 2}, {static_cast<uint32_t>(width), box_rows}, swizzle);
      const uint32_t boxes = mn_major ? static_cast<uint32_t>((n + width - 1) / width) : 1,
                     bytes = box_rows * static_cast<uint32_t>(width) * 2;
      cluster.barrier(kBarrier, boxes * bytes);
      for (uint32_t b = 0; b < boxes; b++) {
        const std::vector<int32_t> at{static_cast<int32_t>(b) * width, 0};
        cluster.copies->load_box({0, 0}, b * bytes, map.bytes, at, kBarrier);
      }
      cluster.drain();
      CHECK(cluster.over(kBarrier));
      // 8 rows of the matrix lie a pattern apart when K-major; 8 values of k when MN-major, the boxes `bytes` apart.
      const Canonical b{mode, mn_major, 0, mn_major ? bytes : 16, pattern};
      const WgmmaOp op{n, true, false, mn_major, false, false, false, 0, b.descriptor()};
      CHECK(wgmma(op, *cluster.shared[0], cluster.proxies[0].get(), &left).values == want.values, "n ", n, " swizzle ",
            swizzle, " MN-major ", mn_major);
    }
  }
}

TEST_MAIN()
