#include <sys/resource.h>
#include <unistd.h>

#include <bit>
#include <csignal>
#include <cstring>
#include <filesystem>

#include "native/cpu/backend.h"
#include "native/engine/safetensors.h"
#include "native/engine/worker.h"
#include "test/native/check.h"

using namespace thalweg;
using namespace thalweg::engine;

namespace {

/** Writes the format of ts/engine/encode.ts. */
struct Encoder {
  std::vector<std::byte> bytes;
  template <class T>
  Encoder& put(T value) {
    const auto* p = reinterpret_cast<const std::byte*>(&value);
    bytes.insert(bytes.end(), p, p + sizeof value);
    return *this;
  }
  Encoder& text(const std::string& s) {
    put<uint32_t>(static_cast<uint32_t>(s.size()));
    const auto* p = reinterpret_cast<const std::byte*>(s.data());
    bytes.insert(bytes.end(), p, p + s.size());
    return *this;
  }
  Encoder& tensor(const std::string& name, DType dtype, Space space, std::vector<uint64_t> shape, uint64_t offset) {
    text(name)
        .put(static_cast<uint8_t>(dtype))
        .put(static_cast<uint8_t>(space))
        .put(static_cast<uint8_t>(shape.size()));
    for (const uint64_t n : shape) put(n);
    return put(offset);
  }
  Encoder& command(const std::string& op, std::vector<int32_t> operands, std::vector<double> attributes) {
    text(op).text("label of " + op).put(static_cast<uint32_t>(operands.size()));
    for (const int32_t o : operands) put(o);
    put(static_cast<uint32_t>(attributes.size()));
    for (const double a : attributes) put(a);
    return *this;
  }
};

constexpr uint64_t kArena = 64 * 64;

std::vector<std::byte> encoded_layout(uint64_t arena = kArena) {
  Encoder e;
  e.put<uint32_t>(0x314c5754).put(arena).put<uint32_t>(3);
  e.tensor("param/w", DType::F32, Space::Persistent, {8, 16}, 0);
  e.tensor("x", DType::F32, Space::Persistent, {4, 16}, 512);
  e.tensor("y", DType::F32, Space::Persistent, {4, 8}, 1024);
  return e.bytes;
}

/** s = x w^T, y = copy of s, w *= 2. */
std::vector<std::byte> encoded_program() {
  Encoder e;
  e.put<uint32_t>(0x31505754).text("test").put<uint64_t>(128).put<uint32_t>(4);
  e.tensor("param/w", DType::F32, Space::Persistent, {8, 16}, 0);
  e.tensor("x", DType::F32, Space::Persistent, {4, 16}, 512);
  e.tensor("y", DType::F32, Space::Persistent, {4, 8}, 1024);
  e.tensor("s", DType::F32, Space::Scratch, {4, 8}, 0);
  e.put<uint32_t>(3);
  e.command("linear", {1, 0, -1, 3}, {});
  e.command("copy", {3, 2}, {});
  e.command("scale", {0, 0}, {2});
  return e.bytes;
}

Layout layout() {
  const auto bytes = encoded_layout();
  return decode_layout(bytes.data(), bytes.size());
}
Program program() {
  const auto bytes = encoded_program();
  return decode_program(bytes.data(), bytes.size(), layout());
}

std::vector<Program> list(Program p) {
  std::vector<Program> all;
  all.push_back(std::move(p));
  return all;
}

template <class F>
std::string code_of(F&& f) {
  try {
    f();
  } catch (const Error& e) {
    return e.code();
  }
  return "";
}

std::string temporary(const char* name) {
  return (std::filesystem::temp_directory_path() / (std::string("thalweg-") + std::to_string(getpid()) + "-" + name))
      .string();
}

}  // namespace

TEST("an encoded Program decodes to what was written") {
  const Program p = program();
  CHECK(p.name == "test" && p.scratch_bytes == 128 && p.tensors.size() == 4 && p.commands.size() == 3);
  CHECK(p.commands[0].operands[2] == -1 && p.commands[2].attributes[0] == 2);
  CHECK(p.tensors[1].name == "x" && p.tensors[1].bytes == 256 && p.tensors[3].space == Space::Scratch);
}

