#include "native/emulator/control.h"
#include "native/emulator/execute.h"

/** Branches, exits, barriers, and what orders memory (here always in order). */
namespace thalweg::emulator {

void play_branch(Warp& w, const Instruction& i, uint32_t mask) {
  if (const uint32_t undefined = w.active & ~w.defined[i.predicate]) {
    fault("lanes 0x", std::hex, undefined, " branch by a predicate that they have not written");
  }
  if (i.selector && mask != w.active) {
    fault("bra.uni: of the lanes that come here together (0x", std::hex, w.active, ") only 0x", mask, " branch");
  }
  w.branch(mask, static_cast<uint32_t>(i.immediate));
}

void play_exit(Warp& w, const Instruction&, uint32_t mask) { w.exit(mask); }

namespace {

void decode_bra(Decoder& d, Instruction& i) {
  i.selector = d.take("uni");
  d.expect_operands(1, 1);
  i.written = 0;
  i.execute = &play_branch;
}

void decode_ret(Decoder& d, Instruction& i) {
  d.take("uni");
  d.expect_operands(0, 0);
  i.execute = &play_exit;
}

void play_trap(Warp&, const Instruction&, uint32_t mask) { fault("trap, by lanes 0x", std::hex, mask); }

void decode_trap(Decoder& d, Instruction& i) {
  d.expect_operands(0, 0);
  i.execute = &play_trap;
}

uint32_t uniform(const Warp& w, Ref r, uint32_t mask, const char* what) {
  const uint32_t* a = in<uint32_t>(w, r);
  const uint32_t first = a[std::countr_zero(mask)];
  each_lane(mask, [&](uint32_t l) {
    if (a[l] != first) fault(what, " differs among the lanes: ", first, " and ", a[l]);
  });
  return first;
}

/** a: the barrier, b: threads or none; selector: does not wait. */
void play_barrier(Warp& w, const Instruction& i, uint32_t mask) {
  if (!w.together(mask, ~0u)) return;
  const uint32_t index = uniform(w, i.a, mask, "the barrier");
  uint32_t threads = 0;
  if (i.b != kNoRef) {
    threads = uniform(w, i.b, mask, "the count of threads");
    if (threads == 0) fault("barrier ", index, " for 0 threads");
  }
  if (index >= 16) fault("barrier ", index, " of a block that has 16");
  const uint64_t generation = w.block->barriers[index].generation;
  w.block->arrive(w, index, threads);
  if (i.selector || w.block->barriers[index].generation != generation) return;
  Wait wait;
  wait.kind = Wait::Kind::Barrier;
  wait.barrier = index;
  wait.generation = generation;
  w.wait_behind(wait);
}

void play_warp_barrier(Warp& w, const Instruction& i, uint32_t mask) {
  const uint32_t lanes = uniform(w, i.a, mask, "the mask of lanes");
  each_lane(mask & ~lanes,
            [&](uint32_t l) { fault("lane ", l, " is not in the mask 0x", std::hex, lanes, " it waits with"); });
  if (!w.together(mask, lanes)) return;
  if (w.block->proxies) {
    const uint32_t warp[] = {w.number};
    w.block->proxies->meet(warp);
  }
}

void play_cluster_arrive(Warp& w, const Instruction&, uint32_t mask) {
  if (!w.together(mask, ~0u)) return;
  w.block->cluster->arrive(w);
}

void play_cluster_wait(Warp& w, const Instruction&, uint32_t mask) {
  if (!w.together(mask, ~0u)) return;
  if (!w.cluster_must_wait) fault("waits for the cluster's barrier without having come to it");
  w.cluster_must_wait = false;
  if (w.block->cluster->phase >= w.cluster_arrival) return;
  Wait wait;
  wait.kind = Wait::Kind::ClusterBarrier;
  wait.generation = w.cluster_arrival - 1;
  w.wait_behind(wait);
}

void decode_cluster_barrier(Decoder& d, Instruction& i) {
  const bool arrives = d.take_one({"arrive", "wait"}) == 0;
  d.take_one({"release", "acquire", "relaxed"});
  d.take("aligned");
  d.expect_operands(0, 0);
  i.execute = arrives ? &play_cluster_arrive : &play_cluster_wait;
}

/** bar[.cta], barrier[.cta], bar.warp, barrier.cluster. */
void decode_bar(Decoder& d, Instruction& i) {
  if (d.take("cluster")) return decode_cluster_barrier(d, i);
  const bool warp = d.take("warp"), arrives = !warp && d.take("arrive");
  d.take("cta");
  d.take("aligned");
  if (!arrives && !d.take("sync")) d.error(".sync or .arrive expected");
  d.expect_operands(arrives ? 2 : 1, warp ? 1 : 2);
  i.written = 0;
  i.a = d.source(0, 32);
  if (d.operands() == 2) i.b = d.source(1, 32);
  i.selector = arrives;
  i.execute = warp ? &play_warp_barrier : &play_barrier;
}

void play_nanosleep(Warp& w, const Instruction&, uint32_t) { w.yield(); }

void decode_nanosleep(Decoder& d, Instruction& i) {
  d.type();
  d.expect_operands(1, 1);
  i.written = 0;
  i.execute = &play_nanosleep;
}

void play_activemask(Warp& w, const Instruction& i, uint32_t mask) {
  assign(mask, out<uint32_t>(w, i.d), [&](uint32_t) { return mask; });
}

void decode_activemask(Decoder& d, Instruction& i) {
  d.type();
  d.expect_operands(1, 1);
  i.d = d.destination(0, 32);
  i.execute = &play_activemask;
}

/** setmaxnreg (PTX ISA): dec gives registers to the block's pool, inc waits until the pool has them. */
void play_setmaxnreg(Warp& w, const Instruction& i, uint32_t mask) {
  if (!w.together(mask, ~0u)) return;
  const auto wanted = static_cast<uint32_t>(i.immediate);
  if (i.selector) {
    if (wanted > w.registers) fault("setmaxnreg.dec to ", wanted, " registers, but the thread has ", w.registers);
    w.block->free_registers += (w.registers - wanted) * 32;
    w.launch->progress++;
  } else {
    if (wanted < w.registers) fault("setmaxnreg.inc to ", wanted, " registers, but the thread has ", w.registers);
    const uint32_t more = (wanted - w.registers) * 32;
    if (more > w.block->free_registers) {
      Wait wait;
      wait.kind = Wait::Kind::Registers;
      wait.registers = more;
      return w.wait_and_repeat(wait);
    }
    w.block->free_registers -= more;
  }
  w.registers = wanted;
}

void decode_setmaxnreg(Decoder& d, Instruction& i) {
  d.type();
  i.selector = d.take_one({"dec", "inc"}) == 0;
  if (!d.take("sync") || !d.take("aligned")) d.error(".sync.aligned expected");
  d.expect_operands(1, 1);
  i.immediate = d.number(d.operand(0));
  if (i.immediate < 24 || i.immediate > 256 || i.immediate % 8 != 0) d.error("a multiple of 8 from 24 to 256 expected");
  i.execute = &play_setmaxnreg;
}

}  // namespace

void add_control(DecodeTable& table) {
  table["bra"] = decode_bra;
  table["ret"] = decode_ret;
  table["exit"] = decode_ret;
  table["trap"] = decode_trap;
  table["brkpt"] = decode_trap;
  table["bar"] = decode_bar;
  table["barrier"] = decode_bar;
  table["nanosleep"] = decode_nanosleep;
  table["activemask"] = decode_activemask;
  table["setmaxnreg"] = decode_setmaxnreg;
}

}  // namespace thalweg::emulator
