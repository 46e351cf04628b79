#include "native/emulator/statement.h"

#include <charconv>
#include <cstdlib>
#include <cstring>
#include <string>

#include "native/base/error.h"

namespace thalweg::emulator {
namespace {

bool is_name_start(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || c == '$' || c == '%';
}
bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_name(char c) { return is_name_start(c) || is_digit(c); }

}  // namespace

void Reader::skip_blanks() {
  while (at_ < text_.size()) {
    const char c = text_[at_];
    if (c == '\n') {
      line_++;
      at_++;
    } else if (c == ' ' || c == '\t' || c == '\r') {
      at_++;
    } else if (c == '/' && text_.substr(at_, 2) == "//") {
      at_ = std::min(text_.find('\n', at_), text_.size());
    } else if (c == '/' && text_.substr(at_, 2) == "/*") {
      const size_t end = text_.find("*/", at_);
      if (end == std::string_view::npos) fail("BAD_PTX", "line ", line_, ": a comment without end");
      for (; at_ < end + 2; at_++) line_ += text_[at_] == '\n';
    } else {
      return;
    }
  }
}

bool Reader::accept(std::string_view token) {
  skip_blanks();
  if (text_.substr(at_, token.size()) != token) return false;
  at_ += token.size();
  return true;
}

void Reader::expect(std::string_view token) {
  if (accept(token)) return;
  const std::string_view found = text_.substr(at_, std::min<size_t>(text_.find('\n', at_) - at_, 40));
  fail("BAD_PTX", "line ", line_, ": '", token, "' expected before '", found, "'");
}

std::string_view Reader::identifier() {
  skip_blanks();
  const size_t start = at_;
  if (!is_name_start(peek())) expect("a name");
  while (at_ < text_.size() && is_name(text_[at_])) at_++;
  return text_.substr(start, at_ - start);
}

uint64_t Reader::number() {
  skip_blanks();
  const Operand o = constant();
  if (o.kind != Operand::Kind::Number) fail("BAD_PTX", "line ", line_, ": an integer expected");
  return o.bits;
}

std::string_view Reader::until(char end) {
  const size_t start = at_;
  while (at_ < text_.size() && text_[at_] != end) line_ += text_[at_++] == '\n';
  return text_.substr(start, at_ - start);
}

std::string_view Reader::block() {
  const size_t start = at_;
  for (int depth = 1; at_ < text_.size();) {
    const char c = text_[at_];
    if (c == '/') {
      const size_t before = at_;
      skip_blanks();
      if (at_ != before) continue;
    }
    if (c == '"') {
      at_++;
      until('"');
    }
    line_ += c == '\n';
    depth += c == '{' ? 1 : c == '}' ? -1 : 0;
    at_++;
    if (depth == 0) return text_.substr(start, at_ - 1 - start);
  }
  fail("BAD_PTX", "line ", line_, ": a '{' without its '}'");
}

/** 12, -12, 0x1F, 0b101, 017, 12U, 0f3F800000, 0d3FF0000000000000, 1.5. */
Operand Reader::constant() {
  Operand out;
  out.kind = Operand::Kind::Number;
  bool minus = false;
  while (peek() == '-' || peek() == '+') {
    if (peek() == '-') minus = !minus;
    at_++;
  }
  const size_t start = at_;
  while (at_ < text_.size() && (is_name(text_[at_]) || text_[at_] == '.')) at_++;
  std::string word(text_.substr(start, at_ - start));
  int base = 10;
  size_t skip = 0;
  const char mark = word.size() > 1 && word[0] == '0' ? word[1] : '\0';
  if ((mark == 'f' || mark == 'F') && word.size() == 10) {
    out.kind = Operand::Kind::Single;
    base = 16, skip = 2;
  } else if ((mark == 'd' || mark == 'D') && word.size() == 18) {
    out.kind = Operand::Kind::Double;
    base = 16, skip = 2;
  } else if (mark == 'x' || mark == 'X') {
    base = 16, skip = 2;
  } else if (mark == 'b' || mark == 'B') {
    base = 2, skip = 2;
  } else if (word.find('.') != std::string::npos) {
    out.kind = Operand::Kind::Double;
    char* end = nullptr;
    const double value = std::strtod(word.c_str(), &end) * (minus ? -1 : 1);
    std::memcpy(&out.bits, &value, sizeof value);
    if (end != word.c_str() + word.size()) fail("BAD_PTX", "line ", line_, ": '", word, "' is no number");
    return out;
  } else if (mark != '\0') {
    base = 8, skip = 1;
  }
  if (!word.empty() && out.kind == Operand::Kind::Number && (word.back() == 'U' || word.back() == 'u')) word.pop_back();
  const auto parsed = std::from_chars(word.data() + skip, word.data() + word.size(), out.bits, base);
  if (parsed.ec != std::errc{} || parsed.ptr != word.data() + word.size()) {
    fail("BAD_PTX", "line ", line_, ": '", word, "' is no number");
  }
  if (minus) {
    if (out.kind == Operand::Kind::Number) out.bits = 0 - out.bits;
    if (out.kind == Operand::Kind::Single) out.bits ^= 0x80000000u;
    if (out.kind == Operand::Kind::Double) out.bits ^= uint64_t{1} << 63;
  }
  return out;
}

void Reader::offset(Operand& out) {
  skip_blanks();
  if (peek() != '+' && peek() != '-') return;
  const Operand number = constant();
  if (number.kind != Operand::Kind::Number) fail("BAD_PTX", "line ", line_, ": an offset that is no integer");
  out.offset = static_cast<int64_t>(number.bits);
}

void Reader::elements(Operand& out, char close) {
  const char end[] = {close, '\0'};
  do {
    out.elements.push_back(operand());
  } while (accept(","));
  expect(end);
}

/** [base], [base + offset], [base, {coordinates}]; the '[' is read. */
Operand Reader::address() {
  Operand out = operand();
  if (out.kind == Operand::Kind::Number) out.offset = static_cast<int64_t>(out.bits);
  if (out.kind != Operand::Kind::Name && out.kind != Operand::Kind::Number) {
    fail("BAD_PTX", "line ", line_, ": an address is a name or a number, with an offset");
  }
  out.kind = Operand::Kind::Address;
  if (accept(",")) {
    expect("{");
    elements(out, '}');
  }
  expect("]");
  return out;
}

Operand Reader::operand() {
  skip_blanks();
  if (accept("[")) return address();
  Operand out;
  if (accept("{")) {
    out.kind = Operand::Kind::Vector;
    elements(out, '}');
    return out;
  }
  if (is_digit(peek()) || peek() == '-' || peek() == '+') return constant();
  out.negated = accept("!");
  out.name = identifier();
  if (out.name == "_") out.kind = Operand::Kind::Sink;
  if (peek() == '.') {  // %tid.x
    const size_t start = static_cast<size_t>(out.name.data() - text_.data());
    at_++;
    while (at_ < text_.size() && is_name(text_[at_])) at_++;
    out.name = text_.substr(start, at_ - start);
  }
  if (accept("|")) out.second = identifier();
  offset(out);
  return out;
}

void Reader::directive(Statement& out) {
  out.kind = Statement::Kind::Directive;
  const size_t start = at_;
  const bool to_line_end = text_.substr(at_, 4) == ".loc" || text_.substr(at_, 5) == ".file";
  until(to_line_end ? '\n' : ';');
  out.text = text_.substr(start, at_ - start);
  if (!to_line_end) expect(";");
}

void Reader::next(Statement& out) {
  out.operands.clear();
  out.predicate = {};
  out.negated = false;
  do skip_blanks();
  while (accept(";"));
  out.line = line_;
  if (at_end()) {
    out.kind = Statement::Kind::End;
  } else if (accept("{")) {
    out.kind = Statement::Kind::Open;
  } else if (accept("}")) {
    out.kind = Statement::Kind::Close;
  } else if (peek() == '.') {
    directive(out);
  } else {
    out.kind = Statement::Kind::Instruction;
    if (accept("@")) {
      out.negated = accept("!");
      out.predicate = identifier();
    }
    out.text = identifier();
    if (peek() == '.') {
      const size_t start = static_cast<size_t>(out.text.data() - text_.data());
      while (at_ < text_.size() && (is_name(text_[at_]) || text_[at_] == '.' || text_[at_] == ':')) at_++;
      out.text = text_.substr(start, at_ - start);
    } else if (out.predicate.empty() && accept(":")) {
      out.kind = Statement::Kind::Label;
      return;
    }
    while (!accept(";")) {
      out.operands.push_back(operand());
      if (!accept(",")) {
        expect(";");
        break;
      }
    }
  }
}

}  // namespace thalweg::emulator
