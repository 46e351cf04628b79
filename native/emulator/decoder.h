#pragma once
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "native/base/error.h"
#include "native/emulator/module.h"
#include "native/emulator/program.h"
#include "native/emulator/statement.h"

/** From statements to instructions: names looked up, types checked, a handler chosen. */
namespace thalweg::emulator {

/** A fundamental type: s32, u16, b64, f32, bf16x2, pred. */
struct Type {
  char kind = 0;  // 's', 'u', 'b', 'f', 'p' (pred), 'h' (bf16), 'H' (bf16x2), 'e' (f16), 'E' (f16x2)
  int bits = 0;
  bool is_integer() const { return kind == 's' || kind == 'u' || kind == 'b'; }
  bool is(char k, int b) const { return kind == k && bits == b; }
};

/** Virtual registers while a body is decoded: the class in a Ref's three upper bits. */
enum class Class : uint32_t { Narrow, Wide, Predicate, Constant, Special };
constexpr Ref virtual_ref(Class c, uint32_t index) { return static_cast<uint32_t>(c) << 29 | index; }
constexpr Class class_of(Ref r) { return static_cast<Class>(r >> 29); }
constexpr uint32_t index_of(Ref r) { return r & 0x1FFFFFFFu; }

class Decoder;
using DecodeFunction = void (*)(Decoder&, Instruction&);
using DecodeTable = std::unordered_map<std::string_view, DecodeFunction>;

class Decoder {
 public:
  explicit Decoder(const Kernel& kernel);

  /** The whole body; lines count from first_line. */
  std::shared_ptr<const Program> decode(std::string_view body, uint32_t first_line);

  // What the decoders of single instructions (execute_*.cpp) ask.

  /** The opcode's next type counted from its end, which is taken. */
  Type type();
  /** Whether the opcode has this part; it is taken. */
  bool take(std::string_view part);
  /** The first of these parts that the opcode has, by index; -1 when none. */
  int take_one(std::initializer_list<std::string_view> parts);
  size_t operands() const { return statement_.operands.size(); }
  const Operand& operand(size_t index) const;
  void expect_operands(size_t least, size_t most) const;

  /** A register, special register, number or address of a variable, of 16, 32 or 64 bits. */
  Ref source(const Operand& o, int bits);
  Ref source(size_t index, int bits) { return source(operand(index), bits); }
  /** A register of any width at least `bits`, or a number; its width. For instructions with relaxed types. */
  Ref relaxed(const Operand& o, int bits, int& width);
  Ref destination(const Operand& o, int bits);
  Ref destination(size_t index, int bits) { return destination(operand(index), bits); }
  /** For reading; `negated` of the operand must be asked for by the caller. True, false and numbers are predicates too.
   */
  Ref predicate(const Operand& o);
  Ref new_predicate(const Operand& o);
  /** [base + offset] into i.a (or kNoRef for none) and i.immediate; the base's width, 0 when there is none. */
  int address(const Operand& o, Instruction& i);
  Ref constant(uint64_t bits, int width);
  int width(const Operand& o);
  /** The number itself; an error when it is none. */
  int64_t number(const Operand& o) const;
  /** A variable's address; null when the name is none. */
  const uint64_t* variable(std::string_view name) const;
  /** Appends to the instruction's list. */
  void add(Instruction& i, Ref r);
  Program& program() { return *program_; }
  const Kernel& kernel() const { return kernel_; }
  std::string_view opcode() const { return statement_.text; }

  template <class... Parts>
  [[noreturn]] void error(const Parts&... parts) const {
    fail("BAD_PTX", "line ", statement_.line, " of ", kernel_.name, ": ", statement_.text, ": ", parts...);
  }

 private:
  struct Register {
    Ref first = 0;
    uint32_t count = 0;  // 0: the name alone; else name0 .. name(count - 1)
    int bits = 0;        // 1 for predicates
  };
  struct Scope {
    std::unordered_map<std::string_view, Register> registers;
    std::unordered_map<std::string_view, uint32_t> labels;
  };
  struct Jump {
    uint32_t instruction;
    std::string_view label;
    std::vector<uint32_t> scopes;  // innermost last
  };

  void instruction();
  void directive();
  void declare_registers(std::string_view text);
  const Register* find(std::string_view name, uint32_t& index) const;
  Ref look_up(const Operand& o, int& bits);
  void resolve_jumps();

  const Kernel& kernel_;
  Statement statement_;
  std::vector<std::string_view> parts_;
  std::vector<bool> taken_;
  std::vector<Scope> scopes_;   // every one there was
  std::vector<uint32_t> open_;  // those around the present statement
  std::vector<Jump> jumps_;
  std::map<std::pair<uint64_t, int>, Ref> constants_;
  uint32_t counts_[3] = {0, 0, 2};  // virtual registers by class
  std::shared_ptr<Program> program_;
};

/** Gives virtual registers places in the register file: those never alive together share one. */
void place_registers(Program& program, uint32_t narrow, uint32_t wide);

/** Special registers of a warp, in units, in this order; nullptr ends it. */
extern const char* const kSpecialNames[];
enum Special : uint32_t {
  kTidX,
  kTidY,
  kTidZ,
  kNtidX,
  kNtidY,
  kNtidZ,
  kCtaidX,
  kCtaidY,
  kCtaidZ,
  kNctaidX,
  kNctaidY,
  kNctaidZ,
  kLaneid,
  kWarpid,
  kNwarpid,
  kSmid,
  kNsmid,
  kLanemaskEq,
  kLanemaskLt,
  kLanemaskLe,
  kLanemaskGt,
  kLanemaskGe,
  kClusteridX,
  kClusteridY,
  kClusteridZ,
  kNclusteridX,
  kNclusteridY,
  kNclusteridZ,
  kClusterCtaidX,
  kClusterCtaidY,
  kClusterCtaidZ,
  kClusterNctaidX,
  kClusterNctaidY,
  kClusterNctaidZ,
  kClusterCtarank,
  kClusterNctarank,
  kDynamicSmemSize,
  kTotalSmemSize,
  kSpecials
};

// Each room of instructions enters its decoders.
void add_arithmetic(DecodeTable& table);
void add_floating(DecodeTable& table);
void add_comparisons(DecodeTable& table);
void add_conversions(DecodeTable& table);
void add_memory(DecodeTable& table);
void add_control(DecodeTable& table);
void add_warp_wide(DecodeTable& table);
void add_asynchronous(DecodeTable& table);

}  // namespace thalweg::emulator