TEST("a Program cut short anywhere is BAD_PROGRAM") {
  const auto bytes = encoded_program(), layout_bytes = encoded_layout();
  for (size_t n = 0; n < bytes.size(); n++) {
    const std::vector<std::byte> cut(bytes.begin(),
                                     bytes.begin() + static_cast<long>(n));  // its own heap block: ASan sees overreads
    CHECK(code_of([&] { decode_program(cut.data(), cut.size(), layout()); }) == "BAD_PROGRAM", "cut at ", n);
  }
  for (size_t n = 0; n < layout_bytes.size(); n++) {
    const std::vector<std::byte> cut(layout_bytes.begin(), layout_bytes.begin() + static_cast<long>(n));
    CHECK(code_of([&] { decode_layout(cut.data(), cut.size()); }) == "BAD_PROGRAM", "cut at ", n);
  }
}

TEST("flipped bytes give a Program inside its arenas or BAD_PROGRAM, never a crash") {
  std::mt19937_64 random(check::seed());
  const auto whole = encoded_program();
  const Layout l = layout();
  int refused = 0;
  for (int round = 0; round < 20000; round++) {
    auto bytes = whole;
    for (uint64_t flips = 1 + random() % 3; flips > 0; flips--)
      bytes[random() % bytes.size()] ^= static_cast<std::byte>(1 + random() % 255);
    try {
      const Program p = decode_program(bytes.data(), bytes.size(), l);
      for (const auto& t : p.tensors) {
        const uint64_t arena = t.space == Space::Persistent ? l.persistent_bytes : p.scratch_bytes;
        CHECK(t.offset <= arena && t.bytes <= arena - t.offset && t.offset % dtype_size(t.dtype) == 0);
      }
    } catch (const Error& e) {
      CHECK(e.code() == "BAD_PROGRAM", e.code(), ": ", e.what());
      refused++;
    }
  }
  CHECK(refused > 10000, refused, " of 20000 refused");
}

TEST("a played Program computes, and packed copies follow a command that writes their master") {
  const auto backend = cpu::make_backend(3);
  auto module = backend->load(layout(), list(program()));
  std::mt19937 random(static_cast<uint32_t>(check::seed()));
  std::vector<float> w(128), x(64), y(32);
  for (auto* v : {&w, &x})
    for (float& f : *v) f = static_cast<float>(static_cast<int>(random() % 9) - 4);  // small integers: sums are exact
  module->write(0, w.data(), 512);
  module->write(512, x.data(), 256);
  const std::vector<PlayEntry> entries = {{"test", {}, {}}, {"test", {}, {}}};
  const PlayReport report = module->play(entries, true, {});
  CHECK(report.commands.size() == 6 && report.commands[1].op == "copy" && report.commands[1].label == "label of copy");
  module->read(1024, y.data(), 128);
  for (int r = 0; r < 4; r++)
    for (int j = 0; j < 8; j++) {
      float want = 0;
      for (int k = 0; k < 16; k++) want += x[r * 16 + k] * 2 * w[j * 16 + k];  // the second time with doubled weights
      CHECK(y[r * 8 + j] == want, "y[", r, ",", j, "] = ", y[r * 8 + j], ", want ", want);
    }
}

TEST("play stops before the next command when it is cancelled") {
  const auto backend = cpu::make_backend(1);
  auto module = backend->load(layout(), list(program()));
  const std::atomic<bool> stop{true};
  const Cancel cancel{&stop, nullptr};
  CHECK(code_of([&] { module->play({{"test", {}, {}}}, false, cancel); }) == "CANCELLED");
  CHECK(code_of([&] { module->play({{"none", {}, {}}}, false, {}); }) == "BAD_INPUT");
}

TEST("memory that can never fit is refused, naming the bytes, and the plan counts without allocating") {
  const auto bytes = encoded_layout(uint64_t{1} << 46);
  Layout huge = decode_layout(bytes.data(), bytes.size());
  const auto plan = cpu::plan_memory(huge, list(program()), 4);
  CHECK(plan.scratch_bytes == 128);
  try {
    cpu::make_backend(1)->load(std::move(huge), {});
    CHECK(false, "it was loaded");
  } catch (const Error& e) {
    CHECK(e.code() == "OUT_OF_MEMORY" && std::string(e.what()).find("70368744177664") != std::string::npos, e.what());
  }
}

