#pragma once
#include <sstream>
#include <stdexcept>
#include <string>

namespace thalweg {

/** Every failure of the engine. `code` is stable and becomes `.code` of the JavaScript Error (BAD_PROGRAM, NOT_FINITE,
 * ...). */
class Error : public std::runtime_error {
 public:
  Error(std::string code, const std::string& message) : std::runtime_error(message), code_(std::move(code)) {}
  const std::string& code() const { return code_; }

 private:
  std::string code_;
};

/** Throws Error(code, all parts streamed together). */
template <class... Parts>
[[noreturn]] void fail(const char* code, const Parts&... parts) {
  std::ostringstream out;
  (out << ... << parts);
  throw Error(code, out.str());
}

}  // namespace thalweg
