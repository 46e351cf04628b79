#pragma once
#include <cstdint>
#include <string_view>
#include <vector>

/** PTX text in pieces: statements and their operands, names not yet looked up. */
namespace thalweg::emulator {

struct Operand {
  enum class Kind : uint8_t { Name, Number, Single, Double, Vector, Address, Sink };
  Kind kind = Kind::Name;
  bool negated = false;           // !name
  std::string_view name;          // a register, special register (with .x), variable or label; of an address: its base
  std::string_view second;        // the q of p|q
  uint64_t bits = 0;              // of a number (two's complement) or a float
  int64_t offset = 0;             // name + offset, in an address or out of it
  std::vector<Operand> elements;  // of a vector; of an address: the coordinates behind the comma
};

/** One instruction, label, block brace or directive. */
struct Statement {
  enum class Kind : uint8_t { End, Label, Open, Close, Directive, Instruction };
  Kind kind = Kind::End;
  uint32_t line = 0;
  std::string_view text;       // a label's name, a directive up to its ';', an instruction's opcode
  std::string_view predicate;  // empty when there is none
  bool negated = false;
  std::vector<Operand> operands;
};

/** Walks a PTX text. Fails with BAD_PTX and the line. */
class Reader {
 public:
  Reader(std::string_view text, uint32_t first_line) : text_(text), line_(first_line) {}

  /** The next statement of a kernel's body; End at the end of the text. */
  void next(Statement& out);

  /** What follows is skipped or looked at, character by character, by the parser of directives. */
  void skip_blanks();
  bool at_end() const { return at_ >= text_.size(); }
  char peek() const { return at_end() ? '\0' : text_[at_]; }
  bool accept(std::string_view token);
  void expect(std::string_view token);
  std::string_view identifier();
  uint64_t number();
  /** From here up to (not with) the '}' that closes a '{' already read; that '}' is passed. */
  std::string_view block();
  std::string_view until(char end);
  uint32_t line() const { return line_; }

 private:
  Operand operand();
  Operand constant();
  Operand address();
  void elements(Operand& out, char close);
  void offset(Operand& out);
  void directive(Statement& out);

  std::string_view text_;
  size_t at_ = 0;
  uint32_t line_;
};

}  // namespace thalweg::emulator
