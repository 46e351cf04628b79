#pragma once
#include <utility>
#include <vector>

#include "native/cpu/kernels.h"
#include "native/ops/step_inputs.h"
#include "test/native/buffer.h"
#include "test/native/paths.h"

/** Single ops run on any instruction path with any number of threads. */
namespace check {

using namespace thalweg;

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

}  // namespace check
