#include <algorithm>
#include <array>

#include "native/cuda/backend.h"
#include "native/cuda/gradient_squares.h"
#include "test/native/cuda/command.h"
#include "test/native/reference.h"
#include "test/native/squares_plan.h"

// When the backend lets sums of squares be made and taken: never those of other values.
namespace {

using namespace check;

/** Programs over one flat tensor of gradients, played as they are asked, or one entry at a time. */
class Gradients {
 public:
  struct Weight {
    int64_t m, n, begin;
  };

  explicit Gradients(DType act)
      : act_(act), short_(act == DType::F32 ? 520 : 1096), long_(act == DType::F32 ? 776 : 1160) {
    int64_t at = 0;
    // Sizes, and gaps before them: ragged, and once no multiple of a vector.
    using Sizes = std::array<int64_t, 3>;
    const auto cut = [&](int64_t gap) { return act == DType::F32 ? Sizes{64, 224, gap} : Sizes{136, 48, gap}; };
    for (const auto& [m, n, gap] : {Sizes{40, 48, 12}, cut(204), Sizes{8, 24, 1}, cut(3)}) {
      weights_.push_back({m, n, at + gap});
      at += gap + m * n;
    }
    total_ = (at + 15) / 16 * 16;
    grads_ = add("grad", DType::F32, {total_});
    loss_ = add("out/loss", DType::F32, {1});
    norm_ = add("out/norm", DType::F32, {1});
    status_ = add("out/status", DType::I32, {1});
    other_ = add("other", DType::F32, {total_});
    programs_ = {accumulate("short", short_, false), accumulate("long", long_, false), accumulate("tied", short_, true),
                 update(), bystander()};
  }

  const std::vector<Weight>& weights() const { return weights_; }
  int64_t short_rows() const { return short_; }
  const engine::Program& program(const std::string& name) const {
    return *std::find_if(programs_.begin(), programs_.end(), [&](const auto& p) { return p.name == name; });
  }
  const engine::TensorRef& tensor(const std::string& name) const { return layout_.at(name); }
  int64_t total() const { return total_; }
  std::unique_ptr<engine::DeviceModule> load(engine::Backend& backend) const {
    auto module = backend.load(layout_, programs_);
    fill(*module, 1.0);
    return module;
  }
  /** Inputs, loss and status anew. */
  void fill(engine::DeviceModule& module, double size) const {
    Random random(11);
    for (const auto& t : layout_.tensors)
      if (t.name.rfind("in/", 0) == 0 || t.name == "other") write(module, t, random.normal(count(t), size));
    write(module, tensor("out/loss"), {1.0});
    write(module, tensor("out/status"), {0});
  }
  static int64_t count(const engine::TensorRef& t) { return static_cast<int64_t>(t.rows() * t.row_elements()); }
  static void write(engine::DeviceModule& module, const engine::TensorRef& t, const Values& values, int64_t from = 0) {
    const Buffer buffer(t.dtype, {static_cast<int64_t>(values.size())}, values);
    module.write(t.offset + static_cast<uint64_t>(from) * dtype_size(t.dtype), buffer.tensor().data,
                 buffer.tensor().bytes());
  }
  /** The bits of gradients, norm and status. */
  std::vector<unsigned char> state(engine::DeviceModule& module) const {
    std::vector<unsigned char> all;
    for (const char* name : {"grad", "out/norm", "out/status"}) {
      const auto& t = tensor(name);
      std::vector<unsigned char> bits(t.bytes);
      module.read(t.offset, bits.data(), t.bytes);
      all.insert(all.end(), bits.begin(), bits.end());
    }
    return all;
  }

