#include <algorithm>

#include "native/emulator/control.h"
#include "native/emulator/decoder.h"

/**
 * nvcc's PTX is in single assignment form and names thousands of registers; a warp's file would not fit into the
 * cache. Liveness by data flow, then linear scan (Poletto and Sarkar 1999): registers whose intervals, from the first
 * to the last place where they live, do not meet share a place. A lane's registers are its own and each lane is a
 * sequential thread, so this holds however lanes diverge.
 */
namespace thalweg::emulator {
namespace {

using Bits = std::vector<uint64_t>;

struct Block {
  uint32_t first = 0, end = 0;
  std::vector<uint32_t> successors;
  Bits read, killed, live_in, live_out, flying_in;
};

struct Interval {
  uint32_t first = ~0u, last = 0;
  void hold(uint32_t at) {
    first = std::min(first, at);
    last = std::max(last, at);
  }
};

class Placement {
 public:
  Placement(Program& program, uint32_t narrow, uint32_t wide)
      : program_(program), narrow_(narrow), count_(narrow + wide), words_((count_ + 63) / 64) {}

  void run() {
    find_blocks();
    find_liveness();
    find_products_under_way();
    find_intervals();
    place();
    rewrite();
  }

 private:
  bool ends(const Instruction& i) const { return i.execute == play_branch || i.execute == play_exit; }
  bool is_register(Ref r) const { return r != kNoRef && class_of(r) <= Class::Wide; }
  uint32_t number(Ref r) const { return index_of(r) + (class_of(r) == Class::Wide ? narrow_ : 0); }

  /** visit(register, written) for each, those read first. */
  template <class Visit>
  void each(const Instruction& i, Visit visit) const {
    const Ref fields[] = {i.d, i.a, i.b, i.c};
    for (int pass = 0; pass < 2; pass++) {
      const bool written = pass == 1;
      for (int f = 0; f < 4; f++) {
        if (is_register(fields[f]) && ((i.written >> f & 1) != 0) == written) visit(number(fields[f]), written);
      }
      for (uint32_t l = 0; l < i.list_count; l++) {
        const Ref r = program_.lists[i.list + l];
        if (is_register(r) && (l < i.list_written) == written) visit(number(r), written);
      }
    }
  }

  void find_blocks() {
    const auto& code = program_.code;
    std::vector<bool> leads(code.size() + 1, false);
    leads[0] = true;
    for (uint32_t at = 0; at < code.size(); at++) {
      if (!ends(code[at])) continue;
      leads[at + 1] = true;
      if (code[at].execute == play_branch) leads[static_cast<size_t>(code[at].immediate)] = true;
    }
    block_of_.resize(code.size());
    for (uint32_t at = 0; at < code.size(); at++) {
      if (leads[at]) {
        blocks_.emplace_back();
        blocks_.back().first = at;
      }
      blocks_.back().end = at + 1;
      block_of_[at] = static_cast<uint32_t>(blocks_.size() - 1);
    }
    for (uint32_t b = 0; b < blocks_.size(); b++) {
      const Instruction& last = code[blocks_[b].end - 1];
      if (last.execute == play_branch) blocks_[b].successors.push_back(block_of_[static_cast<size_t>(last.immediate)]);
      const bool goes_on = !ends(last) || last.predicate != virtual_ref(Class::Predicate, kTrue) || last.negated;
      if (goes_on && b + 1 < blocks_.size()) blocks_[b].successors.push_back(b + 1);
    }
  }

  void find_liveness() {
    for (Block& b : blocks_) {
      b.read.assign(words_, 0);
      b.killed = b.live_in = b.live_out = b.flying_in = b.read;
      for (uint32_t at = b.first; at < b.end; at++) {
        const Instruction& i = program_.code[at];
        const bool always = i.predicate == virtual_ref(Class::Predicate, kTrue) && !i.negated;
        each(i, [&](uint32_t r, bool written) {
          const uint64_t bit = uint64_t{1} << (r % 64);
          if (!written && !(b.killed[r / 64] & bit)) b.read[r / 64] |= bit;
          if (written && always) b.killed[r / 64] |= bit;
        });
      }
    }
    for (bool changed = true; changed;) {
      changed = false;
      for (size_t n = blocks_.size(); n-- > 0;) {
        Block& b = blocks_[n];
        for (size_t w = 0; w < words_; w++) {
          uint64_t out = 0;
          for (uint32_t s : b.successors) out |= blocks_[s].live_in[w];
          const uint64_t in = b.read[w] | (out & ~b.killed[w]);
          changed |= in != b.live_in[w];
          b.live_in[w] = in;
          b.live_out[w] = out;
        }
      }
    }
  }

  /** Walks a block with the registers of products that may be under way; visit(instruction, those). */
  template <class Visit>
  Bits fly(const Block& b, Visit visit) const {
    Bits flying = b.flying_in;
    for (uint32_t at = b.first; at < b.end; at++) {
      const Instruction& i = program_.code[at];
      if (i.execute == play_wgmma) {
        each(i, [&](uint32_t r, bool) { flying[r / 64] |= uint64_t{1} << (r % 64); });
      }
      visit(at, flying);
      if (i.execute == play_wgmma_wait && i.immediate == 0) flying.assign(words_, 0);
    }
    return flying;
  }

