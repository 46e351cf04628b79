#pragma once
#include <cstring>
#include <memory>
#include <utility>
#include <vector>

#include "native/cpu/kernels.h"
#include "native/ops/step_inputs.h"
#include "test/native/check.h"
#include "test/native/paths.h"

/** Operands with guard zones, and single ops run on any instruction path with any number of threads. */
namespace check {

using namespace thalweg;

inline float float_of(bf16 bits) {
  const uint32_t wide = static_cast<uint32_t>(bits) << 16;
  float x;
  std::memcpy(&x, &wide, 4);
  return x;
}

/** To nearest, ties to even; written independently of the kernels (by comparing the two neighbours). */
inline bf16 bf16_of(double value) {
  const float x = static_cast<float>(value);
  uint32_t bits;
  std::memcpy(&bits, &x, 4);
  if (std::isnan(x)) return static_cast<bf16>((bits >> 16) | 0x40);
  const uint32_t rest = bits & 0xffff, even = (bits >> 16) & 1;
  const uint32_t up = rest > 0x8000 || (rest == 0x8000 && even != 0) ? 1 : 0;
  return static_cast<bf16>((bits >> 16) + up);
}

/** Memory of one tensor between two guard zones; poisoned (NaN, or -1 for i32) until set. */
class Buffer {
 public:
  Buffer(DType dtype, std::vector<int64_t> shape) {
    tensor_.dtype = dtype;
    tensor_.rank = static_cast<int>(shape.size());
    for (size_t i = 0; i < shape.size(); i++) tensor_.shape[i] = shape[i];
    bytes_.reset(static_cast<unsigned char*>(std::aligned_alloc(64, (tensor_.bytes() + 63) / 64 * 64 + 2 * kGuard)),
                 std::free);
    std::memset(bytes_.get(), kMark, kGuard);
    std::memset(bytes_.get() + kGuard, 0xff, tensor_.bytes());
    std::memset(bytes_.get() + kGuard + tensor_.bytes(), kMark, kGuard);
    tensor_.data = bytes_.get() + kGuard;
  }
  Buffer(DType dtype, std::vector<int64_t> shape, const std::vector<double>& values) : Buffer(dtype, std::move(shape)) {
    set(values);
  }

  const Tensor& tensor() const { return tensor_; }
  operator const Tensor&() const { return tensor_; }

  void set(const std::vector<double>& values) {
    CHECK(static_cast<int64_t>(values.size()) == tensor_.numel(), values.size(), " values for ", tensor_.numel());
    for (size_t i = 0; i < values.size(); i++) {
      if (tensor_.dtype == DType::F32) tensor_.as<float>()[i] = static_cast<float>(values[i]);
      if (tensor_.dtype == DType::BF16) tensor_.as<bf16>()[i] = bf16_of(values[i]);
      if (tensor_.dtype == DType::I32) tensor_.as<int32_t>()[i] = static_cast<int32_t>(values[i]);
    }
  }

  /** What is stored, so rounded to the data type: references start from these values. */
  std::vector<double> get() const {
    std::vector<double> values(static_cast<size_t>(tensor_.numel()));
    for (size_t i = 0; i < values.size(); i++) {
      if (tensor_.dtype == DType::F32) values[i] = tensor_.as<float>()[i];
      if (tensor_.dtype == DType::BF16) values[i] = float_of(tensor_.as<bf16>()[i]);
      if (tensor_.dtype == DType::I32) values[i] = tensor_.as<int32_t>()[i];
    }
    return values;
  }

  /** The bytes, to compare runs bit by bit. */
  std::vector<unsigned char> raw() const {
    const auto* p = static_cast<const unsigned char*>(tensor_.data);
    return {p, p + tensor_.bytes()};
  }

  void check_guards() const {
    const unsigned char* end = bytes_.get() + kGuard + tensor_.bytes();
    for (size_t i = 0; i < kGuard; i++)
      CHECK(bytes_.get()[i] == kMark && end[i] == kMark, "something was written outside the operand");
  }

 private:
  static constexpr size_t kGuard = 256;
  static constexpr unsigned char kMark = 0xa5;
  std::shared_ptr<unsigned char> bytes_;
  Tensor tensor_;
};

/** Step inputs and packed copies an op is run with. */
struct Setting {
  std::vector<float> scalars = std::vector<float>(ops::kScalarCount, 0.0f);
  std::vector<int32_t> integers = std::vector<int32_t>(ops::kIntegerCount, 0);
  const cpu::PackedTable* packed = nullptr;
};

inline ThreadPool& pool_of(int threads) {
  static std::vector<std::unique_ptr<ThreadPool>> pools(16);
  auto& pool = pools.at(static_cast<size_t>(threads));
  if (!pool) pool = std::make_unique<ThreadPool>(threads);
  return *pool;
}

#define THALWEG_ENTRY(Params, name)                                     \
  inline auto entry_of(const cpu::Kernels& table, const ops::Params&) { \
    return std::make_pair(table.name, table.name##_workspace);          \
  }
THALWEG_OPS(THALWEG_ENTRY)
#undef THALWEG_ENTRY

/** Checks the operands against the op's declaration, as the engine does, then runs it with a poisoned, guarded
 * workspace. */
template <class Params>
void run_op(Isa isa, int threads, const std::vector<Tensor>& operands, const std::vector<double>& attributes,
            const Setting& setting = {}) {
  const Params p = Params::decode({Params::kName, "test", operands, attributes});
  const auto [kernel, workspace] = entry_of(cpu::kernels_for(isa), p);
  const Buffer room(DType::F32, {static_cast<int64_t>((workspace(p, threads) + 3) / 4)});
  cpu::Context context{pool_of(threads), setting.scalars.data(), setting.integers.data(),
                       static_cast<std::byte*>(room.tensor().data), setting.packed};
  kernel(p, context);
  room.check_guards();
}

inline const Tensor kAbsent{};

/** body(isa, act) for every path of this machine and both compute precisions; a failure names them. */
template <class Body>
void on_every_path(Body body) {
  for (Isa isa : available_paths())
    for (DType act : {DType::F32, DType::BF16}) {
      try {
        body(isa, act);
      } catch (const std::exception& e) {
        throw Failure(std::string(isa_name(isa)) + " " + dtype_name(act) + ": " + e.what());
      }
    }
}

/** Calls body(threads), which returns the bytes of all outputs, with 1, 2 and 3 threads: they must not differ. */
template <class Body>
void same_bits_for_any_threads(Body body) {
  const std::vector<unsigned char> one = body(1);
  for (int threads : {2, 3}) CHECK(body(threads) == one, threads, " threads gave other bits than 1");
}

inline std::vector<unsigned char> joined(std::initializer_list<const Buffer*> buffers) {
  std::vector<unsigned char> all;
  for (const Buffer* b : buffers) {
    b->check_guards();
    const auto raw = b->raw();
    all.insert(all.end(), raw.begin(), raw.end());
  }
  return all;
}

/** code of the thalweg::Error that body must throw, with `text` in its message. */
template <class Body>
void must_fail(const char* code, const char* text, Body body) {
  try {
    body();
  } catch (const Error& e) {
    CHECK(e.code() == code, "code ", e.code(), ", expected ", code);
    CHECK(std::string(e.what()).find(text) != std::string::npos, "message: ", e.what());
    return;
  }
  failed(__FILE__, __LINE__, "no error, expected ", code);
}

}  // namespace check
