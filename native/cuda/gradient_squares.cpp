#include "native/cuda/gradient_squares.h"

#include <algorithm>

#include "native/cuda/kernels/gradient_units.h"

namespace thalweg::cuda {

namespace {

constexpr int kUnknown = 0xFF;  // in every byte: a NaN

/** Bytes [begin, end). */
struct Span {
  uint64_t begin, end;
  bool overlaps(const Span& other) const { return begin < other.end && other.begin < end; }
  bool holds(const Span& other) const { return begin <= other.begin && other.end <= end; }
};

Span span_of(const NormedTensor& t) { return {t.offset, t.offset + static_cast<uint64_t>(t.n) * sizeof(float)}; }

/** The operand's place in the persistent arena, if it is there. */
std::optional<Span> place_of(const engine::Program& program, const engine::ProgramCommand& command, size_t operand) {
  const int32_t index = command.operands[operand];
  if (index < 0) return std::nullopt;
  const engine::TensorRef& t = program.tensors[static_cast<size_t>(index)];
  if (t.space != engine::Space::Persistent) return std::nullopt;
  return Span{t.offset, t.offset + t.bytes};
}

/** What reads the gradients in a step is the norm and the update; no other operand is worth a closer look. */
bool only_reads(const std::string& op, size_t operand) {
  return operand == 0 && (op == ops::GradNorm::kName || op == ops::Adamw::kName);
}

constexpr size_t kDweight = 2;  // operand of linearWgrad

}  // namespace

std::optional<NormedTensor> normed_tensor(const engine::Program& program) {
  for (const auto& command : program.commands) {
    if (command.op != ops::GradNorm::kName) continue;
    if (const auto place = place_of(program, command, 0))
      return NormedTensor{place->begin, static_cast<int64_t>((place->end - place->begin) / sizeof(float))};
  }
  return std::nullopt;
}

SquaresUse squares_use(const engine::Program& program, const std::optional<NormedTensor>& tensor) {
  SquaresUse use;
  use.commands.resize(program.commands.size(), false);
  if (!tensor) return use;
  const Span whole = span_of(*tensor);
  std::vector<Span> later;  // written by the commands behind
  for (size_t i = program.commands.size(); i-- > 0;) {
    const engine::ProgramCommand& command = program.commands[i];
    if (command.op == ops::GradNorm::kName) {
      const auto place = place_of(program, command, 0);
      use.commands[i] = place && place->begin == whole.begin && place->end == whole.end;
      use.takes = use.takes || use.commands[i];
    } else if (command.op == ops::LinearWgrad::kName) {
      const auto place = place_of(program, command, kDweight);
      use.commands[i] = place && whole.holds(*place) &&
                        std::none_of(later.begin(), later.end(), [&](const Span& s) { return s.overlaps(*place); });
      use.makes = use.makes || use.commands[i];
    }
    for (size_t operand = 0; operand < command.operands.size(); operand++) {
      const auto place = place_of(program, command, operand);
      if (place && place->overlaps(whole) && !only_reads(command.op, operand)) later.push_back(*place);
    }
  }
  use.writes = !later.empty();
  return use;
}

size_t SquaresTable::bytes(int64_t n) { return static_cast<size_t>(unit_count(n)) * sizeof(double); }

void SquaresTable::cover(const NormedTensor& tensor, const std::byte* persistent) {
  if (tensor_) return;
  memory_ = DeviceMemory(bytes(tensor.n), "sums of squares of the gradients");
  view_ = {reinterpret_cast<const float*>(persistent + tensor.offset), tensor.n,
           reinterpret_cast<double*>(memory_.data())};
  tensor_ = tensor;
}

void SquaresTable::touch(const void* from, size_t bytes) {
  const auto start = reinterpret_cast<uintptr_t>(view_.grads), at = reinterpret_cast<uintptr_t>(from);
  const Span grads{start, start + static_cast<size_t>(view_.n) * sizeof(float)};
  if (grads.overlaps({at, at + bytes})) known_ = false;
}

const GradientSquares* SquaresTable::view_for(const SquaresUse& use, bool asked, Stream& stream) {
  if (use.writes) known_ = false;
  if (use.makes && asked) {
    stream.fill_bytes(view_.units, kUnknown, memory_.bytes());
    known_ = true;
  }
  return known_ && (use.makes || use.takes) ? &view_ : nullptr;
}

}  // namespace thalweg::cuda
