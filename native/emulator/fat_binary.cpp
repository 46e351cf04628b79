#include "native/emulator/fat_binary.h"

#include <cstdint>
#include <cstring>

#include "native/emulator/fault.h"

namespace thalweg::emulator {

namespace {

constexpr uint32_t kWrapperMagic = 0x466243B1;
constexpr uint32_t kContainerMagic = 0xBA55ED50;
constexpr uint16_t kPtx = 1;
constexpr uint64_t kCompressedFlags = 0x2000 | 0x8000;  // LZ4, Zstandard

struct Wrapper {
  uint32_t magic, version;
  const std::byte* container;
};

struct Container {
  uint32_t magic;
  uint16_t version, header_bytes;
  uint64_t bytes;  // behind the header
};

struct Entry {
  uint16_t kind, version;
  uint32_t header_bytes;
  uint64_t bytes;  // behind the header
  uint32_t compressed_bytes, options, version_minor_major, capability;
  uint32_t name_offset, name_bytes;
  uint64_t flags;
};

template <class T>
T read(const std::byte* from) {
  T value;
  std::memcpy(&value, from, sizeof(T));
  return value;
}

}  // namespace

std::vector<PtxImage> ptx_images(const void* wrapper) {
  const auto outer = read<Wrapper>(static_cast<const std::byte*>(wrapper));
  if (outer.magic != kWrapperMagic) fault("a fat binary begins with ", outer.magic, ", not with its magic number");
  const auto container = read<Container>(outer.container);
  if (container.magic != kContainerMagic) fault("a fat binary's container begins with ", container.magic);
  std::vector<PtxImage> images;
  const std::byte* at = outer.container + container.header_bytes;
  const std::byte* const end = at + container.bytes;
  while (at < end) {
    const auto entry = read<Entry>(at);
    const auto* payload = reinterpret_cast<const char*>(at) + entry.header_bytes;
    if (entry.kind == kPtx) {
      if ((entry.flags & kCompressedFlags) != 0) fault("the PTX in a fat binary is compressed: use nvcc --no-compress");
      images.push_back({static_cast<int>(entry.capability), std::string_view(payload, strnlen(payload, entry.bytes))});
    }
    at += entry.header_bytes + entry.bytes;
  }
  return images;
}

const PtxImage& image_for(const std::vector<PtxImage>& images, int capability) {
  const PtxImage* best = nullptr;
  for (const PtxImage& image : images)
    if (image.capability <= capability && (best == nullptr || image.capability > best->capability)) best = &image;
  if (best == nullptr)
    fault("no PTX for capability ", capability / 10, ".", capability % 10, ": build with architectures XY-virtual");
  return *best;
}

}  // namespace thalweg::emulator
