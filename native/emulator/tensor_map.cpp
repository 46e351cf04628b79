#include "native/emulator/tensor_map.h"

#include <algorithm>
#include <cstring>
#include <sstream>

#include "native/emulator/fault.h"

namespace thalweg::emulator {

namespace {

constexpr uint64_t kMagic = 0x70616d5f736e6574;  // "tens_map"
constexpr std::array<uint32_t, 13> kElementBytes = {1, 2, 4, 4, 8, 8, 2, 4, 8, 2, 4, 4, 4};

/** What lies in the 128 bytes. */
struct Encoded {
  uint64_t magic, address;
  std::array<uint64_t, 5> sizes, strides;
  std::array<uint16_t, 5> box;
  std::array<uint8_t, 5> element_strides;
  uint8_t rank, type, swizzle;
};
static_assert(sizeof(Encoded) <= 128);

}  // namespace

uint32_t TensorMap::box_bytes() const {
  uint32_t bytes = element_bytes * box[0];
  for (uint32_t d = 1; d < rank; d++) bytes *= (box[d] + element_strides[d] - 1) / element_strides[d];
  return bytes;
}

std::vector<TensorMap::Row> TensorMap::rows(const std::array<int32_t, 5>& at) const {
  std::vector<Row> out;
  // Of the innermost dimension, the part inside the tensor. Its element stride is ignored without interleaving.
  const int64_t from = std::max<int64_t>(at[0], 0);
  const int64_t to = std::min(static_cast<int64_t>(at[0]) + box[0], static_cast<int64_t>(sizes[0]));
  std::array<uint32_t, 5> counts{1, 1, 1, 1, 1}, index{};
  uint32_t total = 1;
  for (uint32_t d = 1; d < rank; d++) total *= counts[d] = (box[d] + element_strides[d] - 1) / element_strides[d];
  out.reserve(total);
  for (uint32_t row = 0; row < total; row++) {
    bool inside = to > from;
    uint64_t where = address + static_cast<uint64_t>(from) * element_bytes;
    for (uint32_t d = 1; d < rank; d++) {
      const int64_t coordinate = at[d] + static_cast<int64_t>(index[d]) * element_strides[d];
      inside = inside && coordinate >= 0 && coordinate < static_cast<int64_t>(sizes[d]);
      where += static_cast<uint64_t>(coordinate) * strides[d];
    }
    out.push_back({row * box[0] * element_bytes, inside ? static_cast<uint32_t>(from - at[0]) : 0,
                   inside ? static_cast<uint32_t>(to - from) : 0, where});
    for (uint32_t d = 1; d < rank && ++index[d] == counts[d]; d++) index[d] = 0;
  }
  return out;
}

int encode_tensor_map(void* out128, int data_type, uint32_t rank, const void* address, const uint64_t* sizes,
                      const uint64_t* strides, const uint32_t* box, const uint32_t* element_strides, int interleave,
                      int swizzle, int l2_promotion, int out_of_bounds, std::string* why) {
  const auto refuse = [&](const auto&... parts) {
    std::ostringstream text;
    (text << ... << parts);
    if (why) *why = text.str();
    return 1;
  };
  if (!out128 || reinterpret_cast<uintptr_t>(out128) % 64 != 0) return refuse("tensorMap is not aligned to 64");
  if (data_type < 0 || data_type >= static_cast<int>(kElementBytes.size()))
    return refuse("tensorDataType is ", data_type, ", expected 0 to 12");
  if (rank < 1 || rank > 5) return refuse("tensorRank is ", rank, ", expected 1 to 5");
  if (interleave != 0) return refuse("interleave is ", interleave, ": not emulated, expected 0 (none)");
  if (swizzle < 0 || swizzle > 3) return refuse("swizzle is ", swizzle, ", expected 0 to 3");
  if (l2_promotion < 0 || l2_promotion > 3) return refuse("l2Promotion is ", l2_promotion, ", expected 0 to 3");
  if (out_of_bounds != 0) return refuse("oobFill is ", out_of_bounds, ": not emulated, expected 0 (zeros)");
  if (!address || reinterpret_cast<uintptr_t>(address) % 16 != 0) return refuse("globalAddress is not aligned to 16");
  if (!sizes || !box || !element_strides || (rank > 1 && !strides)) return refuse("an array is null");
  const uint32_t element = kElementBytes[static_cast<size_t>(data_type)];
  Encoded e{};
  e.magic = kMagic;
  e.address = reinterpret_cast<uintptr_t>(address);
  e.rank = static_cast<uint8_t>(rank);
  e.type = static_cast<uint8_t>(data_type);
  e.swizzle = static_cast<uint8_t>(swizzle);
  e.strides[0] = element;
  for (uint32_t d = 0; d < rank; d++) {
    if (sizes[d] < 1 || sizes[d] > 1ull << 32)
      return refuse("globalDim[", d, "] is ", sizes[d], ", expected 1 to 2^32");
    if (box[d] < 1 || box[d] > 256) return refuse("boxDim[", d, "] is ", box[d], ", expected 1 to 256");
    if (element_strides[d] < 1 || element_strides[d] > 8)
      return refuse("elementStrides[", d, "] is ", element_strides[d], ", expected 1 to 8");
    if (d > 0 && (strides[d - 1] % 16 != 0 || strides[d - 1] >= 1ull << 40))
      return refuse("globalStrides[", d - 1, "] is ", strides[d - 1], ", expected a multiple of 16 below 2^40");
    e.sizes[d] = sizes[d];
    e.box[d] = static_cast<uint16_t>(box[d]);
    e.element_strides[d] = static_cast<uint8_t>(element_strides[d]);
    if (d > 0) e.strides[d] = strides[d - 1];
  }
  const uint32_t inner = box[0] * element;
  if (inner % 16 != 0) return refuse("boxDim[0] makes rows of ", inner, " bytes, expected a multiple of 16");
  if (swizzle != 0 && inner > 16u << swizzle)
    return refuse("boxDim[0] makes rows of ", inner, " bytes, the swizzle takes up to ", 16u << swizzle);
  std::memset(out128, 0, 128);
  std::memcpy(out128, &e, sizeof e);
  return 0;
}

TensorMap decode_tensor_map(const void* map) {
  if (reinterpret_cast<uintptr_t>(map) % 64 != 0) fault("the tensor map's address is not aligned to 64");
  Encoded e;
  std::memcpy(&e, map, sizeof e);
  if (e.magic != kMagic) fault("no tensor map lies at the address given (made by cuTensorMapEncodeTiled?)");
  TensorMap t{};
  t.address = e.address;
  t.sizes = e.sizes;
  t.strides = e.strides;
  t.rank = e.rank;
  t.element_bytes = kElementBytes[e.type];
  for (int d = 0; d < 5; d++) {
    t.box[d] = e.box[d];
    t.element_strides[d] = e.element_strides[d];
  }
  t.type = static_cast<TensorType>(e.type);
  t.swizzle = static_cast<TensorSwizzle>(e.swizzle);
  return t;
}

}  // namespace thalweg::emulator
