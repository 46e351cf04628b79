#include <string>
#include <vector>

#include "native/cuda/backend.h"
#include "test/native/cuda/command.h"
#include "test/native/reference.h"

// A Module to which Programs are attached that the device has no memory for.
namespace {

using namespace check;

constexpr int64_t kRows = 16;

/** y = x weight^T for each of three weights, in bf16, so that each has a copy of its own; x and y are shared. */
class Products {
 public:
  Products() {
    x_ = add("x", DType::BF16, {kRows, kWide});
    y_ = add("y", DType::BF16, {kRows, kTall});
    for (int64_t i = 0; i < 3; i++)
      weights_.push_back(add("param/weight" + std::to_string(i), DType::F32, {kTall, kWide}));
  }
  static constexpr int64_t kWide = 64, kTall = 128;
  static constexpr size_t kCopy = size_t{kTall * kWide} * 2;

  engine::Program program(size_t weight, uint64_t scratch = 0) const {
    engine::Program p;
    p.name = "product" + std::to_string(weight);
    p.tensors = {x_, weights_[weight], y_};
    p.commands = {{ops::Linear::kName, "product", {0, 1, -1, 2}, {}}};
    p.scratch_bytes = scratch;
    return p;
  }
  std::unique_ptr<engine::DeviceModule> load(engine::Backend& backend) const {
    auto module = backend.load(layout_, {program(0, 4096), program(1)});
    Random random(5);
    for (const auto& t : layout_.tensors) {
      const Buffer buffer(t.dtype, {t.shape[0], t.shape[1]}, random.normal(t.shape[0] * t.shape[1]));
      module->write(t.offset, buffer.tensor().data, t.bytes);
    }
    return module;
  }
  /** The bits of y after each of the Programs 0 to count - 1. */
  std::vector<unsigned char> played(engine::DeviceModule& module, size_t count) const {
    std::vector<unsigned char> all(count * y_.bytes);
    for (size_t i = 0; i < count; i++) {
      engine::PlayEntry entry;
      entry.program = program(i).name;
      module.play({entry}, false, {});
      module.read(y_.offset, all.data() + i * y_.bytes, y_.bytes);
    }
    return all;
  }

 private:
  engine::TensorRef add(const std::string& name, DType dtype, const std::vector<int64_t>& shape) {
    engine::TensorRef t;
    t.name = name;
    t.dtype = dtype;
    t.rank = 2;
    t.shape[0] = shape[0];
    t.shape[1] = shape[1];
    t.offset = layout_.persistent_bytes;
    t.bytes = static_cast<uint64_t>(shape[0] * shape[1]) * dtype_size(dtype);
    layout_.by_name[name] = layout_.tensors.size();
    layout_.tensors.push_back(t);
    layout_.persistent_bytes += (t.bytes + 255) / 256 * 256;
    return t;
  }
  engine::Layout layout_;
  engine::TensorRef x_, y_;
  std::vector<engine::TensorRef> weights_;
};

std::string code_of_attach(engine::DeviceModule& module, std::vector<engine::Program> programs) {
  try {
    module.attach(std::move(programs));
  } catch (const Error& e) {
    return e.code();
  }
  return "none";
}

#if !defined(THALWEG_REAL_CUDA)
/** While it lives the device has so many bytes beyond those taken now. */
class MemoryLeft {
 public:
  explicit MemoryLeft(size_t bytes) { device().memory_bytes = cuda::simulated_memory_taken() + bytes; }
  ~MemoryLeft() { device().memory_bytes = before_; }
  MemoryLeft(const MemoryLeft&) = delete;
  MemoryLeft& operator=(const MemoryLeft&) = delete;

 private:
  static cuda::SimulatedDevice& device() { return cuda::simulated_device(); }
  size_t before_ = device().memory_bytes;
};

void limited_device() {
  const Products products;
  const auto backend = cuda::make_backend(0);
  const auto whole = products.load(*backend), module = products.load(*backend);
  const auto before = products.played(*module, 2);
  whole->attach({products.program(2)});
  const auto all = products.played(*whole, 3);
  const size_t taken = cuda::simulated_memory_taken();
  // No room for the third weight's copy; then for the copy, but not for the activations.
  for (const auto& [left, scratch] : {std::pair{size_t{0}, 0}, {Products::kCopy - 1, 0}, {Products::kCopy, 8192}}) {
    {
      const MemoryLeft limit(left);
      const std::string code = code_of_attach(*module, {products.program(2, static_cast<uint64_t>(scratch))});
      CHECK(code == "CUDA_OUT_OF_MEMORY", left, "bytes left:", code);
    }
    CHECK(cuda::simulated_memory_taken() == taken, left, "bytes left: all that was tried is given back");
    CHECK(products.played(*module, 2) == before, left, "bytes left");
  }
  {
    const MemoryLeft limit(Products::kCopy);
    module->attach({products.program(2)});
  }
  CHECK(products.played(*module, 3) == all, "the same Program, once there is room");
}
#endif

}  // namespace

TEST("after an attach that found no memory, what was attached before plays with the same bits, and more can be") {
#if defined(THALWEG_REAL_CUDA)
  const Products products;
  const auto backend = cuda::make_backend(0);
  const auto module = products.load(*backend);
  const auto before = products.played(*module, 2);
  CHECK(code_of_attach(*module, {products.program(2, uint64_t{1} << 50)}) == "CUDA_OUT_OF_MEMORY");
  CHECK(products.played(*module, 2) == before);
  module->attach({products.program(2)});
  products.played(*module, 3);
#else
  for (int capability : {80, 90}) on_device(capability, 2, limited_device);
#endif
}

TEST_MAIN()
