#include "native/emulator/module.h"

#include <algorithm>

#include "native/base/error.h"
#include "native/emulator/decoder.h"

namespace thalweg::emulator {
namespace {

uint64_t round_up(uint64_t x, uint64_t to) { return (x + to - 1) / to * to; }

uint32_t type_bytes(std::string_view type, uint32_t line) {
  size_t digits = 0;
  while (digits < type.size() && (type[digits] < '0' || type[digits] > '9')) digits++;
  const int bits = std::atoi(std::string(type.substr(digits)).c_str());
  if (bits < 8 || bits > 128) fail("BAD_PTX", "line ", line, ": a variable of type .", type);
  return static_cast<uint32_t>(bits) / 8;
}

/** .align 16 .b8 name[128], the words up to the type in any order; name without size: bytes 0. */
struct Declaration {
  std::string_view name;
  uint64_t bytes = 0, alignment = 1;
};

class Parser {
 public:
  Parser(Module& module) : module_(module), reader_(module.text, 1) {}

  void run() {
    for (;;) {
      reader_.skip_blanks();
      if (reader_.at_end()) return;
      statement();
    }
  }

 private:
  Declaration declaration() {
    Declaration out;
    uint64_t element = 0;
    while (reader_.accept(".")) {
      const std::string_view word = reader_.identifier();
      if (word == "align") {
        out.alignment = std::max<uint64_t>(reader_.number(), 1);
      } else if (word == "v2" || word == "v4") {
        fail("BAD_PTX", "line ", reader_.line(), ": vectors of variables are not known");
      } else if (word == "ptr") {  // .ptr .global .align 16: of what the pointer points at
        for (std::string_view space : {".global", ".shared", ".const", ".local"}) reader_.accept(space);
        if (reader_.accept(".align")) reader_.number();
      } else {
        element = type_bytes(word, reader_.line());
      }
    }
    out.name = reader_.identifier();
    out.alignment = std::max(out.alignment, element);
    out.bytes = element;
    while (reader_.accept("[")) {
      out.bytes = reader_.accept("]") ? 0 : out.bytes * reader_.number();
      if (out.bytes != 0) reader_.expect("]");
    }
    return out;
  }

  void statement() {
    reader_.expect(".");
    const std::string_view word = reader_.identifier();
    if (word == "version") {
      reader_.until('.');
      reader_.expect(".");
      reader_.number();
    } else if (word == "address_size") {
      if (reader_.number() != 64) fail("BAD_PTX", "line ", reader_.line(), ": addresses of other than 64 bits");
    } else if (word == "target") {
      reader_.skip_blanks();
      module_.target = reader_.identifier();
      while (reader_.accept(",")) reader_.identifier();
    } else if (word == "visible" || word == "weak" || word == "common") {
    } else if (word == "extern") {
      external_ = true;
      return;
    } else if (word == "entry") {
      entry();
    } else if (word == "shared") {
      shared_.push_back(declaration());
      if (external_) shared_.back().bytes = 0;
      reader_.expect(";");
    } else if (word == "file" || word == "loc") {
      reader_.until('\n');
    } else if (word == "global" || word == "const") {  // known by no name: an error where one is used
      reader_.until(';');
      reader_.expect(";");
    } else {
      fail("BAD_PTX", "line ", reader_.line(), ": the directive .", word, " is not known here");
    }
    external_ = false;
  }

  std::array<uint32_t, 3> three() {
    std::array<uint32_t, 3> out{1, 1, 1};
    for (size_t n = 0; n < 3; n++) {
      out[n] = static_cast<uint32_t>(reader_.number());
      if (!reader_.accept(",")) break;
    }
    return out;
  }

  void entry() {
    auto kernel = std::make_unique<Kernel>();
    kernel->name = reader_.identifier();
    uint64_t end = 0;
    if (reader_.accept("(") && !reader_.accept(")")) {
      do {
        reader_.expect(".param");
        const Declaration d = declaration();
        end = round_up(end, d.alignment);
        kernel->parameters.push_back({std::string(d.name), static_cast<uint32_t>(end), static_cast<uint32_t>(d.bytes)});
        kernel->variables[std::string(d.name)] = end;
        end += d.bytes;
      } while (reader_.accept(","));
      reader_.expect(")");
    }
    kernel->parameter_bytes = static_cast<uint32_t>(end);
    while (reader_.accept(".")) directive(*kernel);
    reader_.expect("{");
    kernel->body_line = reader_.line();
    kernel->body = reader_.block();
    place_shared(*kernel);
    module_.kernels.push_back(std::move(kernel));
  }

  void directive(Kernel& kernel) {
    const std::string_view word = reader_.identifier();
    if (word == "maxntid") {
      kernel.max_threads = three();
    } else if (word == "reqntid") {
      kernel.required_threads = three();
    } else if (word == "reqnctapercluster") {
      kernel.required_cluster = three();
    } else if (word == "minnctapersm") {
      kernel.min_blocks = static_cast<uint32_t>(reader_.number());
    } else if (word == "maxnreg") {
      kernel.max_registers = static_cast<uint32_t>(reader_.number());
    } else if (word == "maxclusterrank" || word == "maxnctapersm") {
      reader_.number();
    } else if (word == "pragma") {
      reader_.until(';');
      reader_.expect(";");
    } else if (word != "explicitcluster" && word != "noreturn" && word != "blocksareclusters") {
      fail("BAD_PTX", "line ", reader_.line(), ": the directive .", word, " is not known here");
    }
  }

  /** The module's variables first, then those declared in the body; behind all the dynamic ones (no size). */
  void place_shared(Kernel& kernel) {
    std::vector<Declaration> all = shared_;
    for (size_t at = 0; (at = kernel.body.find(".shared", at)) != std::string_view::npos; at += 7) {
      const char before = at == 0 ? '\n' : kernel.body[at - 1], after = kernel.body[at + 7];
      if ((before != '\n' && before != '\t' && before != ' ') || (after != ' ' && after != '\t')) continue;
      Parser inner(module_);
      inner.reader_ = Reader(kernel.body.substr(at + 7), reader_.line());
      all.push_back(inner.declaration());
    }
    uint64_t end = 0, alignment = 16;
    for (const Declaration& d : all) {
      if (d.bytes == 0) {
        alignment = std::max(alignment, d.alignment);
        continue;
      }
      end = round_up(end, d.alignment);
      kernel.variables[std::string(d.name)] = end;
      end += d.bytes;
    }
    kernel.static_shared_bytes = static_cast<uint32_t>(end == 0 ? 0 : round_up(end, alignment));
    for (const Declaration& d : all) {
      if (d.bytes == 0) kernel.variables[std::string(d.name)] = kernel.static_shared_bytes;
    }
  }

  Module& module_;
  Reader reader_;
  std::vector<Declaration> shared_;
  bool external_ = false;
};

}  // namespace

uint32_t Kernel::thread_limit() const {
  const auto& by = required_threads[0] ? required_threads : max_threads;
  return by[0] ? std::min(by[0] * by[1] * by[2], 1024u) : 1024;
}

const Program& Kernel::program() const {
  if (!program_) program_ = Decoder(*this).decode(body, body_line);
  return *program_;
}

const Kernel* Module::kernel(std::string_view name) const {
  for (const auto& k : kernels) {
    if (k->name == name) return k.get();
  }
  return nullptr;
}

std::shared_ptr<const Module> parse_module(std::string_view text) {
  auto module = std::make_shared<Module>();
  module->text = text;
  Parser(*module).run();
  return module;
}

}  // namespace thalweg::emulator
