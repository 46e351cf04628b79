#pragma once
#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include "native/cuda/launch.h"

/**
 * Conformance: one tiny kernel for each function of native/cuda/ptx, run on the SIMT machine and on a GPU. Layouts and
 * counts must agree bit for bit; arithmetic of the special function unit and of tensor cores within a stated tolerance.
 */
namespace conformance {

using namespace thalweg;

/** What a kernel wrote, as 32-bit words. */
using Words = std::vector<uint32_t>;

struct Case {
  std::string name;
  int capability;    // the least compute capability that has it
  double tolerance;  // relative, for words that are fp32; 0 = same bits
  std::function<Words(cuda::Stream&)> run;
};

inline std::vector<Case>& cases() {
  static std::vector<Case> all;
  return all;
}

/** Defined by each file of cases. */
void add_warp_cases();
void add_copy_cases();
void add_product_cases();

/** Reproducible words (splitmix64). */
inline uint32_t word(uint64_t index) {
  uint64_t z = (index + 1) * 0x9E3779B97F4A7C15ull;
  z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9ull;
  z = (z ^ z >> 27) * 0x94D049BB133111EBull;
  return static_cast<uint32_t>((z ^ z >> 31) >> 16);
}

/** Small integers as bf16: every product and sum of a few hundred of them is exact in fp32, in any order. */
inline std::vector<uint16_t> small_integers(size_t count, uint64_t salt) {
  std::vector<uint16_t> out;
  for (size_t i = 0; i < count; i++) {
    const float value = static_cast<float>(static_cast<int>(word(salt * 1000003 + i) % 17) - 8);
    uint32_t bits;
    std::memcpy(&bits, &value, 4);
    out.push_back(static_cast<uint16_t>(bits >> 16));
  }
  return out;
}

/** Device memory with a copy of host data. */
template <class T>
class OnDevice {
 public:
  OnDevice(cuda::Stream& stream, const std::vector<T>& data) : memory_(data.size() * sizeof(T), "an input") {
    stream.upload(memory_.data(), data.data(), data.size() * sizeof(T));
    stream.synchronize();
  }
  T* data() const { return reinterpret_cast<T*>(memory_.data()); }

 private:
  cuda::DeviceMemory memory_;
};

/** Runs kernel(arguments..., out) and returns the `count` words it wrote; those it did not are 0xFFFFFFFF. */
template <class... Parameters, class... Arguments>
Words collect(cuda::Stream& stream, size_t count, void (*kernel)(Parameters...), const cuda::GridShape& shape,
              const Arguments&... arguments) {
  const cuda::DeviceMemory out(count * 4, "the output");
  stream.fill_bytes(out.data(), 0xFF, count * 4);
  cuda::launch(stream, kernel, shape, arguments..., reinterpret_cast<uint32_t*>(out.data()));
  stream.synchronize();
  Words words(count);
  stream.download(words.data(), out.data(), count * 4);
  return words;
}

}  // namespace conformance