 private:
  static engine::TensorRef ref(const std::string& name, DType dtype, const std::vector<int64_t>& shape,
                               uint64_t offset) {
    engine::TensorRef t;
    t.name = name;
    t.dtype = dtype;
    t.rank = static_cast<int>(shape.size());
    t.offset = offset;
    t.bytes = dtype_size(dtype);
    for (size_t i = 0; i < shape.size(); i++) t.bytes *= static_cast<uint64_t>(t.shape[i] = shape[i]);
    return t;
  }
  engine::TensorRef add(const std::string& name, DType dtype, const std::vector<int64_t>& shape) {
    const engine::TensorRef t = ref(name, dtype, shape, layout_.persistent_bytes);
    layout_.by_name[name] = layout_.tensors.size();
    layout_.tensors.push_back(t);
    layout_.persistent_bytes += (t.bytes + 63) / 64 * 64;
    return t;
  }
  static void command(engine::Program& p, const char* op, const std::vector<engine::TensorRef>& operands,
                      std::vector<double> attributes) {
    engine::ProgramCommand c{op, op, {}, std::move(attributes)};
    for (const auto& t : operands) {
      c.operands.push_back(static_cast<int32_t>(p.tensors.size()));
      p.tensors.push_back(t);
    }
    p.commands.push_back(std::move(c));
  }
  /** Every weight's gradient; tied: the last weight's is made first, then added to by another kernel at the end. */
  engine::Program accumulate(const std::string& name, int64_t rows, bool tied) {
    engine::Program p;
    p.name = name;
    for (size_t i = weights_.size(); i-- > 0;) {
      const Weight& w = weights_[i];
      const std::string tail = "/" + name + std::to_string(i);
      command(p, "linearWgrad",
              {add("in/x" + tail, act_, {rows, w.n}), add("in/dy" + tail, act_, {rows, w.m}), gradient(w)},
              {double{ops::kAddUnlessFirst}});
    }
    if (tied) {
      engine::TensorRef part = ref("part", DType::F32, {2048}, grads_.offset + weights_.back().begin * 4 + 4096);
      engine::TensorRef from = ref("from", DType::F32, {2048}, other_.offset);
      command(p, "axpy", {from, part}, {0.5});
    }
    return p;
  }
  engine::TensorRef gradient(const Weight& w) {
    return ref("gradient", DType::F32, {w.m, w.n}, grads_.offset + static_cast<uint64_t>(w.begin) * 4);
  }
  engine::Program update() {
    engine::Program p;
    p.name = "update";
    command(p, "gradNorm", {grads_, loss_, norm_, status_}, {});
    return p;
  }
  /** Has nothing to do with gradients. */
  engine::Program bystander() {
    engine::Program p;
    p.name = "bystander";
    command(p, "scale", {other_, other_}, {1.5});
    return p;
  }

  DType act_;
  int64_t short_, long_;  // rows of a micro-batch
  engine::Layout layout_;
  std::vector<Weight> weights_;
  std::vector<engine::Program> programs_;
  engine::TensorRef grads_, loss_, norm_, status_, other_;
  int64_t total_ = 0;
};

engine::PlayEntry entry_of(const std::string& program, bool first) {
  engine::PlayEntry entry;
  entry.program = program;
  entry.step.integers[ops::kIntegerFirstMicroBatch] = first ? 1 : 0;
  return entry;
}

cuda::SquaresUse use_of(const Gradients& g, const std::string& program) {
  return cuda::squares_use(g.program(program), cuda::normed_tensor(g.program("update")));
}

}  // namespace

TEST("the table serves the operand of gradNorm, weight gradients that nothing later writes, and nobody else") {
  const Gradients g(DType::BF16);
  const auto normed = cuda::normed_tensor(g.program("update"));
  CHECK(normed && normed->offset == g.tensor("grad").offset && normed->n == g.total());
  CHECK(!cuda::normed_tensor(g.program("short")));
  const cuda::SquaresUse plain = use_of(g, "short"), tied = use_of(g, "tied"), update = use_of(g, "update");
  CHECK(plain.writes && plain.makes && !plain.takes);
  CHECK(std::count(plain.commands.begin(), plain.commands.end(), true) == 4);
  CHECK(tied.writes && tied.makes && !tied.commands[0] && !tied.commands[4], "the first and the last write the same");
  CHECK(std::count(tied.commands.begin(), tied.commands.end(), true) == 3);
  CHECK(update.takes && !update.writes && !update.makes);
  const cuda::SquaresUse bystander = use_of(g, "bystander");
  CHECK(!bystander.writes && !bystander.makes && !bystander.takes);
  const cuda::SquaresUse none = cuda::squares_use(g.program("short"), std::nullopt);
  CHECK(!none.writes && !none.makes && std::count(none.commands.begin(), none.commands.end(), true) == 0);
}

TEST("a view is lent to a Program right before the norm and to the norm after it, and to no one else") {
  const Gradients g(DType::BF16);
  const cuda::SquaresUse makes = use_of(g, "short"), takes = use_of(g, "update"), other = use_of(g, "bystander");
  cuda::SquaresTable table;
  cuda::Stream& stream = test_stream();
  const cuda::DeviceMemory arena(g.tensor("other").offset + g.tensor("other").bytes, "an arena");
  table.cover(*cuda::normed_tensor(g.program("update")), arena.data());
  CHECK(table.view_for(takes, false, stream) == nullptr, "nothing is known at first");
  CHECK(table.view_for(makes, false, stream) == nullptr, "nobody asks");
  CHECK(table.view_for(makes, true, stream) != nullptr && table.view_for(takes, false, stream) != nullptr);
  CHECK(table.view_for(other, true, stream) == nullptr && table.view_for(takes, false, stream) != nullptr);
  CHECK(table.view_for(makes, false, stream) == nullptr && table.view_for(takes, false, stream) == nullptr);
  const auto known_after = [&](uint64_t offset, size_t bytes) {
    table.view_for(makes, true, stream);
    table.touch(arena.data() + offset, bytes);
    return table.view_for(takes, false, stream) != nullptr;
  };
  const auto& grads = g.tensor("grad");
  CHECK(known_after(g.tensor("other").offset, 64) && known_after(grads.offset + grads.bytes, 4));
  CHECK(!known_after(grads.offset, 1) && !known_after(grads.offset + grads.bytes - 1, 1) && !known_after(0, 1 << 20));
}