  /** A register of a product under way keeps its place until the wait, whether it is read again or not. */
  void find_products_under_way() {
    if (!program_.wgmma) return;
    for (bool changed = true; changed;) {
      changed = false;
      for (Block& b : blocks_) {
        const Bits out = fly(b, [](uint32_t, const Bits&) {});
        for (uint32_t s : b.successors) {
          for (size_t w = 0; w < words_; w++) {
            const uint64_t joined = blocks_[s].flying_in[w] | out[w];
            changed |= joined != blocks_[s].flying_in[w];
            blocks_[s].flying_in[w] = joined;
          }
        }
      }
    }
  }

  template <class Visit>
  static void each_bit(const Bits& bits, Visit visit) {
    for (size_t w = 0; w < bits.size(); w++) {
      for (uint64_t left = bits[w]; left; left &= left - 1) {
        visit(static_cast<uint32_t>(w * 64 + static_cast<size_t>(__builtin_ctzll(left))));
      }
    }
  }

  void find_intervals() {
    intervals_.resize(count_);
    for (const Block& b : blocks_) {
      each_bit(b.live_in, [&](uint32_t r) { intervals_[r].hold(b.first); });
      each_bit(b.live_out, [&](uint32_t r) { intervals_[r].hold(b.end - 1); });
      for (uint32_t at = b.first; at < b.end; at++) {
        each(program_.code[at], [&](uint32_t r, bool) { intervals_[r].hold(at); });
      }
      if (!program_.wgmma) continue;
      uint32_t seen = ~0u;  // the bits change only at products and waits
      fly(b, [&](uint32_t at, const Bits& flying) {
        const Handler h = program_.code[at].execute;
        if (at != b.first && at + 1 != b.end && h != play_wgmma && h != play_wgmma_wait && seen != ~0u) return;
        seen = at;
        each_bit(flying, [&](uint32_t r) { intervals_[r].hold(at); });
      });
    }
  }

  void place() {
    places_.assign(count_, kNoRef);
    std::vector<uint32_t> order;
    for (uint32_t r = 0; r < count_; r++) {
      if (intervals_[r].first != ~0u) order.push_back(r);
    }
    std::sort(order.begin(), order.end(), [&](uint32_t x, uint32_t y) {
      return intervals_[x].first != intervals_[y].first ? intervals_[x].first < intervals_[y].first : x < y;
    });
    uint32_t units = 0;
    for (const bool wide : {true, false}) {
      using Held = std::pair<uint32_t, uint32_t>;  // last instruction, place
      std::vector<Held> held;                      // a heap, the earliest end on top
      for (uint32_t r : order) {
        if ((r >= narrow_) != wide) continue;
        const Interval& mine = intervals_[r];
        if (!held.empty() && held.front().first < mine.first) {
          places_[r] = held.front().second;
          std::pop_heap(held.begin(), held.end(), std::greater<>());
          held.pop_back();
        } else {
          places_[r] = units;
          units += wide ? 2 : 1;
        }
        held.emplace_back(mine.last, places_[r]);
        std::push_heap(held.begin(), held.end(), std::greater<>());
      }
    }
    program_.units = units;
    each_bit(blocks_[0].live_in,
             [&](uint32_t r) { program_.undefined.emplace_back(places_[r], places_[r] + (r >= narrow_ ? 2 : 1)); });
  }

  Ref final_ref(Ref r) const {
    if (r == kNoRef) return r;
    switch (class_of(r)) {
      case Class::Predicate:
        return index_of(r);
      case Class::Constant:
        return kInConstants | index_of(r);
      case Class::Special:
        return kInSpecials | index_of(r);
      default:
        return places_[number(r)];
    }
  }

  /** Instructions that have a place in common with a wgmma look whether they may. */
  void track_products() {
    std::vector<bool> owned(program_.units + 1, false);
    const auto is_owned = [&](Ref r) { return is_register(r) && owned[places_[number(r)]]; };
    for (const Instruction& i : program_.code) {
      if (i.execute == play_wgmma) each(i, [&](uint32_t r, bool) { owned[places_[r]] = r < narrow_; });
    }
    for (Instruction& i : program_.code) {
      if (i.execute == play_wgmma) continue;
      const Ref fields[] = {i.d, i.a, i.b, i.c};
      for (int f = 0; f < 4; f++) i.tracked |= static_cast<uint8_t>(is_owned(fields[f]) << f);
      for (uint32_t l = 0; l < i.list_count; l++)
        i.tracked |= static_cast<uint8_t>(is_owned(program_.lists[i.list + l]) << 4);
      if (i.tracked == 0) continue;
      i.inner = i.execute;
      i.execute = play_touching;
    }
  }

  void rewrite() {
    if (program_.wgmma) track_products();
    for (Instruction& i : program_.code) {
      for (Ref* r : {&i.d, &i.a, &i.b, &i.c, &i.predicate}) *r = final_ref(*r);
    }
    for (Ref& r : program_.lists) r = final_ref(r);
  }

  Program& program_;
  const uint32_t narrow_, count_;
  const size_t words_;
  std::vector<Block> blocks_;
  std::vector<uint32_t> block_of_, places_;
  std::vector<Interval> intervals_;
};

}  // namespace

void place_registers(Program& program, uint32_t narrow, uint32_t wide) { Placement(program, narrow, wide).run(); }

}  // namespace thalweg::emulator
