#pragma once
#include <cstdint>
#include <set>

#include "native/base/error.h"
#include "native/emulator/machine.h"
#include "native/emulator/module.h"
#include "test/native/emulator/support.h"

/** Kernels written in PTX, played under every schedule; bugs made by changing a line must show under at least one. */
namespace check {

constexpr const char* kHeader =
    ".version 9.0\n.target sm_90a\n.address_size 64\n.extern .shared .align 1024 .b8 shared[];\n";

/** One launch: fresh arguments and memory, the kernel played, and what is wrong with the result or "". */
using Play = std::function<std::string(const thalweg::emulator::Kernel&, const thalweg::emulator::Schedule&)>;

struct Seen {
  int noticed = 0;                   // of the schedules
  std::set<std::string> complaints;  // their texts, without the place
};

/** Plays under all schedules; `round` varies what is random in them. */
inline Seen play_all(const std::string& body, const Play& play, uint64_t round) {
  const auto module = thalweg::emulator::parse_module(kHeader + body);
  Seen seen;
  for (int number = 0; number < thalweg::emulator::Schedule::kCount; number++) {
    std::string wrong;
    try {
      wrong = play(*module->kernels.at(0), thalweg::emulator::Schedule::numbered(number, seed() + round));
    } catch (const thalweg::Error& e) {
      CHECK(e.code() == "KERNEL_FAULT", e.code(), ": ", e.what());
      wrong = e.what();
    }
    if (wrong.empty()) continue;
    seen.noticed++;
    seen.complaints.insert(wrong);
  }
  return seen;
}

inline void must_be_right(const std::string& body, const Play& play) {
  const Seen seen = play_all(body, play, 0);
  CHECK(seen.noticed == 0, seen.noticed, " schedules: ", *seen.complaints.begin());
}

/** `from` -> `to` (every place) must be noticed, with a text that has `part`: a race in some rounds of all schedules,
 * most at once. */
inline void must_be_caught(const std::string& body, const std::string& from, const std::string& to, const char* part,
                           const Play& play) {
  std::string changed = body;
  CHECK(body.find(from) != std::string::npos, "no line ", from);
  for (size_t at = 0; (at = changed.find(from, at)) != std::string::npos; at += to.size())
    changed.replace(at, from.size(), to);
  Seen seen;
  for (uint64_t round = 0; round < 12; round++) {
    seen = play_all(changed, play, round);
    for (const std::string& text : seen.complaints)
      if (text.find(part) != std::string::npos) return;
  }
  CHECK(seen.noticed > 0, "nothing was noticed of ", from, " -> ", to);
  CHECK(false, from, " -> ", to, ": expected \"", part, "\", found ", *seen.complaints.begin());
}

}  // namespace check