namespace {

/** Two Modules: one plays as it is asked, so with squares, the other entry by entry, so without. */
struct Pair {
  const Gradients& g;
  engine::Backend& backend;
  std::unique_ptr<engine::DeviceModule> asked = g.load(backend), alone = g.load(backend);

  /** Programs' names in one play; between them what the host does. */
  void play(const std::vector<std::string>& names, bool first, bool profile) {
    std::vector<engine::PlayEntry> entries;
    for (const auto& name : names) entries.push_back(entry_of(name, first));
    asked->play(entries, profile, {});
    for (const auto& e : entries) alone->play({e}, false, {});
    std::string what;
    for (const auto& name : names) what += " " + name;
    CHECK(g.state(*asked) == g.state(*alone), "after", what);
  }
  void write(int64_t at) {
    for (auto* module : {&asked, &alone}) Gradients::write(**module, g.tensor("grad"), {1e3}, at);
  }
  void refill() {
    for (auto* module : {&asked, &alone}) g.fill(**module, 2.0);
  }
  void refresh() {
    for (auto* module : {&asked, &alone}) (*module)->refresh();
  }
  /** Modules anew with the gradients that are there: what was known of them is not. */
  void resume() {
    const auto& grads = g.tensor("grad");
    std::vector<unsigned char> bits(grads.bytes);
    asked->read(grads.offset, bits.data(), bits.size());
    asked = g.load(backend);
    alone = g.load(backend);
    for (auto* module : {&asked, &alone}) (*module)->write(grads.offset, bits.data(), bits.size());
  }
};

template <class Body>
void with_modules(Body body) {
  for (DType act : {DType::BF16, DType::F32})
    on_device(80, act == DType::F32 ? 4 : 2, [&] {
      const Gradients g(act);
      for (size_t i : {1, 3}) {
        const auto& w = g.weights()[i];
        CHECK(on_gpu() || makes_squares(w.m, w.n, g.short_rows(), w.begin, act, device_target()),
              "this test shows nothing");
      }
      const auto backend = cuda::make_backend(0);
      Pair modules{g, *backend};
      body(modules);
    });
}

}  // namespace

TEST("norms have the bits they have without squares, after each thing that could leave stale ones") {
  with_modules([](Pair& modules) {
    modules.play({"short", "update"}, true, false);
    modules.play({"update"}, false, false);  // once more: nothing was written
    const auto& w = modules.g.weights()[1];
    modules.write(w.begin + w.m * w.n / 2);
    modules.play({"update"}, false, false);
    modules.play({"short", "long", "update"}, false, false);  // lengths in turns, two micro-batches
    modules.play({"short"}, false, false);                    // nobody asks
    modules.play({"bystander", "update"}, false, false);
    modules.play({"long", "update"}, true, true);
    modules.play({"tied"}, false, false);
    modules.play({"update"}, false, false);
    modules.play({"tied", "update"}, false, false);
    modules.play({"short", "bystander", "update"}, false, false);
    modules.resume();
    modules.play({"update", "short", "update"}, false, false);
  });
}

TEST("so they have whatever is played and written in whatever order") {
  Random random(21);
  with_modules([&](Pair& modules) {
    const std::string names[] = {"short", "long", "tied", "bystander", "update"};
    for (int round = 0; round < 4; round++) {
      std::vector<std::string> play;
      const int64_t length = random.integer(1, 3);
      for (int64_t i = 0; i < length; i++) {
        const bool norm = i + 1 == length && random.integer(0, 3) > 0;  // mostly as in training
        play.push_back(norm ? "update" : names[random.integer(0, 4)]);
      }
      modules.play(play, random.integer(0, 1) == 1, random.integer(0, 4) == 0);
      const int64_t then = random.integer(0, 5);
      if (then == 0) modules.write(random.integer(0, modules.g.total() - 1));
      if (then == 1) modules.refresh();
      if (then == 2) modules.refill();
      if (then == 3) modules.resume();
    }
  });
}

TEST_MAIN()
