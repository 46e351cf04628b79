#include "native/emulator/execute.h"

/** cp.async, cp.async.bulk and cp.reduce.async.bulk (PTX ISA): decoded here, done by Copies. */
namespace thalweg::emulator {
namespace {

Copies& copies(Warp& w) { return *w.block->cluster->copies; }
Issuer issuer(const Warp& w, uint32_t lane) { return {w.block->rank, w.thread(lane)}; }

/** An operand's place in the instruction's list; addresses take two: the base, a constant offset. */
uint64_t address(Warp& w, const Ref* refs, uint32_t lane, bool wide) {
  const uint64_t offset = in<uint64_t>(w, refs[1])[lane];
  if (refs[0] == kNoRef) return offset;
  return wide ? in<uint64_t>(w, refs[0])[lane] + offset
              : static_cast<uint32_t>(in<uint32_t>(w, refs[0])[lane] + offset);
}

void add_address(Decoder& d, Instruction& i, const Operand& o, int bits) {
  Instruction parts;
  const int width = d.address(o, parts);
  if (width != 0 && width != bits) d.error("an address of ", bits, " bits expected");
  d.add(i, parts.a);
  d.add(i, d.constant(static_cast<uint64_t>(parts.immediate), 64));
}

const Ref* list(Warp& w, const Instruction& i) { return &w.launch->program.lists[i.list]; }

/** list: destination, source; immediate: bytes; a: how many are read (none: all). */
void play_thread_copy(Warp& w, const Instruction& i, uint32_t mask) {
  const Ref* refs = list(w, i);
  const auto bytes = static_cast<uint32_t>(i.immediate);
  each_lane(mask, [&](uint32_t l) {
    const uint32_t read = i.a == kNoRef ? bytes : in<uint32_t>(w, i.a)[l];
    copies(w).start(issuer(w, l), static_cast<uint32_t>(address(w, refs, l, false)), address(w, refs + 2, l, true),
                    bytes, read);
  });
}

void play_commit(Warp& w, const Instruction&, uint32_t mask) {
  each_lane(mask, [&](uint32_t l) { copies(w).commit(issuer(w, l)); });
}
void play_wait_group(Warp& w, const Instruction& i, uint32_t mask) {
  each_lane(mask, [&](uint32_t l) { copies(w).wait(issuer(w, l), static_cast<uint32_t>(i.immediate)); });
}
/** cp.async.wait_all: what was not committed too. */
void play_wait_all(Warp& w, const Instruction&, uint32_t mask) {
  each_lane(mask, [&](uint32_t l) {
    copies(w).commit(issuer(w, l));
    copies(w).wait(issuer(w, l), 0);
  });
}
void play_commit_bulk(Warp& w, const Instruction&, uint32_t mask) {
  each_lane(mask, [&](uint32_t l) { copies(w).commit_bulk(issuer(w, l)); });
}
void play_wait_bulk(Warp& w, const Instruction& i, uint32_t mask) {
  each_lane(mask, [&](uint32_t l) {
    copies(w).wait_bulk(issuer(w, l), static_cast<uint32_t>(i.immediate), i.selector != 0);
  });
  w.launch->progress++;
}

/** list: destination, source, mbarrier; a: bytes. */
void play_load(Warp& w, const Instruction& i, uint32_t mask) {
  const Ref* refs = list(w, i);
  each_lane(mask, [&](uint32_t l) {
    copies(w).load(issuer(w, l), static_cast<uint32_t>(address(w, refs, l, false)), address(w, refs + 2, l, true),
                   in<uint32_t>(w, i.a)[l], static_cast<uint32_t>(address(w, refs + 4, l, false)));
  });
}
/** list: destination, source; a: bytes; selector: adds. */
void play_store(Warp& w, const Instruction& i, uint32_t mask) {
  const Ref* refs = list(w, i);
  each_lane(mask, [&](uint32_t l) {
    const uint64_t to = address(w, refs, l, true);
    const auto from = static_cast<uint32_t>(address(w, refs + 2, l, false));
    const uint32_t bytes = in<uint32_t>(w, i.a)[l];
    if (i.selector)
      copies(w).add_floats(issuer(w, l), to, from, bytes);
    else
      copies(w).store(issuer(w, l), to, from, bytes);
  });
}

struct Box {
  const void* map;
  int32_t at[5];
  std::span<const int32_t> span;
};

/** The map of a generic address and the coordinates behind it in the list. */
void find_box(Warp& w, const Ref* refs, size_t rank, uint32_t lane, Box& out) {
  const uint64_t map = address(w, refs, lane, true);
  w.launch->check(map, 128, "reads");
  out.map = reinterpret_cast<const void*>(map);
  for (size_t n = 0; n < rank; n++) out.at[n] = static_cast<int32_t>(in<uint32_t>(w, refs[2 + n])[lane]);
  out.span = {out.at, rank};
}

/** list: destination, mbarrier, map, coordinates; a: the blocks of a multicast; option: the rank. */
void play_load_box(Warp& w, const Instruction& i, uint32_t mask) {
  const Ref* refs = list(w, i);
  each_lane(mask, [&](uint32_t l) {
    Box box;
    find_box(w, refs + 4, i.option, l, box);
    const auto to = static_cast<uint32_t>(address(w, refs, l, false));
    const auto barrier = static_cast<uint32_t>(address(w, refs + 2, l, false));
    if (i.a == kNoRef)
      copies(w).load_box(issuer(w, l), to, box.map, box.span, barrier);
    else
      copies(w).load_box(issuer(w, l), to, box.map, box.span, barrier, static_cast<uint16_t>(in<uint32_t>(w, i.a)[l]));
  });
}
/** list: source, map, coordinates; selector: adds. */
void play_store_box(Warp& w, const Instruction& i, uint32_t mask) {
  const Ref* refs = list(w, i);
  each_lane(mask, [&](uint32_t l) {
    Box box;
    find_box(w, refs + 2, i.option, l, box);
    const auto from = static_cast<uint32_t>(address(w, refs, l, false));
    if (i.selector)
      copies(w).add_box(issuer(w, l), box.map, box.span, from);
    else
      copies(w).store_box(issuer(w, l), box.map, box.span, from);
  });
}

void add_box(Decoder& d, Instruction& i, const Operand& o, size_t rank) {
  if (o.elements.size() != rank) d.error(o.elements.size(), " coordinates of ", rank);
  Operand map = o;
  map.elements.clear();
  add_address(d, i, map, 64);
  for (const Operand& e : o.elements) d.add(i, d.source(e, 32));
  i.option = static_cast<uint16_t>(rank);
}

void decode_tensor(Decoder& d, Instruction& i, bool reduces) {
  const int rank = d.take_one({"1d", "2d", "3d", "4d", "5d"}) + 1;
  d.take("tile");
  if (rank == 0) d.error("the number of dimensions is missing");
  const auto dimensions = static_cast<size_t>(rank);
  if (d.take("shared::cluster") || (!d.take("global"))) {
    d.take("shared::cta");
    if (!d.take("global") || !d.take("mbarrier::complete_tx::bytes")) d.error("a load signals an mbarrier");
    const bool multicast = d.take("multicast::cluster");
    d.expect_operands(multicast ? 4 : 3, multicast ? 4 : 3);
    add_address(d, i, d.operand(0), 32);
    add_address(d, i, d.operand(2), 32);
    add_box(d, i, d.operand(1), dimensions);
    if (multicast) i.a = d.source(3, 16);
    i.execute = &play_load_box;
    return;
  }
  if (!d.take("shared::cta") || !d.take("bulk_group")) d.error(".global.shared::cta.bulk_group expected");
  if (reduces && !d.take("add")) d.error("only .add is known");
  d.expect_operands(2, 2);
  add_address(d, i, d.operand(1), 32);
  add_box(d, i, d.operand(0), dimensions);
  i.selector = reduces;
  i.execute = &play_store_box;
}

void decode_bulk(Decoder& d, Instruction& i, bool reduces) {
  if (d.take("commit_group")) {
    d.expect_operands(0, 0);
    i.execute = &play_commit_bulk;
    return;
  }
  if (d.take("wait_group")) {
    i.selector = d.take("read");
    d.expect_operands(1, 1);
    i.immediate = d.number(d.operand(0));
    i.execute = &play_wait_bulk;
    return;
  }
  if (d.take("tensor")) return decode_tensor(d, i, reduces);
  if (d.take("mbarrier::complete_tx::bytes")) {
    if (d.take_one({"shared::cluster", "shared::cta"}) < 0 || !d.take("global")) {
      d.error("only loads from global memory signal an mbarrier here");
    }
    d.expect_operands(4, 4);
    add_address(d, i, d.operand(0), 32);
    add_address(d, i, d.operand(1), 64);
    add_address(d, i, d.operand(3), 32);
    i.a = d.source(2, 32);
    i.execute = &play_load;
    return;
  }
  if (!d.take("global") || !d.take("shared::cta") || !d.take("bulk_group"))
    d.error(".global.shared::cta.bulk_group expected");
  if (reduces && (!d.take("add") || !d.type().is('f', 32))) d.error("only .add.f32 is known");
  d.expect_operands(3, 3);
  add_address(d, i, d.operand(0), 64);
  add_address(d, i, d.operand(1), 32);
  i.a = d.source(2, 32);
  i.selector = reduces;
  i.execute = &play_store;
}

void decode_thread_copy(Decoder& d, Instruction& i) {
  if (d.take("commit_group")) {
    i.execute = &play_commit;
  } else if (d.take("wait_all")) {
    i.execute = &play_wait_all;
  } else if (d.take("wait_group")) {
    d.expect_operands(1, 1);
    i.immediate = d.number(d.operand(0));
    i.execute = &play_wait_group;
  } else {
    const bool by_l2 = d.take_one({"ca", "cg"}) == 1;
    d.take_one({"shared", "shared::cta"});
    d.take_one({"L2::64B", "L2::128B", "L2::256B"});
    if (!d.take("global")) d.error("from .global expected");
    d.expect_operands(3, 4);
    i.immediate = d.number(d.operand(2));
    if (i.immediate != 16 && (by_l2 || (i.immediate != 4 && i.immediate != 8)))
      d.error("copies ", i.immediate, " bytes");
    add_address(d, i, d.operand(0), 32);
    add_address(d, i, d.operand(1), 64);
    if (d.operands() == 4) i.a = d.source(3, 32);
    i.execute = &play_thread_copy;
  }
}

/** cp.async..., cp.reduce.async.bulk... */
void decode_cp(Decoder& d, Instruction& i) {
  i.written = 0;
  d.program().asynchronous = true;
  const bool reduces = d.take("reduce");
  if (!d.take("async")) d.error(".async expected");
  if (d.take("bulk")) return decode_bulk(d, i, reduces);
  decode_thread_copy(d, i);
}

}  // namespace

void add_copies(DecodeTable& table) { table["cp"] = decode_cp; }

}  // namespace thalweg::emulator
