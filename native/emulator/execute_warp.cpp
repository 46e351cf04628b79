#include "native/emulator/access.h"
#include "native/emulator/execute.h"

/** What the lanes of a warp do together: shuffles, votes, matrix fragments. */
namespace thalweg::emulator {
namespace {

/** Waits until the lanes of every lane's mask are here; false while they are not. */
bool members(Warp& w, Ref masks, uint32_t mask) {
  const uint32_t* m = in<uint32_t>(w, masks);
  uint32_t all = 0, least = ~0u;
  for (uint32_t l = 0; l < 32; l++) least &= m[l];
  if ((least & mask) == ~0u) return true;
  each_lane(mask, [&](uint32_t l) {
    if (!has(m[l], l)) fault("lane ", l, " is not in its own mask of members 0x", std::hex, m[l]);
    all |= m[l];
  });
  return w.together(mask, all);
}

enum class Shuffle : uint8_t { Up, Down, Butterfly, Index };

/** shfl.sync: a value of lane j; j beyond the segment is the lane itself. Of a lane that takes no part: poison. */
template <Shuffle S>
void play_shuffle(Warp& w, const Instruction& i, uint32_t mask) {
  const Ref members_ref = w.launch->program.lists[i.list];
  if (!members(w, members_ref, mask)) return;
  const uint32_t *a = in<uint32_t>(w, i.a), *b = in<uint32_t>(w, i.b), *c = in<uint32_t>(w, i.c);
  const uint32_t* m = in<uint32_t>(w, members_ref);
  int from[32];
  uint32_t inside[32], result[32];
  for (int l = 0; l < 32; l++) {
    const int by = static_cast<int>(b[l] & 31), segment = static_cast<int>(c[l] >> 8 & 31);
    const int most = (l & segment) | (static_cast<int>(c[l] & 31) & ~segment);
    const int j = S == Shuffle::Up          ? l - by
                  : S == Shuffle::Down      ? l + by
                  : S == Shuffle::Butterfly ? l ^ by
                                            : (l & segment) | (by & ~segment);
    const bool is_inside = S == Shuffle::Up ? j >= most : j <= most;
    inside[l] = is_inside;
    from[l] = is_inside ? j : l;
  }
  for (uint32_t l = 0; l < 32; l++) {
    const uint32_t value = a[from[l] & 31], given = (mask & m[l]) >> (from[l] & 31) & 1;
    result[l] = given ? value : ~0u;
  }
  assign(mask, out<uint32_t>(w, i.d), [&](uint32_t l) { return result[l]; });
  if (i.immediate >= 0)
    set_predicate(w, static_cast<Ref>(i.immediate), mask, collect([&](uint32_t l) { return inside[l] != 0; }));
}

/** The predicate behind d|p, as a number; -1 when there is none. */
int64_t second_predicate(Decoder& d, const Operand& o) {
  if (o.second.empty() || o.second == "_") return -1;
  Operand p;
  p.name = o.second;
  return index_of(d.new_predicate(p));
}

void decode_shuffle(Decoder& d, Instruction& i) {
  if (d.type().bits != 32 || !d.take("sync")) d.error(".sync and .b32 expected");
  const int mode = d.take_one({"up", "down", "bfly", "idx"});
  d.expect_operands(5, 5);
  if (mode < 0) d.error(".up, .down, .bfly or .idx expected");
  Operand to = d.operand(0);
  i.immediate = second_predicate(d, to);
  to.second = {};
  i.d = d.destination(to, 32);
  i.a = d.source(1, 32);
  i.b = d.source(2, 32);
  i.c = d.source(3, 32);
  d.add(i, d.source(4, 32));
  i.execute = mode == 0   ? &play_shuffle<Shuffle::Up>
              : mode == 1 ? &play_shuffle<Shuffle::Down>
              : mode == 2 ? &play_shuffle<Shuffle::Butterfly>
                          : &play_shuffle<Shuffle::Index>;
}

enum class Vote : uint8_t { All, Any, Uniform, Ballot };

void play_vote(Warp& w, const Instruction& i, uint32_t mask) {
  if (!members(w, i.b, mask)) return;
  const uint32_t* m = in<uint32_t>(w, i.b);
  const uint32_t p = (i.option ? ~w.predicates[i.a] : w.predicates[i.a]) & mask;
  const auto vote = static_cast<Vote>(i.selector);
  if (vote == Vote::Ballot) {
    assign(mask, out<uint32_t>(w, i.d), [&](uint32_t l) { return p & m[l]; });
    return;
  }
  set_predicate(w, i.d, mask, collect([&](uint32_t l) {
                  const uint32_t part = m[l] & mask, yes = p & part;
                  return vote == Vote::All ? yes == part : vote == Vote::Any ? yes != 0 : yes == part || yes == 0;
                }));
}

void decode_vote(Decoder& d, Instruction& i) {
  const Type t = d.type();
  const int which = d.take_one({"all", "any", "uni", "ballot"});
  if (which < 0 || !d.take("sync") || (which == 3) != (t.bits == 32)) d.error("a vote with .sync expected");
  d.expect_operands(3, 3);
  i.selector = static_cast<uint8_t>(which);
  i.d = which == 3 ? d.destination(0, 32) : d.new_predicate(d.operand(0));
  i.a = d.predicate(d.operand(1));
  i.option = d.operand(1).negated;
  i.b = d.source(2, 32);
  i.execute = &play_vote;
}

template <class T, auto F>
void reduce(Warp& w, const Instruction& i, uint32_t mask) {
  if (!members(w, i.b, mask)) return;
  const uint32_t *a = in<uint32_t>(w, i.a), *m = in<uint32_t>(w, i.b);
  uint32_t result[32] = {};
  each_lane(mask, [&](uint32_t l) {
    const uint32_t part = m[l] & mask;
    T sum = static_cast<T>(a[std::countr_zero(part)]);
    each_lane(part & (part - 1), [&](uint32_t other) { sum = static_cast<T>(F(sum, static_cast<T>(a[other]))); });
    result[l] = static_cast<uint32_t>(sum);
  });
  assign(mask, out<uint32_t>(w, i.d), [&](uint32_t l) { return result[l]; });
}

template <class T>
Handler choose_reduction(int operation) {
  switch (operation) {
    case 0:
      return &reduce<T, [](T x, T y) { return static_cast<uint32_t>(x) + static_cast<uint32_t>(y); }>;
    case 1:
      return &reduce<T, [](T x, T y) { return std::min(x, y); }>;
    case 2:
      return &reduce<T, [](T x, T y) { return std::max(x, y); }>;
    case 3:
      return &reduce<T, [](T x, T y) { return x & y; }>;
    case 4:
      return &reduce<T, [](T x, T y) { return x | y; }>;
    case 5:
      return &reduce<T, [](T x, T y) { return x ^ y; }>;
    default:
      return nullptr;
  }
}

void decode_redux(Decoder& d, Instruction& i) {
  const Type t = d.type();
  d.take("sync");
  const int operation = d.take_one({"add", "min", "max", "and", "or", "xor"});
  if (t.kind == 'f' || t.bits != 32) return;
  same_widths(d, i, 32, 2);
  i.execute = t.kind == 's' ? choose_reduction<int32_t>(operation) : choose_reduction<uint32_t>(operation);
}

void play_elect(Warp& w, const Instruction& i, uint32_t mask) {
  if (!members(w, i.b, mask)) return;
  const uint32_t leader = static_cast<uint32_t>(std::countr_zero(mask));
  if (i.d != kNoRef) assign(mask, out<uint32_t>(w, i.d), [&](uint32_t) { return leader; });
  if (i.immediate >= 0) set_predicate(w, static_cast<Ref>(i.immediate), mask, 1u << leader);
}

/** elect.sync d|p, mask: p of the lowest member alone. */
void decode_elect(Decoder& d, Instruction& i) {
  if (!d.take("sync")) d.error(".sync expected");
  d.expect_operands(2, 2);
  Operand to = d.operand(0);
  i.immediate = second_predicate(d, to);
  to.second = {};
  if (to.kind != Operand::Kind::Sink) i.d = d.destination(to, 32);
  i.b = d.source(1, 32);
  i.execute = &play_elect;
}

void play_mma(Warp& w, const Instruction& i, uint32_t mask) {
  if (!w.together(mask, ~0u)) return;
  const Ref* refs = &w.launch->program.lists[i.list];
  Lanes values[14];
  for (int r = 4; r < 14; r++) std::memcpy(&values[r], in<uint32_t>(w, refs[r]), sizeof(Lanes));
  mma_m16n8k16_bf16(values, values + 4, values + 8, values + 10);
  for (int r = 0; r < 4; r++) {
    assign(mask, out<uint32_t>(w, refs[r]), [&](uint32_t l) { return values[r][l]; });
  }
}

/** Registers of a vector operand into the list. */
void add_vector(Decoder& d, Instruction& i, const Operand& o, size_t count, bool written) {
  if (o.kind != Operand::Kind::Vector || o.elements.size() != count)
    d.error("a vector of ", count, " registers expected");
  for (const Operand& e : o.elements) d.add(i, written ? d.destination(e, 32) : d.source(e, 32));
}

void decode_mma(Decoder& d, Instruction& i) {
  for (const char* part : {"sync", "aligned", "m16n8k16", "row", "col"}) {
    if (!d.take(part))
      d.error("only mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 is known; .", part, " is missing");
  }
  const Type c = d.type(), b = d.type(), a = d.type(), to = d.type();
  if (!c.is('f', 32) || !b.is('h', 16) || !a.is('h', 16) || !to.is('f', 32))
    d.error("only .f32.bf16.bf16.f32 is known");
  d.expect_operands(4, 4);
  add_vector(d, i, d.operand(0), 4, true);
  add_vector(d, i, d.operand(1), 4, false);
  add_vector(d, i, d.operand(2), 2, false);
  add_vector(d, i, d.operand(3), 4, false);
  i.list_written = 4;
  i.execute = &play_mma;
}

constexpr uint8_t kTransposed = 0x80;

template <Space S, bool Loads>
void play_matrices(Warp& w, const Instruction& i, uint32_t mask) {
  if (!w.together(mask, ~0u)) return;
  const int count = i.list_count;
  const uint32_t row_lanes = count == 4 ? ~0u : (1u << (8 * count)) - 1;
  if ((w.live & row_lanes) != row_lanes) fault("lanes that hold rows' addresses have exited");
  Reach reach;
  reach_lanes<S>(w, i, row_lanes, reach, 16, !Loads);
  const Ref* refs = &w.launch->program.lists[i.list];
  Lanes values[4];
  if constexpr (Loads) {
    std::array<const std::byte*, 32> rows;
    for (uint32_t l = 0; l < 32; l++) rows[l] = reinterpret_cast<const std::byte*>(reach.at[l]);
    load_matrices(values, count, (i.selector & kTransposed) != 0, rows);
    for (int r = 0; r < count; r++) assign(mask, out<uint32_t>(w, refs[r]), [&](uint32_t l) { return values[r][l]; });
  } else {
    std::array<std::byte*, 32> rows;
    for (uint32_t l = 0; l < 32; l++) rows[l] = reinterpret_cast<std::byte*>(reach.at[l]);
    for (int r = 0; r < count; r++) std::memcpy(&values[r], in<uint32_t>(w, refs[r]), sizeof(Lanes));
    store_matrices(values, count, (i.selector & kTransposed) != 0, rows);
    w.launch->progress++;
  }
}

void decode_matrices(Decoder& d, Instruction& i) {
  const bool loads = d.opcode()[0] == 'l';
  for (const char* part : {"sync", "aligned", "m8n8"}) {
    if (!d.take(part)) d.error(".", part, " expected");
  }
  if (!d.type().is('b', 16)) d.error(".b16 expected");
  const int which = d.take_one({"x1", "x2", "x4"});
  const bool window = d.take_one({"shared", "shared::cta"}) >= 0;
  if (which < 0) d.error(".x1, .x2 or .x4 expected");
  i.selector = d.take("trans") ? kTransposed : 0;
  d.expect_operands(2, 2);
  add_vector(d, i, d.operand(loads ? 0 : 1), size_t{1} << which, loads);
  i.list_written = loads ? static_cast<uint8_t>(i.list_count) : 0;
  i.written = 0;
  i.option = static_cast<uint16_t>(d.address(d.operand(loads ? 1 : 0), i));
  i.execute = loads    ? window ? &play_matrices<Space::Shared, true> : &play_matrices<Space::Generic, true>
                 : window ? &play_matrices<Space::Shared, false>
                       : &play_matrices<Space::Generic, false>;
}

}  // namespace

void add_warp_wide(DecodeTable& table) {
  table["shfl"] = decode_shuffle;
  table["vote"] = decode_vote;
  table["redux"] = decode_redux;
  table["elect"] = decode_elect;
  table["mma"] = decode_mma;
  table["ldmatrix"] = decode_matrices;
  table["stmatrix"] = decode_matrices;
}

}  // namespace thalweg::emulator
