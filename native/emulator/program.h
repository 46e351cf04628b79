#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

/** A kernel's body as the machine plays it. */
namespace thalweg::emulator {

class Warp;
struct Instruction;

/** Plays one instruction for the lanes of `mask` (never 0); Warp::pc is already that of the next one. */
using Handler = void (*)(Warp&, const Instruction&, uint32_t mask);

/**
 * Where 32 lanes of a value lie: two bits for the array (the warp's registers, the kernel's constants, the warp's
 * special registers), the rest in units of 32 words; 64-bit values take two units. Of a predicate: its number.
 * While a kernel is decoded: three bits for the class, then the number of the virtual register.
 */
using Ref = uint32_t;
constexpr Ref kNoRef = ~Ref{0};
constexpr Ref kInConstants = Ref{1} << 30, kInSpecials = Ref{2} << 30;

/** Predicates that never change. */
constexpr Ref kFalse = 0, kTrue = 1;

struct Instruction {
  Handler execute = nullptr;
  Handler inner = nullptr;  // what `execute` calls when it only looks first
  Ref d = kNoRef, a = kNoRef, b = kNoRef, c = kNoRef;
  int64_t immediate = 0;  // an offset, a branch's target, a small parameter
  uint32_t list = 0;      // operands beyond four: Program::lists[list..list + list_count)
  uint16_t list_count = 0;
  uint8_t written = 1;       // which of d, a, b, c (bits 0..3) are written; the others are read
  uint8_t list_written = 0;  // so many of the list's first are written
  uint32_t line = 0;
  uint32_t predicate = kTrue;
  uint8_t tracked = 0;   // which of d, a, b, c (bits 0..3), and the list (bit 4), a wgmma may own
  bool negated = false;  // plays where the predicate is false
  uint8_t selector = 0;  // a handler's own
  uint16_t option = 0;   // a handler's own
};

struct Program {
  std::vector<Instruction> code;
  std::vector<Ref> lists;
  std::vector<uint32_t> constants;   // kUnit words each
  std::vector<std::string> opcodes;  // by instruction, for messages
  uint32_t units = 0;                // of 32 words, in a warp's register file
  uint32_t predicates = 2;
  std::vector<std::pair<uint32_t, uint32_t>> undefined;  // units that may be read before they are written: [first, end)
  bool wgmma = false;                                    // some instruction is one
  bool asynchronous = false;                             // some instruction is a copy or a wgmma
};

constexpr uint32_t kUnit = 32;

}  // namespace thalweg::emulator
