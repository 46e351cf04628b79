#pragma once
#include <string_view>
#include <vector>

/** The PTX that nvcc leaves inside a host object (nvcc --no-compress, code=compute_XY). */
namespace thalweg::emulator {

struct PtxImage {
  int capability;  // 10 * major + minor
  std::string_view text;
};

/** Every PTX of the fat binary behind `wrapper`, which is what __cudaRegisterFatBinary is given. The layout (a header
 * of 16 bytes, then entries with headers of their own) is documented nowhere; it is checked by its magic numbers.
 * Errors: a Fault for other magic numbers or compressed PTX. */
std::vector<PtxImage> ptx_images(const void* wrapper);

/** The image that a GPU of this capability would compile: the newest that is not newer. Errors: a Fault if none. */
const PtxImage& image_for(const std::vector<PtxImage>& images, int capability);

}  // namespace thalweg::emulator
