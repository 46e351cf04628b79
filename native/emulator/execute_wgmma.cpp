#include <tuple>

#include "native/emulator/control.h"
#include "native/emulator/execute.h"

/**
 * wgmma (PTX ISA, "Asynchronous warpgroup-level matrix instructions"). A warp computes its own quarter, at issue or
 * when it waits, as the schedule says. Registers of a product may not be touched before that wait, and must not have
 * been touched since the last wgmma.fence.
 */
namespace thalweg::emulator {
namespace {

constexpr uint8_t kARegisters = 1, kATransposed = 2, kBTransposed = 4, kNegateA = 8, kNegateB = 16;

uint64_t uniform(const Warp& w, Ref r, const char* what) {
  const uint64_t* a = in<uint64_t>(w, r);
  for (uint32_t l = 1; l < 32; l++) {
    if (a[l] != a[0]) fault("the descriptor of ", what, " differs among the lanes");
  }
  return a[0];
}

void compute(Warp& w, const Instruction& i, const WgmmaOp& op) {
  const Ref* refs = &w.launch->program.lists[i.list];
  Lanes* d[128];
  const Lanes* a[4] = {};
  const size_t count = static_cast<size_t>(op.n) / 2;
  for (size_t n = 0; n < count; n++) d[n] = out<Lanes>(w, refs[n]);
  for (size_t n = 0; op.a_registers && n < 4; n++) a[n] = in<Lanes>(w, refs[2 * count + n]);
  const SharedReader shared{w.block->shared, w.block->shared_bytes, w.block->proxies ? &*w.block->proxies : nullptr};
  wgmma_quarter(op, static_cast<int>(w.number % 4), d, a, shared);
}

/** The warps of a warpgroup must issue the same products. */
void compare_with_others(const Warp& w, const WgmmaOp& op, uint64_t number) {
  const auto fields = [](const WgmmaOp& o) {
    return std::tuple(o.n, o.a_registers, o.a_transposed, o.b_transposed, o.negate_a, o.negate_b, o.accumulate, o.a,
                      o.b);
  };
  for (uint32_t n = w.number / 4 * 4; n < w.number / 4 * 4 + 4; n++) {
    for (const PendingProduct& p : w.block->warps[n].products) {
      if (p.number != number || fields(p.op) == fields(op)) continue;
      fault("the same wgmma has other operands in warp ", n, ": descriptors 0x", std::hex, p.op.a, " and 0x", p.op.b,
            " there, 0x", op.a, " and 0x", op.b, " here");
    }
  }
}

/** Ends the warp's products up to a group. */
void complete(Warp& w, uint64_t group) {
  for (PendingProduct& p : w.products) {
    if (p.group > group || p.complete) continue;
    if (!p.computed) compute(w, *p.instruction, p.op);
    if (w.block->proxies) release_wgmma(p.op, static_cast<int>(w.number % 4), *w.block->proxies);
    p.computed = p.complete = true;
  }
}

void play_fence(Warp& w, const Instruction&, uint32_t mask) {
  if (w.together(mask, ~0u)) w.fences++;
}

void play_commit(Warp& w, const Instruction&, uint32_t mask) {
  if (!w.together(mask, ~0u)) return;
  w.groups_committed++;
}

void decode_product(Decoder& d, Instruction& i) {
  int n = 0;
  for (int tried = 8; tried <= 256 && n == 0; tried += 8) {
    const std::string shape = "m64n" + std::to_string(tried) + "k16";
    if (d.take(shape)) n = tried;
  }
  if (n == 0) d.error("a shape m64n(8 .. 256)k16 expected");
  const Type b = d.type(), a = d.type(), to = d.type();
  if (!b.is('h', 16) || !a.is('h', 16) || !to.is('f', 32)) d.error("only .f32.bf16.bf16 is known");
  const bool a_registers = d.operand(1).kind == Operand::Kind::Vector;
  d.expect_operands(a_registers ? 7 : 8, a_registers ? 7 : 8);
  const Operand& accumulator = d.operand(0);
  if (accumulator.elements.size() != static_cast<size_t>(n) / 2)
    d.error(accumulator.elements.size(), " registers of ", n / 2);
  for (const Operand& e : accumulator.elements) d.add(i, d.destination(e, 32));
  i.list_written = static_cast<uint8_t>(n / 2);
  for (const Operand& e : accumulator.elements) d.add(i, d.source(e, 32));  // read as well
  i.written = 0;
  if (a_registers) {
    if (d.operand(1).elements.size() != 4) d.error("four registers of A expected");
    for (const Operand& e : d.operand(1).elements) d.add(i, d.source(e, 32));
  } else {
    i.a = d.source(1, 64);
  }
  i.b = d.source(2, 64);
  i.c = d.predicate(d.operand(3));
  if (d.operand(3).negated) d.error("a negated scale-d");
  const auto flag = [&](size_t at, int64_t yes, int64_t no, uint8_t bit) {
    const int64_t value = d.number(d.operand(at));
    if (value != yes && value != no) d.error("operand ", at, " is ", value);
    return value == yes ? bit : uint8_t{0};
  };
  i.selector = static_cast<uint8_t>((a_registers ? kARegisters : 0) | flag(4, -1, 1, kNegateA) |
                                    flag(5, -1, 1, kNegateB) | (a_registers ? 0 : flag(6, 1, 0, kATransposed)) |
                                    flag(a_registers ? 6 : 7, 1, 0, kBTransposed));
  i.option = static_cast<uint16_t>(n);
  d.program().wgmma = d.program().asynchronous = true;
  i.execute = &play_wgmma;
}

/** wgmma.mma_async, .fence, .commit_group, .wait_group; all .sync.aligned. */
void decode_wgmma(Decoder& d, Instruction& i) {
  if (!d.take("sync") || !d.take("aligned")) d.error(".sync.aligned expected");
  const int what = d.take_one({"mma_async", "fence", "commit_group", "wait_group"});
  if (what == 0) return decode_product(d, i);
  d.expect_operands(what == 3 ? 1 : 0, what == 3 ? 1 : 0);
  if (what == 3) i.immediate = d.number(d.operand(0));
  if (what > 0) i.execute = what == 1 ? &play_fence : what == 2 ? &play_commit : &play_wgmma_wait;
}

}  // namespace

void play_wgmma(Warp& w, const Instruction& i, uint32_t mask) {
  if (!w.together(mask, ~0u)) return;
  if (w.live != ~0u || w.block->warps.size() / 4 <= w.number / 4) fault("a wgmma of less than a whole warpgroup");
  const auto is = [&](uint8_t bit) { return (i.selector & bit) != 0; };
  const uint32_t adds = w.predicates[i.c];
  if (adds != 0 && adds != ~0u) fault("scale-d differs among the lanes");
  const WgmmaOp op{i.option,
                   is(kARegisters),
                   is(kATransposed),
                   is(kBTransposed),
                   is(kNegateA),
                   is(kNegateB),
                   adds != 0,
                   is(kARegisters) ? 0 : uniform(w, i.a, "A"),
                   uniform(w, i.b, "B")};
  const Ref* refs = &w.launch->program.lists[i.list];
  for (uint32_t n = i.option / 2; n < i.list_count; n++) {
    const Ref r = refs[n];
    if (r >= kInConstants) continue;
    if (w.touched[r] == w.fences + 1) {
      fault("a register of ", n < i.option ? "D" : "A", " (number ", n < i.option ? n - i.option / 2 : n - i.option,
            ") was written or read after the last wgmma.fence");
    }
    w.last_group[r] = w.groups_committed + 1;
  }
  w.newest_product = w.groups_committed + 1;
  compare_with_others(w, op, w.products_issued);
  if (w.block->proxies) hold_wgmma(op, static_cast<int>(w.number % 4), *w.block->proxies);
  const bool at_once = !w.launch->schedule.products_at_wait;
  if (at_once) compute(w, i, op);
  w.products.push_back({op, &i, w.groups_committed + 1, w.products_issued++, at_once, false});
}

void play_wgmma_wait(Warp& w, const Instruction& i, uint32_t mask) {
  if (!w.together(mask, ~0u)) return;
  const auto keep = static_cast<uint64_t>(i.immediate);
  if (i.immediate == 0 && w.newest_product > w.groups_committed)
    fault("waits for products of which some are not committed");
  const uint64_t done = w.groups_committed > keep ? w.groups_committed - keep : 0;
  if (w.products.empty() || w.products[0].group > done) {
    w.groups_done = std::max(w.groups_done, done);
    return;
  }
  if (!w.warpgroup_committed(done)) {
    Wait wait;
    wait.kind = Wait::Kind::Products;
    wait.generation = done;
    return w.wait_and_repeat(wait);
  }
  for (uint32_t n = w.number / 4 * 4; n < w.number / 4 * 4 + 4; n++) complete(w.block->warps[n], done);
  w.groups_done = done;
  std::erase_if(w.products, [&](const PendingProduct& p) { return p.group <= done; });
  w.launch->progress++;
}

/** For instructions with registers that some wgmma has too. */
void play_touching(Warp& w, const Instruction& i, uint32_t mask) {
  const auto touch = [&](Ref r) {
    if (r >= kInConstants || r >= w.last_group.size()) return;
    if (w.last_group[r] > w.groups_done) {
      fault("touches a register of a wgmma that is under way; a wgmma.wait_group that covers it must come first");
    }
    w.touched[r] = w.fences + 1;
  };
  const Ref fields[] = {i.d, i.a, i.b, i.c};
  for (int f = 0; f < 4; f++) {
    if (i.tracked >> f & 1) touch(fields[f]);
  }
  if (i.tracked >> 4) {
    for (uint32_t n = 0; n < i.list_count; n++) touch(w.launch->program.lists[i.list + n]);
  }
  i.inner(w, i, mask);
}

void add_products(DecodeTable& table) { table["wgmma"] = decode_wgmma; }

}  // namespace thalweg::emulator
