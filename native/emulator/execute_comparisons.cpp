#include "native/emulator/execute.h"

/** setp, set, selp, slct, moves and the logic of predicates (PTX ISA, "Comparison and select instructions"). */
namespace thalweg::emulator {
namespace {

enum class Join : uint8_t { None, And, Or, Xor };

/** p|q = a ? b, joined with c (negated when option is 1); q takes the comparison's contrary. */
template <class T, auto Compare>
void set_predicates(Warp& w, const Instruction& i, uint32_t mask) {
  const auto* a = in<Box<std::conditional_t<sizeof(T) == 8, int64_t, int32_t>>>(w, i.a);
  const auto* b = in<Box<std::conditional_t<sizeof(T) == 8, int64_t, int32_t>>>(w, i.b);
  const auto value = [](auto bits) {
    if constexpr (std::is_floating_point_v<T>)
      return std::bit_cast<T>(bits);
    else
      return static_cast<T>(bits);
  };
  uint32_t yes = collect([&](uint32_t l) { return Compare(value(a[l]), value(b[l])); });
  uint32_t no = ~yes;
  if (static_cast<Join>(i.selector) != Join::None) {
    const uint32_t c = i.option ? ~w.predicates[i.c] : w.predicates[i.c];
    switch (static_cast<Join>(i.selector)) {
      case Join::And:
        yes &= c, no &= c;
        break;
      case Join::Or:
        yes |= c, no |= c;
        break;
      default:
        yes ^= c, no ^= c;
        break;
    }
  }
  if (i.d != kNoRef) set_predicate(w, i.d, mask, yes);
  if (i.immediate >= 0) set_predicate(w, static_cast<Ref>(i.immediate), mask, no);
}

constexpr auto equal = [](auto a, auto b) { return a == b; };
constexpr auto unequal = [](auto a, auto b) { return a != b; };
constexpr auto less = [](auto a, auto b) { return a < b; };
constexpr auto less_equal = [](auto a, auto b) { return a <= b; };
constexpr auto more = [](auto a, auto b) { return b < a; };
constexpr auto more_equal = [](auto a, auto b) { return b <= a; };
// Of floats: ordered unless named otherwise.
constexpr auto apart = [](auto a, auto b) { return a < b || b < a; };
constexpr auto unordered_equal = [](auto a, auto b) { return !(a < b || b < a); };
constexpr auto unordered_less = [](auto a, auto b) { return !(b <= a); };
constexpr auto unordered_less_equal = [](auto a, auto b) { return !(b < a); };
constexpr auto unordered_more = [](auto a, auto b) { return !(a <= b); };
constexpr auto unordered_more_equal = [](auto a, auto b) { return !(a < b); };
constexpr auto numbers = [](auto a, auto b) { return a == a && b == b; };
constexpr auto some_nan = [](auto a, auto b) { return a != a || b != b; };

template <class T>
Handler compare_integers(int which) {
  switch (which) {
    case 0:
      return &set_predicates<T, equal>;
    case 1:
      return &set_predicates<T, unequal>;
    case 2:
      return &set_predicates<T, less>;
    case 3:
      return &set_predicates<T, less_equal>;
    case 4:
      return &set_predicates<T, more>;
    case 5:
      return &set_predicates<T, more_equal>;
    default:
      return nullptr;
  }
}

template <class T>
Handler compare_floats(int which) {
  switch (which) {
    case 1:
      return &set_predicates<T, apart>;
    case 10:
      return &set_predicates<T, unordered_equal>;
    case 11:
      return &set_predicates<T, unequal>;
    case 12:
      return &set_predicates<T, unordered_less>;
    case 13:
      return &set_predicates<T, unordered_less_equal>;
    case 14:
      return &set_predicates<T, unordered_more>;
    case 15:
      return &set_predicates<T, unordered_more_equal>;
    case 16:
      return &set_predicates<T, numbers>;
    case 17:
      return &set_predicates<T, some_nan>;
    default:
      return compare_integers<T>(which);
  }
}

/** lo, ls, hi, hs are the unsigned orders' other names. */
int take_comparison(Decoder& d) {
  const int which = d.take_one({"eq", "ne", "lt", "le", "gt", "ge", "lo", "ls", "hi", "hs", "equ", "neu", "ltu", "leu",
                                "gtu", "geu", "num", "nan"});
  if (which < 0) d.error("a comparison expected");
  return which >= 6 && which <= 9 ? which - 4 : which;
}

void decode_setp(Decoder& d, Instruction& i) {
  const Type t = d.type();
  const int which = take_comparison(d), join = d.take_one({"and", "or", "xor"});
  if (d.take("ftz")) d.error(".ftz is not covered");
  d.expect_operands(join < 0 ? 3 : 4, join < 0 ? 3 : 4);
  i.d = d.new_predicate(d.operand(0));
  i.immediate = -1;
  if (!d.operand(0).second.empty()) {
    Operand q;
    q.name = d.operand(0).second;
    if (q.name != "_") i.immediate = index_of(d.new_predicate(q));
  }
  i.a = d.source(1, t.bits);
  i.b = d.source(2, t.bits);
  if (join >= 0) {
    i.c = d.predicate(d.operand(3));
    i.option = d.operand(3).negated;
    i.selector = static_cast<uint8_t>(join + 1);
  }
  if (t.is('f', 32))
    i.execute = compare_floats<float>(which);
  else if (t.is('f', 64))
    i.execute = compare_floats<double>(which);
  else
    i.execute = by_integer(t, [&](auto zero) -> Handler { return compare_integers<decltype(zero)>(which); });
}

template <class T>
void select(Warp& w, const Instruction& i, uint32_t mask) {
  const T* a = in<T>(w, i.a);
  const T* b = in<T>(w, i.b);
  const uint32_t p = i.option ? ~w.predicates[i.c] : w.predicates[i.c];
  assign(mask, out<T>(w, i.d), [&](uint32_t l) { return choose<T>(p, l, a[l], b[l]); });
}

void decode_selp(Decoder& d, Instruction& i) {
  const Type t = d.type();
  d.expect_operands(4, 4);
  i.d = d.destination(0, t.bits);
  i.a = d.source(1, t.bits);
  i.b = d.source(2, t.bits);
  i.c = d.predicate(d.operand(3));
  i.option = d.operand(3).negated;
  i.execute = t.bits == 64 ? &select<uint64_t> : &select<uint32_t>;
}

/** slct d, a, b, c: c >= 0 ? a : b. */
void decode_slct(Decoder& d, Instruction& i) {
  const Type of_c = d.type(), t = d.type();
  if (!of_c.is('s', 32)) d.error("c of .s32 only");
  d.expect_operands(4, 4);
  i.d = d.destination(0, t.bits);
  i.a = d.source(1, t.bits);
  i.b = d.source(2, t.bits);
  i.c = d.source(3, 32);
  i.execute =
      t.bits == 64
          ? by_lane<[](uint64_t a, uint64_t b, uint32_t c) -> uint64_t { return static_cast<int32_t>(c) < 0 ? b : a; }>
          : by_lane<[](uint32_t a, uint32_t b, uint32_t c) -> uint32_t { return static_cast<int32_t>(c) < 0 ? b : a; }>;
}

template <auto F>
void join(Warp& w, const Instruction& i, uint32_t mask) {
  const uint32_t a = i.option & 1 ? ~w.predicates[i.a] : w.predicates[i.a];
  const uint32_t b = i.b == kNoRef ? 0 : i.option & 2 ? ~w.predicates[i.b] : w.predicates[i.b];
  set_predicate(w, i.d, mask, F(a, b));
}

constexpr Handler copy32 = by_lane<[](uint32_t a) -> uint32_t { return a; }>;
constexpr Handler copy64 = by_lane<[](uint64_t a) -> uint64_t { return a; }>;

/** mov.b32 d, {a, b} and {a, b}, d: parts of equal width. `option`: the parts' bits; list: the vector. */
void pack(Warp& w, const Instruction& i, uint32_t mask) {
  const Ref* parts = &w.launch->program.lists[i.list];
  each_lane(mask, [&](uint32_t l) {
    uint64_t whole = 0;
    for (uint32_t p = 0; p < i.list_count; p++) whole |= uint64_t{in<uint32_t>(w, parts[p])[l]} << (p * i.option);
    if (i.selector == 64)
      out<uint64_t>(w, i.d)[l] = whole;
    else
      out<uint32_t>(w, i.d)[l] = static_cast<uint32_t>(whole);
  });
}
void unpack(Warp& w, const Instruction& i, uint32_t mask) {
  const Ref* parts = &w.launch->program.lists[i.list];
  each_lane(mask, [&](uint32_t l) {
    const uint64_t whole = i.selector == 64 ? in<uint64_t>(w, i.a)[l] : in<uint32_t>(w, i.a)[l];
    for (uint32_t p = 0; p < i.list_count; p++) {
      if (parts[p] == kNoRef) continue;
      const uint64_t part = whole >> (p * i.option);
      out<uint32_t>(w, parts[p])[l] = i.option == 16 ? part & 0xFFFF : static_cast<uint32_t>(part);
    }
  });
}

void decode_parts(Decoder& d, Instruction& i, Type t) {
  const bool packs = d.operand(1).kind == Operand::Kind::Vector;
  const Operand& vector = d.operand(packs ? 1 : 0);
  const int bits = t.bits / static_cast<int>(vector.elements.size());
  if ((bits != 16 && bits != 32) || t.bits > 64) d.error("parts of ", bits, " bits");
  for (const Operand& part : vector.elements) {
    if (part.kind == Operand::Kind::Sink && !packs)
      d.add(i, kNoRef);
    else
      d.add(i, packs ? d.source(part, bits) : d.destination(part, bits));
  }
  i.option = static_cast<uint16_t>(bits);
  i.selector = static_cast<uint8_t>(t.bits);
  if (packs) {
    i.d = d.destination(0, t.bits);
    i.execute = &pack;
  } else {
    i.a = d.source(1, t.bits);
    i.list_written = static_cast<uint8_t>(i.list_count);
    i.execute = &unpack;
  }
}

void play_clock(Warp& w, const Instruction& i, uint32_t mask) {
  const uint64_t now = w.launch->progress;
  if (i.selector == 64)
    assign(mask, out<uint64_t>(w, i.d), [&](uint32_t) { return now; });
  else
    assign(mask, out<uint32_t>(w, i.d), [&](uint32_t) { return static_cast<uint32_t>(now); });
}

void decode_mov(Decoder& d, Instruction& i) {
  const Type t = d.type();
  if (t.kind == 'p') return decode_predicate_logic(d, i, "mov");
  d.expect_operands(2, 2);
  if (d.operand(0).kind == Operand::Kind::Vector || d.operand(1).kind == Operand::Kind::Vector) {
    return decode_parts(d, i, t);
  }
  i.d = d.destination(0, t.bits);
  const std::string_view name = d.operand(1).name;
  if (name == "%clock" || name == "%clock64" || name == "%globaltimer") {
    i.selector = static_cast<uint8_t>(t.bits);
    i.execute = &play_clock;
    return;
  }
  i.a = d.source(1, t.bits);
  i.execute = t.bits == 64 ? copy64 : copy32;
}

}  // namespace

void decode_predicate_logic(Decoder& d, Instruction& i, std::string_view operation) {
  const bool one = operation == "not" || operation == "mov";
  d.expect_operands(one ? 2 : 3, one ? 2 : 3);
  i.d = d.new_predicate(d.operand(0));
  i.a = d.predicate(d.operand(1));
  i.option = d.operand(1).negated;
  if (!one) {
    i.b = d.predicate(d.operand(2));
    i.option |= static_cast<uint16_t>(d.operand(2).negated << 1);
  }
  if (i.d == kNoRef) d.error("a predicate to write expected");
  if (operation == "and") i.execute = &join<[](uint32_t a, uint32_t b) { return a & b; }>;
  if (operation == "or") i.execute = &join<[](uint32_t a, uint32_t b) { return a | b; }>;
  if (operation == "xor") i.execute = &join<[](uint32_t a, uint32_t b) { return a ^ b; }>;
  if (operation == "not") i.execute = &join<[](uint32_t a, uint32_t) { return ~a; }>;
  if (operation == "mov") i.execute = &join<[](uint32_t a, uint32_t) { return a; }>;
}

void add_comparisons(DecodeTable& table) {
  table["setp"] = decode_setp;
  table["selp"] = decode_selp;
  table["slct"] = decode_slct;
  table["mov"] = decode_mov;
}

}  // namespace thalweg::emulator
