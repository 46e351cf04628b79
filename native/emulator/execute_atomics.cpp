#include <algorithm>

#include "native/emulator/access.h"
#include "native/emulator/execute.h"

/** atom and red (PTX ISA, "Parallel synchronization and communication instructions"). Lanes act in order. */
namespace thalweg::emulator {
namespace {

template <class T>
using Bits = std::conditional_t<sizeof(T) == 8, uint64_t, uint32_t>;

/** d = [a], [a] = F([a], b, c); list: b, c. */
template <Space S, class T, auto F>
void atomic(Warp& w, const Instruction& i, uint32_t mask) {
  Reach reach;
  reach_lanes<S>(w, i, mask, reach, sizeof(T), true);
  const Ref* operands = &w.launch->program.lists[i.list];
  const auto* b = in<Bits<T>>(w, operands[0]);
  const auto* c = in<Bits<T>>(w, operands[i.list_count > 1 ? 1 : 0]);
  each_lane(mask, [&](uint32_t l) {
    T old;
    void* at = reinterpret_cast<void*>(reach.at[l]);
    std::memcpy(&old, at, sizeof old);
    const T value = F(old, std::bit_cast<T>(b[l]), std::bit_cast<T>(c[l]));
    std::memcpy(at, &value, sizeof value);
    if (i.d != kNoRef) out<Bits<T>>(w, i.d)[l] = std::bit_cast<Bits<T>>(old);
  });
  w.launch->progress += i.selector == 0;
  if (i.selector) w.yield();
}

constexpr auto sum = [](auto x, auto b, auto) {
  if constexpr (std::is_floating_point_v<decltype(x)>)
    return x + b;
  else
    return static_cast<decltype(x)>(static_cast<std::make_unsigned_t<decltype(x)>>(x) +
                                    static_cast<std::make_unsigned_t<decltype(x)>>(b));
};
constexpr auto least = [](auto x, auto b, auto) { return std::min(x, b); };
constexpr auto most = [](auto x, auto b, auto) { return std::max(x, b); };
constexpr auto exchange = [](auto, auto b, auto) { return b; };
constexpr auto compare_swap = [](auto x, auto b, auto c) { return x == b ? c : x; };
constexpr auto both = [](auto x, auto b, auto) { return static_cast<decltype(x)>(x & b); };
constexpr auto either = [](auto x, auto b, auto) { return static_cast<decltype(x)>(x | b); };
constexpr auto differ = [](auto x, auto b, auto) { return static_cast<decltype(x)>(x ^ b); };
constexpr auto count_up = [](auto x, auto b, auto) {
  return x >= b ? decltype(x){0} : static_cast<decltype(x)>(x + 1);
};
constexpr auto count_down = [](auto x, auto b, auto) { return x == 0 || x > b ? b : static_cast<decltype(x)>(x - 1); };

template <class T, auto F>
Handler in_space(int space) {
  return space == 0  ? &atomic<Space::Global, T, F>
         : space > 0 ? &atomic<Space::Shared, T, F>
                     : &atomic<Space::Generic, T, F>;
}

template <class T>
Handler choose(int operation, int space) {
  if (operation == 0) return in_space<T, sum>(space);
  if (operation == 3) return in_space<T, exchange>(space);
  if constexpr (!std::is_floating_point_v<T>) {
    switch (operation) {
      case 1:
        return in_space<T, least>(space);
      case 2:
        return in_space<T, most>(space);
      case 4:
        return in_space<T, compare_swap>(space);
      case 5:
        return in_space<T, both>(space);
      case 6:
        return in_space<T, either>(space);
      case 7:
        return in_space<T, differ>(space);
      case 8:
        return in_space<T, count_up>(space);
      case 9:
        return in_space<T, count_down>(space);
      default:
        break;
    }
  }
  return nullptr;
}

void decode_atomic(Decoder& d, Instruction& i) {
  const Type t = d.type();
  const bool reduces = d.opcode()[0] == 'r';
  const int operation = d.take_one({"add", "min", "max", "exch", "cas", "and", "or", "xor", "inc", "dec"});
  const int space = d.take_one({"global", "shared", "shared::cta", "shared::cluster"});
  d.take_one({"relaxed", "acquire", "release", "acq_rel"});
  d.take_one({"cta", "cluster", "gpu", "sys"});
  const size_t sources = operation == 4 ? 2 : 1, first = reduces ? 0 : 1;
  d.expect_operands(first + 1 + sources, first + 1 + sources);
  if (!reduces && d.operand(0).kind != Operand::Kind::Sink) i.d = d.destination(0, t.bits);
  i.option = static_cast<uint16_t>(d.address(d.operand(first), i));
  for (size_t s = 0; s < sources; s++) d.add(i, d.source(first + 1 + s, t.bits));
  i.selector = operation == 3 || operation == 4;  // what a lock is made of
  if (t.is('f', 32))
    i.execute = choose<float>(operation, space);
  else if (t.is('f', 64))
    i.execute = choose<double>(operation, space);
  else if (t.bits == 32)
    i.execute = t.kind == 's' ? choose<int32_t>(operation, space) : choose<uint32_t>(operation, space);
  else if (t.bits == 64)
    i.execute = t.kind == 's' ? choose<int64_t>(operation, space) : choose<uint64_t>(operation, space);
}

}  // namespace

void add_atomics(DecodeTable& table) {
  table["atom"] = decode_atomic;
  table["red"] = decode_atomic;
}

}  // namespace thalweg::emulator
