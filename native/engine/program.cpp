#include "native/engine/program.h"

#include <cmath>
#include <cstring>

#include "native/ops/table.h"

namespace thalweg::engine {

namespace {

constexpr uint32_t kLayoutMagic = 0x314c5754;   // "TWL1"
constexpr uint32_t kProgramMagic = 0x31505754;  // "TWP1"
constexpr uint64_t kMaxBytes = uint64_t{1} << 48;

/** Takes little-endian values off a buffer; a short one is an error, never a read past the end. */
class Reader {
 public:
  Reader(const std::byte* data, size_t bytes) : p_(data), left_(bytes) {}

  template <class T>
  T take() {
    T value;
    if (left_ < sizeof value) short_of(sizeof value);
    std::memcpy(&value, p_, sizeof value);
    p_ += sizeof value;
    left_ -= sizeof value;
    return value;
  }
  std::string text() {
    const uint32_t n = take<uint32_t>();
    if (left_ < n) short_of(n);
    std::string value(reinterpret_cast<const char*>(p_), n);
    p_ += n;
    left_ -= n;
    return value;
  }
  /** A count of items of at least `item` bytes each, so a wild count cannot ask for wild memory. */
  uint32_t count(size_t item) {
    const uint32_t n = take<uint32_t>();
    if (left_ / item < n) short_of(n * item);
    return n;
  }
  void end() const {
    if (left_ != 0) fail("BAD_PROGRAM", "encoded Program has ", left_, " bytes too many");
  }