TEST("initial values do not depend on the number of threads") {
  std::vector<std::vector<float>> results;
  for (const int threads : {1, 2, 5}) {
    const auto bytes = encoded_layout(1 << 20);
    const auto backend = cpu::make_backend(threads);  // outlives its modules
    const auto module = backend->load(decode_layout(bytes.data(), bytes.size()), {});
    TensorRef all{"all", DType::F32, Space::Persistent, 1, {200000, 0, 0, 0}, 0, 800000};
    module->initialize(row_range(all, 0, -1), {Init::TruncatedNormal, 1, 0, 9, 9});
    results.emplace_back(200000);
    module->read(0, results.back().data(), 800000);
  }
  CHECK(results[0] == results[1] && results[0] == results[2]);
}

TEST("a file that cannot be written to its end is IO_ERROR and leaves nothing behind") {
  const std::string path = temporary("partial");
  std::vector<std::byte> data(1 << 20);
  struct rlimit before;
  getrlimit(RLIMIT_FSIZE, &before);
  std::signal(SIGXFSZ, SIG_IGN);
  const struct rlimit small = {64 << 10, before.rlim_max};
  setrlimit(RLIMIT_FSIZE, &small);
  std::string text;
  try {
    write_safetensors(path, {{"a", DType::F32, {1 << 18}, data.data(), data.size()}}, {}, {});
  } catch (const Error& e) {
    text = e.code() + " " + e.what();
  }
  setrlimit(RLIMIT_FSIZE, &before);
  CHECK(text.find("IO_ERROR") == 0 && text.find(path) != std::string::npos &&
            text.find("File too large") != std::string::npos,
        text);
  CHECK(!std::filesystem::exists(path));
  const std::atomic<bool> stop{true};
  CHECK(code_of([&] {
          write_safetensors(path, {{"a", DType::F32, {1 << 18}, data.data(), data.size()}}, {}, {&stop, nullptr});
        }) == "CANCELLED");
  CHECK(!std::filesystem::exists(path));
}

TEST("a written file reads back, and one with any byte of its header flipped is refused or sound") {
  const std::string path = temporary("flips");
  std::vector<std::byte> data(24);
  for (size_t i = 0; i < data.size(); i++) data[i] = static_cast<std::byte>(i);
  write_safetensors(path,
                    {{"a", DType::F32, {2, 2}, data.data(), 16}, {"b\n\"", DType::BF16, {4}, data.data() + 16, 8}},
                    {{"k", "v"}}, {});
  std::vector<char> whole(std::filesystem::file_size(path));
  File(path, File::Mode::Read).read_at(whole.data(), whole.size(), 0);
  const SafetensorsFile file(path);
  CHECK(file.entries().size() == 2 && file.metadata().at("k") == "v" && file.entries().count("b\n\"") == 1);
  std::mt19937_64 random(check::seed());
  for (size_t at = 0; at + 24 < whole.size(); at++) {
    auto bytes = whole;
    bytes[at] = static_cast<char>(bytes[at] ^ (1 + random() % 255));
    File out(path, File::Mode::Create);
    out.write(bytes.data(), bytes.size());
    const std::string code = code_of([&] {
      const SafetensorsFile damaged(path);
      for (const auto& [name, entry] : damaged.entries()) CHECK(entry.begin <= entry.end && entry.end <= whole.size());
    });
    CHECK(code.empty() || code == "CORRUPT_CHECKPOINT", "byte ", at, ": ", code);
  }
  std::filesystem::remove(path);
}

TEST("a worker plays its jobs in order, and what is queued when it stops") {
  std::vector<int> order;
  Worker worker;
  for (int i = 0; i < 100; i++) worker.post([&order, i] { order.push_back(i); });
  worker.stop();
  CHECK(order.size() == 100);
  for (int i = 0; i < 100; i++) CHECK(order[static_cast<size_t>(i)] == i);
  worker.post([&order] { order.push_back(-1); });
  worker.stop();
  CHECK(order.size() == 100);
}

TEST_MAIN()
