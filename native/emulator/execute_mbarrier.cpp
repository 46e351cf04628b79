#include "native/emulator/control.h"
#include "native/emulator/execute.h"
#include "native/emulator/mbarrier.h"

/** mbarrier objects, fences and what has nothing to do here. */
namespace thalweg::emulator {
namespace {

struct Found {
  Block* block;
  uint32_t offset;
  std::byte* at;
};

/** The mbarrier of a lane's window address, in this block or another of the cluster. */
Found find(Warp& w, const Instruction& i, uint32_t lane) {
  const uint64_t base = i.a == kNoRef ? 0 : i.option == 32 ? in<uint32_t>(w, i.a)[lane] : in<uint64_t>(w, i.a)[lane];
  uint64_t at = base + static_cast<uint64_t>(i.immediate);
  if (at >> 32 == kSharedWindow >> 32) at &= 0xFFFFFFFFu;
  if (at >> 32 != 0) fault("lane ", lane, ": the mbarrier's address 0x", std::hex, at, " is not of shared memory");
  Cluster& cluster = *w.block->cluster;
  const auto place =
      cluster.copies->place({w.block->rank, w.thread(lane)}, static_cast<uint32_t>(at), 8, 8, "an mbarrier");
  Block& block = *cluster.blocks[place.rank];
  if (block.live_warps == 0)
    fault("lane ", lane, ": the mbarrier is of block ", place.rank, " of the cluster, which has exited");
  if (&block != w.block && block.proxies) block.proxies->check_remote_barrier(place.offset);
  return {&block, place.offset, block.shared + place.offset};
}

uint32_t count_of(Warp& w, Ref r, uint32_t lane) { return r == kNoRef ? 1 : in<uint32_t>(w, r)[lane]; }

void play_init(Warp& w, const Instruction& i, uint32_t mask) {
  each_lane(mask, [&](uint32_t l) {
    const Found f = find(w, i, l);
    mbarrier_init(f.at, count_of(w, i.b, l));
    if (f.block->proxies) f.block->proxies->barrier_init(w.thread(l), f.offset);
  });
  w.launch->progress++;
}

void play_invalidate(Warp& w, const Instruction& i, uint32_t mask) {
  each_lane(mask, [&](uint32_t l) {
    const Found f = find(w, i, l);
    mbarrier_invalidate(f.at);
    if (f.block->proxies) f.block->proxies->barrier_invalidate(f.offset);
  });
}

constexpr uint8_t kArrives = 1, kExpects = 2;

/** arrive, arrive.expect_tx, expect_tx; d: the phase's state, here its parity. b: arrivals or bytes. */
void play_arrive(Warp& w, const Instruction& i, uint32_t mask) {
  each_lane(mask, [&](uint32_t l) {
    const Found f = find(w, i, l);
    const uint32_t number = count_of(w, i.b, l);
    if (i.d != kNoRef) out<uint64_t>(w, i.d)[l] = mbarrier_state(f.at).parity;
    if (i.selector & kExpects) mbarrier_expect(f.at, number);
    if (i.selector & kArrives) mbarrier_arrive(f.at, i.selector & kExpects ? 1 : number);
  });
  w.launch->progress++;
}

/**
 * test_wait and try_wait. try_wait may wait, so it does: lanes whose phase is over go on, the others stay here. Now and
 * then it says no at once, as the hardware may, so that the loop around it runs too.
 */
void play_wait(Warp& w, const Instruction& i, uint32_t mask) {
  const bool tries = i.selector != 0, by_state = i.list_count != 0;
  const auto phase = [&](uint32_t l) {
    return by_state ? static_cast<uint32_t>(in<uint64_t>(w, w.launch->program.lists[i.list])[l])
                    : in<uint32_t>(w, i.b)[l];
  };
  uint32_t over = 0;
  Wait wait;
  each_lane(mask, [&](uint32_t l) {
    const Found f = find(w, i, l);
    if (f.block != w.block)
      fault("lane ", l, " waits for an mbarrier of another block, which only its own threads may");
    if (mbarrier_phase_over(f.at, phase(l))) {
      over |= 1u << l;
    } else if (wait.kind == Wait::Kind::Nothing) {
      wait.kind = Wait::Kind::Mbarrier;
      wait.mbarrier = f.at;
      wait.parity = phase(l);
    }
  });
  set_predicate(w, i.d, mask, over);
  if (over == mask) return;
  if (!tries || (over == 0 && w.launch->random() % 4 == 0)) {
    w.yield();
  } else if (over == 0 && mask == w.active) {
    w.wait_and_repeat(wait);
  } else {
    w.others.push_back({w.now, mask & ~over, false, wait});
    w.active &= ~(mask & ~over);
    if (w.active == 0) w.budget = 0;
  }
}

void decode_mbarrier(Decoder& d, Instruction& i) {
  const int what = d.take_one({"init", "inval", "arrive", "expect_tx", "test_wait", "try_wait"});
  if (what < 0) d.error("this form is not known");
  if (!d.type().is('b', 64)) d.error(".b64 expected");
  d.take_one({"shared", "shared::cta", "shared::cluster"});
  d.take_one({"release", "acquire", "relaxed"});
  d.take_one({"cta", "cluster"});
  i.written = 1;
  if (what == 0 || what == 1) {
    d.expect_operands(what == 0 ? 2 : 1, what == 0 ? 2 : 1);
    i.option = static_cast<uint16_t>(d.address(d.operand(0), i));
    if (what == 0) i.b = d.source(1, 32);
    i.execute = what == 0 ? &play_init : &play_invalidate;
    return;
  }
  if (what == 2 || what == 3) {
    const bool expects = what == 3 || d.take("expect_tx");
    i.selector = static_cast<uint8_t>((what == 2 ? kArrives : 0) | (expects ? kExpects : 0));
    const size_t first = what == 2 && d.operand(0).kind != Operand::Kind::Address ? 1 : 0;
    d.expect_operands(first + 1, first + 2);
    if (first == 1 && d.operand(0).kind != Operand::Kind::Sink) i.d = d.destination(0, 64);
    i.option = static_cast<uint16_t>(d.address(d.operand(first), i));
    if (d.operands() > first + 1)
      i.b = d.source(first + 1, 32);
    else if (expects)
      d.error("the bytes to expect are missing");
    i.execute = &play_arrive;
    return;
  }
  const bool parity = d.take("parity");
  d.expect_operands(3, what == 5 ? 4 : 3);  // a time limit means nothing here
  i.selector = what == 5;
  i.d = d.new_predicate(d.operand(0));
  if (i.d == kNoRef) d.error("a predicate to write expected");
  i.option = static_cast<uint16_t>(d.address(d.operand(1), i));
  if (parity)
    i.b = d.source(2, 32);
  else
    d.add(i, d.source(2, 64));
  i.execute = &play_wait;
}

void play_proxy_fence(Warp& w, const Instruction&, uint32_t mask) {
  if (w.block->proxies) each_lane(mask, [&](uint32_t l) { w.block->proxies->fence(w.thread(l)); });
}
void play_barrier_fence(Warp& w, const Instruction&, uint32_t mask) {
  if (w.block->proxies) each_lane(mask, [&](uint32_t l) { w.block->proxies->barrier_fence(w.thread(l)); });
}
void play_nothing(Warp&, const Instruction&, uint32_t) {}

/** fence.proxy.async, fence.mbarrier_init; memory is in order here, so the others have nothing to do. */
void decode_fence(Decoder& d, Instruction& i) {
  d.expect_operands(0, 0);
  if (d.take("mbarrier_init")) {
    if (!d.take("release") || !d.take("cluster")) d.error(".release.cluster expected");
    i.execute = &play_barrier_fence;
  } else if (d.take("proxy")) {
    if (!d.take("async")) d.error("only .proxy.async is known");
    const bool elsewhere = d.take("global");
    d.take_one({"shared::cta", "shared::cluster"});
    i.execute = elsewhere ? &play_nothing : &play_proxy_fence;
  } else {
    d.take_one({"sc", "acq_rel", "acquire", "release"});
    d.take_one({"cta", "cluster", "gpu", "sys", "gl"});
    i.execute = &play_nothing;
  }
}

/** griddepcontrol: grids run one after the other here. */
void decode_grid_dependence(Decoder& d, Instruction& i) {
  d.take_one({"launch_dependents", "wait"});
  i.execute = &play_nothing;
}

}  // namespace

void add_copies(DecodeTable& table);
void add_products(DecodeTable& table);

void add_asynchronous(DecodeTable& table) {
  table["mbarrier"] = decode_mbarrier;
  table["fence"] = decode_fence;
  table["membar"] = decode_fence;
  table["griddepcontrol"] = decode_grid_dependence;
  add_copies(table);
  add_products(table);
}

}  // namespace thalweg::emulator
