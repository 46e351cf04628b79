#pragma once
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <functional>
#include <random>
#include <sstream>
#include <string>
#include <vector>

/** A test runner of the size we need: TEST(name) { CHECK(...) }, one seed printed per run, exit 1 when a test fails. */
namespace check {

struct Case {
  const char* name;
  std::function<void()> body;
};
inline std::vector<Case>& cases() {
  static std::vector<Case> all;
  return all;
}
struct Register {
  Register(const char* name, std::function<void()> body) { cases().push_back({name, std::move(body)}); }
};
struct Failure : std::exception {
  std::string text;
  explicit Failure(std::string t) : text(std::move(t)) {}
  const char* what() const noexcept override { return text.c_str(); }
};

/** THALWEG_TEST_SEED repeats a run; otherwise fresh. */
inline uint64_t seed() {
  static const uint64_t s = [] {
    const char* given = std::getenv("THALWEG_TEST_SEED");
    return given ? std::strtoull(given, nullptr, 10)
                 : (static_cast<uint64_t>(std::random_device{}()) << 16) % 1000000007;
  }();
  return s;
}

template <class... P>
[[noreturn]] void failed(const char* file, int line, const P&... parts) {
  std::ostringstream out;
  out << file << ":" << line << ": ";
  (out << ... << parts);
  throw Failure(out.str());
}

/** Arguments: a part of the names wanted; or --list; or --from INDEX, the tests behind one that ended the program. */
inline int run(int argc, char** argv) {
  const std::string first = argc > 1 ? argv[1] : "", filter = first.rfind("--", 0) == 0 ? "" : first;
  if (first == "--list") {
    for (const auto& c : cases()) std::printf("%s\n", c.name);
    return 0;
  }
  size_t index = first == "--from" && argc > 2 ? std::strtoull(argv[2], nullptr, 10) : 0;
  int bad = 0, ran = 0;
  std::printf("seed %llu (repeat with THALWEG_TEST_SEED)\n", static_cast<unsigned long long>(seed()));
  std::fflush(stdout);
  for (; index < cases().size(); index++) {
    const Case& c = cases()[index];
    if (std::string(c.name).find(filter) == std::string::npos) continue;
    ran++;
    try {
      c.body();
      std::printf("ok   %s\n", c.name);
    } catch (const std::exception& e) {
      bad++;
      std::printf("FAIL %s\n     %s\n", c.name, e.what());
    }
    std::fflush(stdout);
  }
  std::printf("tests: %d passed, %d failed\n", ran - bad, bad);
  return bad == 0 && ran > 0 ? 0 : 1;
}

}  // namespace check

#define CHECK_JOIN2(a, b) a##b
#define CHECK_JOIN(a, b) CHECK_JOIN2(a, b)
#define TEST(name)                                                                      \
  static void CHECK_JOIN(test_, __LINE__)();                                            \
  static check::Register CHECK_JOIN(reg_, __LINE__)(name, CHECK_JOIN(test_, __LINE__)); \
  static void CHECK_JOIN(test_, __LINE__)()
#define CHECK(condition, ...)                                                                                 \
  do {                                                                                                        \
    if (!(condition)) check::failed(__FILE__, __LINE__, "CHECK(" #condition ") " __VA_OPT__(, ) __VA_ARGS__); \
  } while (0)
#define TEST_MAIN() \
  int main(int argc, char** argv) { return check::run(argc, argv); }
