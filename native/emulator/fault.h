#pragma once
#include <sstream>
#include <stdexcept>
#include <string>

namespace thalweg::emulator {

/** What the hardware would leave undefined or answer with an error. The machine adds kernel, line, block and warp. */
class Fault : public std::runtime_error {
 public:
  explicit Fault(const std::string& text) : std::runtime_error(text) {}
};

/** Throws Fault(all parts streamed together). */
template <class... Parts>
[[noreturn]] void fault(const Parts&... parts) {
  std::ostringstream out;
  (out << ... << parts);
  throw Fault(out.str());
}

}  // namespace thalweg::emulator
