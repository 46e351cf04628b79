#include "native/emulator/decoder.h"

#include <algorithm>
#include <bit>
#include <charconv>
#include <limits>

#include "native/base/error.h"

namespace thalweg::emulator {

const char* const kSpecialNames[] = {"%tid.x",
                                     "%tid.y",
                                     "%tid.z",
                                     "%ntid.x",
                                     "%ntid.y",
                                     "%ntid.z",
                                     "%ctaid.x",
                                     "%ctaid.y",
                                     "%ctaid.z",
                                     "%nctaid.x",
                                     "%nctaid.y",
                                     "%nctaid.z",
                                     "%laneid",
                                     "%warpid",
                                     "%nwarpid",
                                     "%smid",
                                     "%nsmid",
                                     "%lanemask_eq",
                                     "%lanemask_lt",
                                     "%lanemask_le",
                                     "%lanemask_gt",
                                     "%lanemask_ge",
                                     "%clusterid.x",
                                     "%clusterid.y",
                                     "%clusterid.z",
                                     "%nclusterid.x",
                                     "%nclusterid.y",
                                     "%nclusterid.z",
                                     "%cluster_ctaid.x",
                                     "%cluster_ctaid.y",
                                     "%cluster_ctaid.z",
                                     "%cluster_nctaid.x",
                                     "%cluster_nctaid.y",
                                     "%cluster_nctaid.z",
                                     "%cluster_ctarank",
                                     "%cluster_nctarank",
                                     "%dynamic_smem_size",
                                     "%total_smem_size",
                                     nullptr};

namespace {

const DecodeTable& table() {
  static const DecodeTable all = [] {
    DecodeTable t;
    add_arithmetic(t);
    add_floating(t);
    add_comparisons(t);
    add_conversions(t);
    add_memory(t);
    add_control(t);
    add_warp_wide(t);
    add_asynchronous(t);
    return t;
  }();
  return all;
}

bool parse_type(std::string_view text, Type& out) {
  static const std::unordered_map<std::string_view, Type> types = {
      {"s8", {'s', 8}},    {"s16", {'s', 16}},    {"s32", {'s', 32}}, {"s64", {'s', 64}},   {"u8", {'u', 8}},
      {"u16", {'u', 16}},  {"u32", {'u', 32}},    {"u64", {'u', 64}}, {"b8", {'b', 8}},     {"b16", {'b', 16}},
      {"b32", {'b', 32}},  {"b64", {'b', 64}},    {"f32", {'f', 32}}, {"f64", {'f', 64}},   {"pred", {'p', 1}},
      {"bf16", {'h', 16}}, {"bf16x2", {'H', 32}}, {"f16", {'e', 16}}, {"f16x2", {'E', 32}}, {"b128", {'b', 128}},
  };
  const auto it = types.find(text);
  if (it == types.end()) return false;
  out = it->second;
  return true;
}

int register_bits(Type t) { return t.kind == 'p' ? 1 : t.bits <= 16 ? 16 : t.bits; }

}  // namespace

Decoder::Decoder(const Kernel& kernel) : kernel_(kernel), program_(std::make_shared<Program>()) {}

Type Decoder::type() {
  Type out;
  for (size_t i = parts_.size(); i-- > 1;) {
    if (taken_[i] || !parse_type(parts_[i], out)) continue;
    taken_[i] = true;
    return out;
  }
  error("a type expected");
}

bool Decoder::take(std::string_view part) {
  for (size_t i = 1; i < parts_.size(); i++) {
    if (taken_[i] || parts_[i] != part) continue;
    return taken_[i] = true;
  }
  return false;
}

int Decoder::take_one(std::initializer_list<std::string_view> parts) {
  int index = 0;
  for (std::string_view part : parts) {
    if (take(part)) return index;
    index++;
  }
  return -1;
}

const Operand& Decoder::operand(size_t index) const {
  if (index >= statement_.operands.size()) error("too few operands");
  return statement_.operands[index];
}

void Decoder::expect_operands(size_t least, size_t most) const {
  if (operands() < least || operands() > most) error("found ", operands(), " operands");
}

const Decoder::Register* Decoder::find(std::string_view name, uint32_t& index) const {
  size_t digits = name.size();
  while (digits > 0 && name[digits - 1] >= '0' && name[digits - 1] <= '9') digits--;
  const std::string_view stem = name.substr(0, digits);
  index = 0;
  for (size_t i = open_.size(); i-- > 0;) {
    const auto& registers = scopes_[open_[i]].registers;
    if (const auto it = registers.find(name); it != registers.end() && it->second.count == 0) return &it->second;
    if (digits == name.size()) continue;
    const auto it = registers.find(stem);
    if (it == registers.end() || it->second.count == 0) continue;
    std::from_chars(name.data() + digits, name.data() + name.size(), index);
    if (index < it->second.count) return &it->second;
  }
  return nullptr;
}

const uint64_t* Decoder::variable(std::string_view name) const {
  const auto it = kernel_.variables.find(name);
  return it == kernel_.variables.end() ? nullptr : &it->second;
}

Ref Decoder::constant(uint64_t bits, int width) {
  if (width == 16) bits &= 0xFFFF;
  if (width == 32) bits &= 0xFFFFFFFFu;
  const auto [it, fresh] = constants_.try_emplace({bits, width == 64 ? 64 : 32}, 0);
  if (fresh) {
    auto& words = program_->constants;
    it->second = virtual_ref(Class::Constant, static_cast<uint32_t>(words.size() / kUnit));
    for (uint32_t lane = 0; lane < 32; lane++) {
      words.push_back(static_cast<uint32_t>(bits));
      if (width == 64) words.push_back(static_cast<uint32_t>(bits >> 32));
    }
  }
  return it->second;
}

/** A name's place and width: 1, 16, 32 or 64 bits. */
Ref Decoder::look_up(const Operand& o, int& bits) {
  uint32_t index = 0;
  if (const Register* r = find(o.name, index)) {
    if (o.offset != 0) error("a sum where a register is expected");
    bits = r->bits;
    return r->first + index;
  }
  for (uint32_t s = 0; kSpecialNames[s]; s++) {
    if (o.name != kSpecialNames[s]) continue;
    bits = 32;
    return virtual_ref(Class::Special, s);
  }
  if (o.name == "WARP_SZ") {
    bits = 32;
    return constant(32, 32);
  }
  error("'", o.name, "' is not declared");
}

Ref Decoder::source(const Operand& o, int bits) {
  switch (o.kind) {
    case Operand::Kind::Number:
      return constant(o.bits, bits);
    case Operand::Kind::Single:
      if (bits != 32) error("a float where ", bits, " bits are expected");
      return constant(o.bits, 32);
    case Operand::Kind::Double:
      if (bits == 32) {
        return constant(std::bit_cast<uint32_t>(static_cast<float>(std::bit_cast<double>(o.bits))), 32);
      }
      return constant(o.bits, bits);
    case Operand::Kind::Name:
      break;
    default:
      error("a register or a number expected");
  }
  if (o.negated) error("'!' stands before predicates only");
  if (const uint64_t* v = variable(o.name)) return constant(*v + static_cast<uint64_t>(o.offset), bits);
  int found = 0;
  const Ref r = look_up(o, found);
  if (found != bits) {
    error("'", o.name, "' has ", found, " bits, not ", bits);
  }
  return r;
}

Ref Decoder::relaxed(const Operand& o, int bits, int& width) {
  width = std::max(bits, 16);
  if (o.kind != Operand::Kind::Name || variable(o.name)) return source(o, width);
  const Ref r = look_up(o, width);
  if (width < bits) error("'", o.name, "' has only ", width, " bits");
  return r;
}

int Decoder::width(const Operand& o) {
  int bits = 0;
  if (o.kind != Operand::Kind::Name) error("a register expected");
  look_up(o, bits);
  return bits;
}

Ref Decoder::destination(const Operand& o, int bits) {
  if (o.kind != Operand::Kind::Name) error("a register to write expected");
  const Ref r = source(o, bits);
  if (class_of(r) != Class::Narrow && class_of(r) != Class::Wide) error("'", o.name, "' cannot be written");
  return r;
}

Ref Decoder::predicate(const Operand& o) {
  if (o.kind == Operand::Kind::Number) return virtual_ref(Class::Predicate, o.bits != 0 ? kTrue : kFalse);
  int bits = 0;
  if (o.kind != Operand::Kind::Name) error("a predicate expected");
  const Ref r = look_up(o, bits);
  if (bits != 1) error("'", o.name, "' is no predicate");
  return r;
}

Ref Decoder::new_predicate(const Operand& o) {
  if (o.kind == Operand::Kind::Sink) return kNoRef;
  if (o.kind != Operand::Kind::Name || o.negated) error("a predicate to write expected");
  return predicate(o);
}

int64_t Decoder::number(const Operand& o) const {
  if (o.kind != Operand::Kind::Number) error("an integer expected");
  return static_cast<int64_t>(o.bits);
}

int Decoder::address(const Operand& o, Instruction& i) {
  if (o.kind != Operand::Kind::Address) error("an address in brackets expected");
  i.immediate = o.offset;
  i.a = kNoRef;
  if (o.name.empty()) return 0;
  if (const uint64_t* v = variable(o.name)) {
    i.immediate += static_cast<int64_t>(*v);
    return 0;
  }
  Operand base;
  base.name = o.name;
  int bits = 0;
  i.a = look_up(base, bits);
  if (bits != 32 && bits != 64) error("an address of ", bits, " bits");
  return bits;
}

void Decoder::add(Instruction& i, Ref r) {
  if (i.list_count == 0) i.list = static_cast<uint32_t>(program_->lists.size());
  program_->lists.push_back(r);
  i.list_count++;
}

/** .reg .b32 %r<12>, p; */
void Decoder::declare_registers(std::string_view text) {
  Reader reader(text, statement_.line);
  reader.expect(".reg");
  reader.expect(".");
  Type type;
  std::string_view name = reader.identifier();
  if (!parse_type(name, type) || type.bits == 128) error("registers of type .", name);
  const int bits = register_bits(type);
  const Class c = bits == 1 ? Class::Predicate : bits == 64 ? Class::Wide : Class::Narrow;
  do {
    name = reader.identifier();
    Register r;
    r.bits = bits;
    r.first = virtual_ref(c, counts_[static_cast<int>(c)]);
    if (reader.accept("<")) {
      r.count = static_cast<uint32_t>(reader.number());
      reader.expect(">");
    }
    counts_[static_cast<int>(c)] += std::max(r.count, 1u);
    scopes_[open_.back()].registers[name] = r;
  } while (reader.accept(","));
}

void Decoder::directive() {
  const std::string_view text = statement_.text;
  if (text.substr(0, 4) == ".reg") return declare_registers(text);
  for (std::string_view harmless : {".pragma", ".loc", ".file", ".shared"}) {
    if (text.substr(0, harmless.size()) == harmless) return;
  }
  error("a directive that is not known here");
}

void Decoder::instruction() {
  Instruction i;
  i.line = statement_.line;
  parts_.clear();
  for (std::string_view rest = statement_.text;;) {
    size_t dot = rest.find('.');
    parts_.push_back(rest.substr(0, dot));
    if (dot == std::string_view::npos) break;
    rest.remove_prefix(dot + 1);
  }
  taken_.assign(parts_.size(), false);
  const auto it = table().find(parts_[0]);
  if (it == table().end()) error("this instruction is not known");
  if (!statement_.predicate.empty()) {
    Operand guard;
    guard.name = statement_.predicate;
    i.predicate = predicate(guard);
    i.negated = statement_.negated;
  } else {
    i.predicate = virtual_ref(Class::Predicate, kTrue);
  }
  it->second(*this, i);
  for (size_t p = 1; p < parts_.size(); p++) {
    if (!taken_[p]) error("'.", parts_[p], "' is not known here");
  }
  if (i.execute == nullptr) error("this form is not known");
  program_->code.push_back(i);
  program_->opcodes.emplace_back(statement_.text);
}

void Decoder::resolve_jumps() {
  for (const Jump& jump : jumps_) {
    const uint32_t* target = nullptr;
    for (size_t s = jump.scopes.size(); s-- > 0 && target == nullptr;) {
      const auto& labels = scopes_[jump.scopes[s]].labels;
      if (const auto it = labels.find(jump.label); it != labels.end()) target = &it->second;
    }
    Instruction& i = program_->code[jump.instruction];
    if (!target) fail("BAD_PTX", "line ", i.line, " of ", kernel_.name, ": no label ", jump.label);
    i.immediate = *target;
  }
}

std::shared_ptr<const Program> Decoder::decode(std::string_view body, uint32_t first_line) {
  Reader reader(body, first_line);
  scopes_.emplace_back();
  open_ = {0};
  for (;;) {
    reader.next(statement_);
    const auto here = static_cast<uint32_t>(program_->code.size());
    switch (statement_.kind) {
      case Statement::Kind::End:
        break;
      case Statement::Kind::Open:
        open_.push_back(static_cast<uint32_t>(scopes_.size()));
        scopes_.emplace_back();
        continue;
      case Statement::Kind::Close:
        open_.pop_back();
        continue;
      case Statement::Kind::Label:
        if (!scopes_[open_.back()].labels.emplace(statement_.text, here).second) error("a label declared twice");
        continue;
      case Statement::Kind::Directive:
        directive();
        continue;
      case Statement::Kind::Instruction:
        if (statement_.text.substr(0, 3) == "bra" && !statement_.operands.empty()) {
          jumps_.push_back({here, statement_.operands[0].name, open_});
        }
        instruction();
        continue;
    }
    break;
  }
  statement_.text = "ret";  // the end of a body is one
  statement_.operands.clear();
  statement_.predicate = {};
  instruction();
  resolve_jumps();
  program_->predicates = counts_[2];
  place_registers(*program_, counts_[0], counts_[1]);
  return program_;
}

}  // namespace thalweg::emulator
