#pragma once
#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

/** PTX text as decoded kernels. */
namespace thalweg::emulator {

/** A parameter of a kernel, where it lies in the parameter space. */
struct Parameter {
  std::string name;
  uint32_t offset = 0, bytes = 0;
};

/** A variable with an address: in shared memory, or a parameter in the parameter space. */
using Variables = std::map<std::string, uint64_t, std::less<>>;

struct Program;  // decoded instructions, program.h

class Kernel {
 public:
  std::string name;  // as in the PTX (mangled)
  std::vector<Parameter> parameters;
  uint32_t parameter_bytes = 0;
  std::array<uint32_t, 3> max_threads{};       // .maxntid; zeros when there is none
  std::array<uint32_t, 3> required_threads{};  // .reqntid; zeros when there is none
  std::array<uint32_t, 3> required_cluster{};  // .reqnctapercluster; zeros when there is none
  uint32_t min_blocks = 0;                     // .minnctapersm; 0 when there is none
  uint32_t max_registers = 0;                  // .maxnreg; 0 when there is none
  uint32_t static_shared_bytes = 0;            // lie first; dynamic shared memory behind them
  Variables variables;
  std::string_view body;  // PTX between the braces, in the module's text
  uint32_t body_line = 0;

  /** Threads a block may have by the directives (at most 1024). */
  uint32_t thread_limit() const;
  /** The body's instructions, decoded when first asked for. Fails with BAD_PTX. */
  const Program& program() const;

 private:
  mutable std::shared_ptr<const Program> program_;
};

class Module {
 public:
  std::string text;
  std::vector<std::unique_ptr<const Kernel>> kernels;
  std::string target;  // "sm_90a"

  /** Null when there is no entry of that name. */
  const Kernel* kernel(std::string_view name) const;
};

/**
 * Every kernel of a PTX text; bodies are decoded when they are first played. Lines in faults are those of the text.
 * Fails with BAD_PTX and the line for what is not understood: an unknown directive or name, later an unknown
 * instruction.
 */
std::shared_ptr<const Module> parse_module(std::string_view text);

}  // namespace thalweg::emulator
