#include "native/emulator/tensor_map.h"

#include "test/native/emulator/support.h"

using namespace check;
using namespace thalweg::emulator;

namespace {

/** Arguments of cuTensorMapEncodeTiled that it takes; tests break one of them. */
struct Arguments {
  int type = 9;  // bfloat16
  uint32_t rank = 2;
  uint64_t address = 0x10000;
  std::array<uint64_t, 5> sizes{100, 50, 2, 2, 2}, strides{208, 208 * 50, 208 * 100, 208 * 200, 0};
  std::array<uint32_t, 5> box{64, 32, 1, 1, 1}, element_strides{1, 1, 1, 1, 1};
  int interleave = 0, swizzle = 3, promotion = 2, fill = 0;
  alignas(64) std::array<std::byte, 128> map{};

  std::string refusal(std::byte* out = nullptr) {
    std::string why;
    const int result = encode_tensor_map(out ? out : map.data(), type, rank, reinterpret_cast<const void*>(address),
                                         sizes.data(), strides.data(), box.data(), element_strides.data(), interleave,
                                         swizzle, promotion, fill, &why);
    CHECK((result == 0) == why.empty() && result <= 1);
    return why;
  }
};

/** Fails unless the change makes the arguments refused with `part` in the reason. */
template <class F>
void check_refused(const char* part, F&& change) {
  Arguments a;
  change(a);
  const std::string why = a.refusal();
  CHECK(why.find(part) != std::string::npos, "expected a refusal with \"", part, "\", found \"", why, "\"");
}

}  // namespace

TEST("tensor maps come back as they were encoded") {
  Arguments a;
  a.rank = 5;
  a.sizes = {1ull << 32, 7, 1, 3, 4};
  a.strides = {(1ull << 40) - 16, 32, 48, 64, 0};
  a.box = {64, 256, 1, 2, 3};
  a.element_strides = {1, 8, 1, 2, 1};
  CHECK(a.refusal().empty());
  const TensorMap map = decode_tensor_map(a.map.data());
  CHECK(map.address == a.address && map.rank == 5 && map.element_bytes == 2 && map.type == TensorType::BFloat16);
  CHECK(map.swizzle == TensorSwizzle::Bytes128);
  CHECK(map.strides == (std::array<uint64_t, 5>{2, (1ull << 40) - 16, 32, 48, 64}));
  CHECK(map.sizes == a.sizes && map.box == a.box && map.element_strides == a.element_strides);
  CHECK(map.box_bytes() == 64 * 2 * 32 * 1 * 1 * 3);  // 256 / 8 and 2 / 2
}

TEST("tensor maps refuse what the driver refuses") {
  CHECK(Arguments().refusal().empty());
  Arguments a;
  CHECK(a.refusal(a.map.data() + 32).find("aligned to 64") != std::string::npos);
  check_refused("tensorDataType", [](Arguments& a) { a.type = 13; });
  check_refused("tensorRank", [](Arguments& a) { a.rank = 0; });
  check_refused("tensorRank", [](Arguments& a) { a.rank = 6; });
  check_refused("globalAddress", [](Arguments& a) { a.address += 8; });
  check_refused("globalAddress", [](Arguments& a) { a.address = 0; });
  check_refused("globalDim[1]", [](Arguments& a) { a.sizes[1] = 0; });
  check_refused("globalDim[0]", [](Arguments& a) { a.sizes[0] = (1ull << 32) + 1; });
  check_refused("globalStrides[0]", [](Arguments& a) { a.strides[0] = 200; });
  check_refused("globalStrides[0]", [](Arguments& a) { a.strides[0] = 1ull << 40; });
  check_refused("boxDim[1]", [](Arguments& a) { a.box[1] = 257; });
  check_refused("boxDim[1]", [](Arguments& a) { a.box[1] = 0; });
  check_refused("multiple of 16", [](Arguments& a) { a.box[0] = 12; });
  check_refused("the swizzle takes up to 128", [](Arguments& a) { a.box[0] = 72; });
  check_refused("the swizzle takes up to 64", [](Arguments& a) { a.swizzle = 2; });
  check_refused("the swizzle takes up to 32", [](Arguments& a) { a.swizzle = 1; });
  check_refused("elementStrides[1]", [](Arguments& a) { a.element_strides[1] = 9; });
  check_refused("elementStrides[0]", [](Arguments& a) { a.element_strides[0] = 0; });
  check_refused("interleave", [](Arguments& a) { a.interleave = 1; });
  check_refused("swizzle is 4", [](Arguments& a) { a.swizzle = 4; });
  check_refused("l2Promotion", [](Arguments& a) { a.promotion = 4; });
  check_refused("oobFill", [](Arguments& a) { a.fill = 1; });
  // The last dimension has no stride of its own to refuse.
  Arguments b;
  b.strides[1] = 3;
  CHECK(b.refusal().empty());
}

TEST("a bad pointer is no tensor map") {
  alignas(64) std::array<std::byte, 256> bytes{};
  CHECK_FAULT("no tensor map", decode_tensor_map(bytes.data()));
  CHECK_FAULT("aligned to 64", decode_tensor_map(bytes.data() + 16));
}

TEST("a box has a row for each index of its outer dimensions, clipped to the tensor") {
  Arguments a;
  a.rank = 3;
  a.swizzle = 0;
  a.sizes = {10, 3, 2, 0, 0};
  a.strides = {32, 96, 0, 0, 0};
  a.box = {8, 2, 2, 1, 1};
  CHECK(a.refusal().empty());
  const auto rows = decode_tensor_map(a.map.data()).rows({-3, 2, 1, 0, 0});
  CHECK(rows.size() == 4);
  // Row (2, 1): elements 0 to 4 of the tensor are the box's 3 to 7. Dimension 1 ends at 3, dimension 2 at 2.
  CHECK(rows[0].first == 3 && rows[0].elements == 5 && rows[0].offset == 0 &&
        rows[0].address == a.address + 2 * 32 + 96);
  CHECK(rows[1].elements == 0 && rows[1].offset == 16 && rows[2].elements == 0 && rows[3].elements == 0);
  const auto end = decode_tensor_map(a.map.data()).rows({6, 0, 0, 0, 0});
  CHECK(end[3].first == 0 && end[3].elements == 4 && end[3].offset == 48 && end[3].address == a.address + 12 + 32 + 96);
  const auto far = decode_tensor_map(a.map.data()).rows({10, -2147483647 - 1, 2147483647, 0, 0});
  for (const auto& row : far) CHECK(row.elements == 0);
}

TEST("swizzles exchange the 16-byte pieces the manual's figures show") {
  // 128 bytes: piece x of row y of 128 bytes lies at piece x ^ (y % 8); 64: x ^ (y % 4) within its half; 32: x ^ (y %
  // 2).
  for (uint32_t y = 0; y < 16; y++)
    for (uint32_t x = 0; x < 8; x++) {
      const uint32_t at = 128 * y + 16 * x + 5;
      CHECK(swizzled(at, TensorSwizzle::None) == at);
      CHECK(swizzled(at, TensorSwizzle::Bytes128) == 128 * y + 16 * (x ^ (y % 8)) + 5);
      CHECK(swizzled(at, TensorSwizzle::Bytes64) == 128 * y + 64 * (x / 4) + 16 * ((x % 4) ^ (y % 4)) + 5);
      CHECK(swizzled(at, TensorSwizzle::Bytes32) == 128 * y + 32 * (x / 2) + 16 * ((x % 2) ^ (y % 2)) + 5);
    }
}

TEST_MAIN()
