#pragma once
#include <cstring>
#include <initializer_list>
#include <string>
#include <vector>

#include "native/base/error.h"
#include "native/emulator/machine.h"
#include "test/native/check.h"

/** Small PTX texts, played. */
namespace thalweg::emulator {

/** A kernel k(input, output) around a body: %in and %out hold the addresses, %t the thread, and there are registers. */
inline std::string kernel_around(const std::string& body, const std::string& directives = "") {
  return ".version 8.0\n.target sm_90a\n.address_size 64\n"
         ".extern .shared .align 1024 .b8 dynamic[];\n"
         ".visible .entry k(.param .u64 k_in, .param .u64 k_out)\n" +
         directives +
         "\n{\n.reg .pred %p<16>;\n.reg .b16 %h<16>;\n.reg .b32 %r<64>;\n.reg .f32 %f<32>;\n.reg .b64 %rd<32>;\n"
         ".reg .f64 %fd<16>;\n.reg .b32 %t;\n.reg .b64 %in, %out, %at;\n"
         "ld.param.u64 %in, [k_in];\nld.param.u64 %out, [k_out];\nmov.u32 %t, %tid.x;\n"
         "mul.wide.u32 %at, %t, 4;\nadd.s64 %at, %out, %at;\n" +
         body + "\nret;\n}\n";
}

struct Try {
  std::vector<uint32_t> input = std::vector<uint32_t>(256, 0), output = std::vector<uint32_t>(256, 0xDEADBEEF);
  LaunchShape shape;
  Schedule schedule = Schedule::numbered(static_cast<int>(check::seed() % Schedule::kCount), check::seed());
  Played played;

  Try() { shape.block = {32, 1, 1}; }

  /** Plays the text's kernel k on the two buffers. */
  void run(const std::string& text) {
    const auto module = parse_module(text);
    const Kernel* kernel = module->kernel("k");
    CHECK(kernel != nullptr);
    GlobalMemory memory;
    memory.add(input.data(), input.size() * 4, "the input");
    memory.add(output.data(), output.size() * 4, "the output");
    const uint32_t* in = input.data();
    uint32_t* out = output.data();
    void* arguments[] = {&in, &out};
    played = play(*kernel, shape, arguments, memory, schedule);
  }
  void body(const std::string& text, const std::string& directives = "") { run(kernel_around(text, directives)); }

  /** What playing a body fails with; fails the test when it does not. */
  std::string fault(const std::string& text, const std::string& directives = "") {
    try {
      body(text, directives);
    } catch (const Error& e) {
      return std::string(e.code()) + ": " + e.what();
    }
    check::failed(__FILE__, __LINE__, "no fault");
  }
};

/** Runs a body that leaves a 32-bit result in %r0, for one value in %r1 (and %r2, %r3). */
inline uint32_t value_of(const std::string& body, uint32_t a, uint32_t b = 0, uint32_t c = 0) {
  Try t;
  t.input[0] = a;
  t.input[1] = b;
  t.input[2] = c;
  t.body(
      "ld.global.u32 %r1, [%in];\nld.global.u32 %r2, [%in+4];\nld.global.u32 %r3, [%in+8];\n"
      "mov.b32 %f1, %r1;\nmov.b32 %f2, %r2;\nmov.b32 %f3, %r3;\nmov.b64 %rd1, {%r1, %r2};\n" +
      body + "\nst.global.u32 [%at], %r0;");
  for (uint32_t l = 1; l < 32; l++) CHECK(t.output[l] == t.output[0]);
  return t.output[0];
}

inline bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

#define CHECK_FAULT(text, part)                                        \
  do {                                                                 \
    const std::string found = (text);                                  \
    CHECK(thalweg::emulator::contains(found, part), "found: ", found); \
  } while (0)

}  // namespace thalweg::emulator
