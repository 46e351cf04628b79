#include "native/emulator/access.h"
#include "native/emulator/execute.h"

/** ld, st, cvta, mapa and their like (PTX ISA, "Data movement and conversion instructions"). */
namespace thalweg::emulator {
namespace {

constexpr uint8_t kSpins = 1;  // of a load: others may have to go on before its value changes

/** Whether the lanes' places follow each other in memory: then the loops over them are over one array. */
bool in_row(const Reach& reach, uint32_t mask, uint64_t bytes) {
  if (mask != ~0u) return false;
  uint64_t apart = 0;
  for (uint32_t l = 0; l < 32; l++) apart |= reach.at[l] ^ (reach.at[0] + l * bytes);
  return apart == 0;
}

/** Value c of Count of each lane, one behind the other in memory, to (or from) registers. */
template <uint32_t Count, class M, class R>
void load_row(Warp& w, const Ref* to, const M* row) {
  for (uint32_t c = 0; c < Count; c++) {
    if (to[c] == kNoRef) continue;
    auto* d = out<Box<R>>(w, to[c]);
#pragma GCC ivdep
    for (uint32_t l = 0; l < 32; l++) d[l] = static_cast<Box<R>>(static_cast<R>(row[l * Count + c]));
  }
}
template <uint32_t Count, class M, class R>
void store_row(const Warp& w, const Ref* from, M* row) {
  for (uint32_t c = 0; c < Count; c++) {
    const R* a = in<R>(w, from[c]);
#pragma GCC ivdep
    for (uint32_t l = 0; l < 32; l++) row[l * Count + c] = static_cast<M>(a[l]);
  }
}

/** Loads list_count values of M a lane, extended to registers of R. */
template <Space S, class M, class R>
void load(Warp& w, const Instruction& i, uint32_t mask) {
  Reach reach;
  const uint32_t count = i.list_count;
  reach_lanes<S>(w, i, mask, reach, static_cast<uint32_t>(sizeof(M)) * count, false);
  const Ref* to = &w.launch->program.lists[i.list];
  if (count <= 4 && in_row(reach, mask, sizeof(M) * count)) {
    const M* row = reinterpret_cast<const M*>(reach.at[0]);
    if (count == 1)
      load_row<1, M, R>(w, to, row);
    else if (count == 2)
      load_row<2, M, R>(w, to, row);
    else
      load_row<4, M, R>(w, to, row);
  } else {
    for (uint32_t c = 0; c < count; c++) {
      if (to[c] == kNoRef) continue;
      auto* d = out<Box<R>>(w, to[c]);
      const auto take = [&](uint32_t l) {
        return static_cast<Box<R>>(static_cast<R>(*reinterpret_cast<const M*>(reach.at[l] + c * sizeof(M))));
      };
      if (mask == ~0u) {
        for (uint32_t l = 0; l < 32; l++) d[l] = take(l);
      } else {
        each_lane(mask, [&](uint32_t l) { d[l] = take(l); });
      }
    }
  }
  if (i.selector & kSpins) w.yield();
}

template <Space S, class M, class R>
void store(Warp& w, const Instruction& i, uint32_t mask) {
  Reach reach;
  const uint32_t count = i.list_count;
  reach_lanes<S>(w, i, mask, reach, static_cast<uint32_t>(sizeof(M)) * count, true);
  const Ref* from = &w.launch->program.lists[i.list];
  w.launch->progress++;
  if (count <= 4 && in_row(reach, mask, sizeof(M) * count)) {
    M* row = reinterpret_cast<M*>(reach.at[0]);
    if (count == 1) return store_row<1, M, R>(w, from, row);
    if (count == 2) return store_row<2, M, R>(w, from, row);
    return store_row<4, M, R>(w, from, row);
  }
  for (uint32_t c = 0; c < count; c++) {
    const R* a = in<R>(w, from[c]);
    const auto give = [&](uint32_t l) { *reinterpret_cast<M*>(reach.at[l] + c * sizeof(M)) = static_cast<M>(a[l]); };
    if (mask == ~0u) {
      for (uint32_t l = 0; l < 32; l++) give(l);
    } else {
      each_lane(mask, give);
    }
  }
}

template <class M, class R>
Handler load_in(Space space) {
  switch (space) {
    case Space::Generic:
      return &load<Space::Generic, M, R>;
    case Space::Global:
      return &load<Space::Global, M, R>;
    case Space::Shared:
      return &load<Space::Shared, M, R>;
    default:
      return &load<Space::Param, M, R>;
  }
}
template <class M>
Handler load_into(Space space, int width) {
  // A signed value goes through the register's signed type: its upper bits repeat the sign.
  if constexpr (std::is_signed_v<M>) {
    if (width == 16) return load_in<M, uint16_t>(space);
  } else if (width == 16) {
    if constexpr (sizeof(M) <= 2) return load_in<M, uint16_t>(space);
  }
  if (width == 32) {
    if constexpr (sizeof(M) <= 4) return load_in<M, uint32_t>(space);
  }
  return width == 64 ? load_in<M, uint64_t>(space) : nullptr;
}

Handler choose_load(Space space, Type t, int width) {
  const bool is_signed = t.kind == 's';
  switch (t.bits) {
    case 8:
      return is_signed ? load_into<int8_t>(space, width) : load_into<uint8_t>(space, width);
    case 16:
      return is_signed ? load_into<int16_t>(space, width) : load_into<uint16_t>(space, width);
    case 32:
      return is_signed ? load_into<int32_t>(space, width) : load_into<uint32_t>(space, width);
    case 64:
      return load_into<uint64_t>(space, width);
    default:
      return nullptr;
  }
}

template <class M>
Handler store_from(Space space, int width) {
  const auto pick = [&](auto container) -> Handler {
    using R = decltype(container);
    if constexpr (sizeof(M) > sizeof(R)) return nullptr;
    switch (space) {
      case Space::Generic:
        return &store<Space::Generic, M, R>;
      case Space::Global:
        return &store<Space::Global, M, R>;
      case Space::Shared:
        return &store<Space::Shared, M, R>;
      default:
        return nullptr;
    }
  };
  return width == 64 ? pick(uint64_t{}) : pick(uint32_t{});
}

Space take_space(Decoder& d) {
  if (d.take("global")) return Space::Global;
  if (d.take_one({"shared", "shared::cta", "shared::cluster"}) >= 0) return Space::Shared;
  if (d.take_one({"param", "param::entry"}) >= 0) return Space::Param;
  return Space::Generic;
}

/** What says nothing here: caches are coherent, every access is at once visible to all. True when it is one that a
 * loop may wait with. */
bool take_order(Decoder& d) {
  const bool spins = d.take_one({"volatile", "relaxed", "acquire", "mmio"}) >= 0;
  d.take_one({"weak", "release"});
  d.take_one({"cta", "cluster", "gpu", "sys"});
  d.take_one({"ca", "cg", "cs", "lu", "cv", "wb", "wt"});
  d.take("nc");
  for (const char* hint : {"L1::evict_normal", "L1::evict_unchanged", "L1::evict_first", "L1::evict_last",
                           "L1::no_allocate", "L2::64B", "L2::128B", "L2::256B", "L2::evict_first", "L2::evict_last"}) {
    d.take(hint);
  }
  return spins;
}

uint32_t take_count(Decoder& d) {
  const int vector = d.take_one({"v2", "v4", "v8"});
  return vector < 0 ? 1 : 2u << vector;
}

void expect_vector(Decoder& d, const Operand& o, uint32_t count) {
  const size_t found = o.kind == Operand::Kind::Vector ? o.elements.size() : 1;
  if (found != count) d.error(found, " values of ", count);
}

const Operand& element(const Operand& o, uint32_t index) {
  return o.kind == Operand::Kind::Vector ? o.elements[index] : o;
}

void decode_ld(Decoder& d, Instruction& i) {
  const Type t = d.type();
  const Space space = take_space(d);
  const uint32_t count = take_count(d);
  i.selector = take_order(d) ? kSpins : 0;
  d.expect_operands(2, 2);
  expect_vector(d, d.operand(0), count);
  int width = 0;
  for (uint32_t c = 0; c < count; c++) {
    const Operand& o = element(d.operand(0), c);
    if (o.kind == Operand::Kind::Sink) {
      d.add(i, kNoRef);
      continue;
    }
    const int this_width = d.width(o);
    if (this_width < std::max(t.bits, 16)) d.error("'", o.name, "' has only ", this_width, " bits");
    if (width != 0 && width != this_width) d.error("registers of several widths");
    width = this_width;
    d.add(i, d.destination(o, width));
  }
  i.list_written = static_cast<uint8_t>(count);
  i.written = 0;
  i.option = static_cast<uint16_t>(d.address(d.operand(1), i));
  i.execute = choose_load(space, t, width);
}

void decode_st(Decoder& d, Instruction& i) {
  const Type t = d.type();
  const Space space = take_space(d);
  const uint32_t count = take_count(d);
  take_order(d);
  d.expect_operands(2, 2);
  expect_vector(d, d.operand(1), count);
  int width = 0;
  for (uint32_t c = 0; c < count; c++) {
    int this_width = 0;
    d.add(i, d.relaxed(element(d.operand(1), c), t.bits, this_width));
    if (this_width == 16) this_width = 32;
    if (width != 0 && width != this_width) d.error("registers of several widths");
    width = this_width;
  }
  i.written = 0;
  i.option = static_cast<uint16_t>(d.address(d.operand(0), i));
  switch (t.bits) {
    case 8:
      i.execute = store_from<uint8_t>(space, width);
      break;
    case 16:
      i.execute = store_from<uint16_t>(space, width);
      break;
    case 32:
      i.execute = store_from<uint32_t>(space, width);
      break;
    case 64:
      i.execute = store_from<uint64_t>(space, width);
      break;
    default:
      break;
  }
}

/** Generic addresses: global ones are the same, shared ones lie behind kSharedWindow, parameters at the copy. */
void play_cvta(Warp& w, const Instruction& i, uint32_t mask) {
  const uint64_t* a = in<uint64_t>(w, i.a);
  uint64_t by = static_cast<uint64_t>(i.immediate);
  if (i.selector) by = reinterpret_cast<uint64_t>(w.launch->parameters);
  if (i.option) by = 0 - by;
  assign(mask, out<uint64_t>(w, i.d), [&](uint32_t l) { return a[l] + by; });
}

void decode_cvta(Decoder& d, Instruction& i) {
  if (!d.type().is('u', 64)) d.error(".u64 expected");
  i.option = d.take("to");
  const Space space = take_space(d);
  if (space == Space::Generic) d.error("of .global, .shared and .param only");
  same_widths(d, i, 64, 1);
  i.immediate = space == Space::Shared ? static_cast<int64_t>(kSharedWindow) : 0;
  i.selector = space == Space::Param;
  i.execute = &play_cvta;
}

/** isspacep p, a: whether a generic address is of that space. */
void play_isspacep(Warp& w, const Instruction& i, uint32_t mask) {
  const uint64_t* a = in<uint64_t>(w, i.a);
  const bool shared = i.selector != 0;
  set_predicate(w, i.d, mask, collect([&](uint32_t l) { return (a[l] >> 32 == kSharedWindow >> 32) == shared; }));
}

void decode_isspacep(Decoder& d, Instruction& i) {
  const Space space = take_space(d);
  if (space != Space::Shared && space != Space::Global) d.error("of .global and .shared only");
  d.expect_operands(2, 2);
  i.d = d.new_predicate(d.operand(0));
  i.a = d.source(1, 64);
  i.selector = space == Space::Shared;
  i.execute = &play_isspacep;
}

/** mapa d, a, rank: the same place in another block of the cluster. */
template <class A, bool Generic>
void play_mapa(Warp& w, const Instruction& i, uint32_t mask) {
  const A* a = in<A>(w, i.a);
  const uint32_t* rank = in<uint32_t>(w, i.b);
  const size_t blocks = w.block->cluster->blocks.size();
  each_lane(mask, [&](uint32_t l) {
    if (rank[l] >= blocks) fault("lane ", l, " maps an address to block ", rank[l], " of a cluster of ", blocks);
    uint64_t window = a[l];
    if constexpr (Generic) {
      if (window >> 32 != kSharedWindow >> 32)
        fault("lane ", l, " maps a generic address that is not of shared memory");
      window &= 0xFFFFFFFFu;
    }
    const uint64_t offset = window & ((1u << kRankShift) - 1);
    if (offset > w.block->shared_bytes)
      fault("lane ", l, " maps shared address ", window, ", which the block does not have");
    const uint64_t mapped = (rank[l] + uint64_t{1}) << kRankShift | offset;
    out<A>(w, i.d)[l] = static_cast<A>(Generic ? kSharedWindow + mapped : mapped);
  });
}

void decode_mapa(Decoder& d, Instruction& i) {
  const Type t = d.type();
  const bool window = d.take("shared::cluster");
  d.expect_operands(3, 3);
  i.d = d.destination(0, t.bits);
  i.a = d.source(1, t.bits);
  i.b = d.source(2, 32);
  if (t.is('u', 64)) i.execute = window ? &play_mapa<uint64_t, false> : &play_mapa<uint64_t, true>;
  if (t.is('u', 32) && window) i.execute = &play_mapa<uint32_t, false>;
}

void play_nothing(Warp&, const Instruction&, uint32_t) {}

void decode_prefetch(Decoder& d, Instruction& i) {
  take_space(d);
  d.take_one({"L1", "L2", "tensormap"});
  i.written = 0;
  i.execute = &play_nothing;
}

}  // namespace

void add_atomics(DecodeTable& table);

void add_memory(DecodeTable& table) {
  table["ld"] = decode_ld;
  table["ldu"] = decode_ld;
  table["st"] = decode_st;
  table["cvta"] = decode_cvta;
  table["isspacep"] = decode_isspacep;
  table["mapa"] = decode_mapa;
  table["prefetch"] = decode_prefetch;
  table["prefetchu"] = decode_prefetch;
  add_atomics(table);
}

}  // namespace thalweg::emulator