 private:
  [[noreturn]] void short_of(size_t want) const {
    fail("BAD_PROGRAM", "encoded Program is cut short: ", want, " bytes expected, ", left_, " left");
  }
  const std::byte* p_;
  size_t left_;
};

TensorRef take_tensor(Reader& in, uint64_t persistent_bytes, uint64_t scratch_bytes) {
  TensorRef t;
  t.name = in.text();
  const uint8_t dtype = in.take<uint8_t>(), space = in.take<uint8_t>(), rank = in.take<uint8_t>();
  if (dtype > 2) fail("BAD_PROGRAM", "tensor ", t.name, " has unknown data type ", int{dtype});
  if (space > 1) fail("BAD_PROGRAM", "tensor ", t.name, " is in unknown space ", int{space});
  if (rank > kMaxRank) fail("BAD_PROGRAM", "tensor ", t.name, " has rank ", int{rank}, ", at most ", kMaxRank);
  t.dtype = static_cast<DType>(dtype);
  t.space = static_cast<Space>(space);
  t.rank = rank;
  t.bytes = dtype_size(t.dtype);
  for (int i = 0; i < rank; i++) {
    const uint64_t size = in.take<uint64_t>();
    if (size == 0 || size > kMaxBytes || __builtin_mul_overflow(t.bytes, size, &t.bytes) || t.bytes > kMaxBytes)
      fail("BAD_PROGRAM", "tensor ", t.name, " has size ", size, " along axis ", i);
    t.shape[i] = static_cast<int64_t>(size);
  }
  t.offset = in.take<uint64_t>();
  const uint64_t arena = t.space == Space::Persistent ? persistent_bytes : scratch_bytes;
  if (t.offset % dtype_size(t.dtype) != 0)
    fail("BAD_PROGRAM", "tensor ", t.name, " starts at byte ", t.offset, ", not a multiple of its element size");
  if (t.offset > arena || t.bytes > arena - t.offset)
    fail("BAD_PROGRAM", "tensor ", t.name, " (bytes ", t.offset, " to ", t.offset + t.bytes, ") lies outside its ",
         t.space == Space::Persistent ? "persistent" : "scratch", " arena of ", arena, " bytes");
  return t;
}

uint64_t take_arena_bytes(Reader& in, const char* which) {
  const uint64_t bytes = in.take<uint64_t>();
  if (bytes > kMaxBytes) fail("BAD_PROGRAM", which, " arena of ", bytes, " bytes");
  return bytes;
}

ProgramCommand take_command(Reader& in, size_t tensors) {
  ProgramCommand c;
  c.op = in.text();
  c.label = in.text();
  c.operands.resize(in.count(4));
  for (auto& operand : c.operands) {
    operand = in.take<int32_t>();
    if (operand < -1 || operand >= static_cast<int64_t>(tensors))
      fail("BAD_PROGRAM", "command ", c.op, " (", c.label, ") has operand ", operand, " of ", tensors, " tensors");
  }
  c.attributes.resize(in.count(8));
  for (auto& attribute : c.attributes) attribute = in.take<double>();
  return c;
}

/** Runs the generated checks of the command's op. */
void check_command(const ops::Command& c) {
#define THALWEG_CHECK(Params, name) \
  if (c.op == ops::Params::kName) { \
    (void)ops::Params::decode(c);   \
    return;                         \
  }
  THALWEG_OPS(THALWEG_CHECK)
#undef THALWEG_CHECK
  fail("BAD_PROGRAM", "command ", c.op, " (", c.label, "): no such op");
}

/** A persistent tensor that bears a name of the layout must lie inside that tensor: the Program was built for this
 * Module. */
void check_against_layout(const TensorRef& t, const Layout& layout) {
  if (t.space != Space::Persistent) return;
  const auto found = layout.by_name.find(t.name);
  if (found == layout.by_name.end()) return;
  const TensorRef& whole = layout.tensors[found->second];
  if (t.dtype != whole.dtype || t.offset < whole.offset || t.offset + t.bytes > whole.offset + whole.bytes)
    fail("BAD_PROGRAM", "tensor ", t.name, " (", dtype_name(t.dtype), ", bytes ", t.offset, " to ", t.offset + t.bytes,
         ") does not lie inside the module's tensor of that name (", dtype_name(whole.dtype), ", bytes ", whole.offset,
         " to ", whole.offset + whole.bytes, ")");
}

}  // namespace

const TensorRef& Layout::at(const std::string& name) const {
  const auto found = by_name.find(name);
  if (found == by_name.end()) fail("BAD_INPUT", "the module has no tensor named ", name);
  return tensors[found->second];
}

Layout decode_layout(const std::byte* data, size_t bytes) {
  Reader in(data, bytes);
  if (in.take<uint32_t>() != kLayoutMagic) fail("BAD_PROGRAM", "these bytes are not an encoded Module");
  Layout layout;
  layout.persistent_bytes = take_arena_bytes(in, "persistent");
  const uint32_t count = in.count(15);
  layout.tensors.reserve(count);
  for (uint32_t i = 0; i < count; i++) {
    TensorRef t = take_tensor(in, layout.persistent_bytes, 0);
    if (!layout.by_name.emplace(t.name, i).second) fail("BAD_PROGRAM", "two persistent tensors are named ", t.name);
    layout.tensors.push_back(std::move(t));
  }
  in.end();
  return layout;
}

Program decode_program(const std::byte* data, size_t bytes, const Layout& layout) {
  Reader in(data, bytes);
  if (in.take<uint32_t>() != kProgramMagic) fail("BAD_PROGRAM", "these bytes are not an encoded Program");
  Program program;
  program.name = in.text();
  try {
    program.scratch_bytes = take_arena_bytes(in, "scratch");
    const uint32_t tensors = in.count(15);
    program.tensors.reserve(tensors);
    for (uint32_t i = 0; i < tensors; i++) {
      program.tensors.push_back(take_tensor(in, layout.persistent_bytes, program.scratch_bytes));
      check_against_layout(program.tensors.back(), layout);
    }
    const uint32_t commands = in.count(16);
    program.commands.reserve(commands);
    for (uint32_t i = 0; i < commands; i++) program.commands.push_back(take_command(in, tensors));
    in.end();
    for (const auto& command : program.commands) check_command(resolve(program, command, 0, 0));
  } catch (const Error& e) {
    throw Error(e.code(), "program " + program.name + ": " + e.what());
  }
  return program;
}

ops::Command resolve(const Program& program, const ProgramCommand& command, uintptr_t persistent, uintptr_t scratch) {
  ops::Command c{command.op, command.label, {}, command.attributes};
  c.operands.resize(command.operands.size());
  for (size_t i = 0; i < command.operands.size(); i++) {
    if (command.operands[i] < 0) continue;
    const TensorRef& from = program.tensors[static_cast<size_t>(command.operands[i])];
    Tensor& to = c.operands[i];
    to.data = reinterpret_cast<void*>((from.space == Space::Persistent ? persistent : scratch) + from.offset);
    to.dtype = from.dtype;
    to.rank = from.rank;
    for (int axis = 0; axis < kMaxRank; axis++) to.shape[axis] = from.shape[axis];
  }
  return c;
}

RowRange row_range(const TensorRef& tensor, int64_t start, int64_t count) {
  const int64_t rows = static_cast<int64_t>(tensor.rows());
  if (count < 0) count = rows - start;
  if (start < 0 || start > rows || count < 1 || count > rows - start)
    fail("BAD_INPUT", "rows ", start, " to ", start + count, " of tensor ", tensor.name, ", which has ", rows);
  const uint64_t row = tensor.row_elements(), size = dtype_size(tensor.dtype);
  RowRange r;
  r.elements = static_cast<uint64_t>(count) * row;
  r.bytes = r.elements * size;
  r.offset = tensor.offset + static_cast<uint64_t>(start) * row * size;
  if (tensor.rank > 0) r.shape.assign(tensor.shape, tensor.shape + tensor.rank);
  if (!r.shape.empty()) r.shape[0] = count;
  return r;
}

}  // namespace thalweg::engine
