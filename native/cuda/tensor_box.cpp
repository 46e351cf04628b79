#include "native/cuda/tensor_box.h"

#include "native/base/error.h"

namespace thalweg::cuda {

void check_tensor_box(const TensorBox& t) {
  const auto bad = [](const auto&... parts) { fail("BAD_TENSOR_MAP", "tensor map: ", parts...); };
  if (t.rank < 1 || t.rank > 5) bad("rank ", t.rank, ", expected 1 to 5");
  if (t.element_bytes != 2 && t.element_bytes != 4) bad("elements of ", t.element_bytes, " bytes, expected 2 or 4");
  if (t.base == nullptr || reinterpret_cast<uintptr_t>(t.base) % 16 != 0)
    bad("base address ", t.base, ", expected a multiple of 16");
  for (uint32_t i = 0; i < t.rank; i++) {
    if (t.size[i] == 0 || t.size[i] > uint64_t{1} << 32) bad("size[", i, "] is ", t.size[i], ", expected 1 to 2^32");
    if (t.box[i] == 0 || t.box[i] > 256) bad("box[", i, "] is ", t.box[i], ", expected 1 to 256");
    if (i > 0 && (t.stride[i] % 16 != 0 || t.stride[i] == 0 || t.stride[i] >= uint64_t{1} << 40))
      bad("stride[", i, "] is ", t.stride[i], " bytes, expected a multiple of 16 below 2^40");
  }
  const uint32_t row = t.box[0] * t.element_bytes;
  if (row % 16 != 0) bad("box[0] is ", row, " bytes, expected a multiple of 16");
  constexpr uint32_t kSpan[] = {0, 32, 64, 128};
  const uint32_t span = kSpan[static_cast<int>(t.swizzle)];
  if (span != 0 && row > span) bad("box[0] is ", row, " bytes, expected at most the ", span, " of its swizzle");
}

}  // namespace thalweg::cuda
