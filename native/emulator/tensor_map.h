#pragma once
#include <array>
#include <cstdint>
#include <string>
#include <vector>

/** Descriptions of tensors for bulk copies of boxes: cuTensorMapEncodeTiled's checks and our own encoding of its 128
 * bytes. Numbers of enumerators are the driver API's. */
namespace thalweg::emulator {

enum class TensorType : uint8_t {
  UInt8 = 0,
  UInt16,
  UInt32,
  Int32,
  UInt64,
  Int64,
  Float16,
  Float32,
  Float64,
  BFloat16,
  Float32Ftz,
  TFloat32,
  TFloat32Ftz
};
enum class TensorSwizzle : uint8_t { None = 0, Bytes32, Bytes64, Bytes128 };

/** A tensor map, decoded. Dimension 0 is the innermost: elements of one row lie side by side. */
struct TensorMap {
  uint64_t address;
  std::array<uint64_t, 5> sizes;    // elements
  std::array<uint64_t, 5> strides;  // bytes; strides[0] is an element's
  std::array<uint32_t, 5> box;      // elements
  std::array<uint32_t, 5> element_strides;
  uint32_t rank, element_bytes;
  TensorType type;
  TensorSwizzle swizzle;

  /** Bytes a box takes in shared memory and counts on an mbarrier, clipped or not. */
  uint32_t box_bytes() const;

  /** One row of a box: `elements` inner ones from `first` of the row on are inside the tensor, at `address`; they
   * belong at byte `offset` + first * element_bytes of the box. Rows that are all outside have none. */
  struct Row {
    uint32_t offset, first, elements;
    uint64_t address;
  };
  /** The rows of the box at `at` (at[0] innermost), in the order of the box. */
  std::vector<Row> rows(const std::array<int32_t, 5>& at) const;
};

/** cuTensorMapEncodeTiled: 0 (CUDA_SUCCESS) or 1 (CUDA_ERROR_INVALID_VALUE) and then the reason in *why unless null.
 * `strides` has rank - 1 entries, of dimensions 1 and up. Interleaved layouts and NaN fill are refused as not emulated.
 */
int encode_tensor_map(void* out128, int data_type, uint32_t rank, const void* address, const uint64_t* sizes,
                      const uint64_t* strides, const uint32_t* box, const uint32_t* element_strides, int interleave,
                      int swizzle, int l2_promotion, int out_of_bounds, std::string* why = nullptr);

/** Faults when no tensor map lies there (a bad pointer, a map that was overwritten) or the address is not aligned
 * to 64. */
TensorMap decode_tensor_map(const void* map);

/** The swizzle's place of the byte at `offset` of shared memory: the 16-byte pieces of a row of 32, 64 or 128 bytes
 * change places by a pattern that repeats each 256, 512 or 1024 bytes of the address. */
constexpr uint32_t swizzled(uint32_t offset, TensorSwizzle swizzle) {
  switch (swizzle) {
    case TensorSwizzle::None:
      return offset;
    case TensorSwizzle::Bytes32:
      return offset ^ (offset >> 3 & 0x10);
    case TensorSwizzle::Bytes64:
      return offset ^ (offset >> 3 & 0x30);
    default:
      return offset ^ (offset >> 3 & 0x70);
  }
}

}  // namespace thalweg::emulator
