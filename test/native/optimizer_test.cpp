#include <limits>

#include "test/native/adamw_reference.h"
#include "test/native/command.h"

using namespace check;

namespace {

const std::vector<int64_t> kSizes = {1, 7, 48, 257, 16384, 70001, 200000};

Setting step_setting(int t, double clip) {
  Setting setting;
  setting.scalars = step_scalars(t, clip);
  return setting;
}

/** The copies of one master, as the backend keeps them. */
class Copies : public cpu::PackedTable {
 public:
  Copies(Isa isa, const Buffer& master, int64_t n, int64_t k)
      : kernels_(cpu::kernels_for(isa)), master_(master), n_(n), k_(k) {
    for (cpu::Orientation o : {cpu::Orientation::Forward, cpu::Orientation::Dgrad})
      for (DType act : {DType::F32, DType::BF16}) {
        const size_t bytes = kernels_.packed_weight_bytes(n, k, act, o);
        if (bytes == 0) continue;
        memory_.emplace_back(DType::I32, std::vector<int64_t>{static_cast<int64_t>((bytes + 3) / 4)});
        copies_.push_back({o, act, memory_.back().tensor().data});
      }
  }
  void pack() {
    for (const cpu::Packed& copy : copies_)
      kernels_.pack_weight_rows(master_.tensor().as<float>(), n_, k_, 0, n_, copy);
  }
  std::vector<unsigned char> raw() const {
    std::vector<unsigned char> all;
    for (const Buffer& b : memory_) {
      b.check_guards();
      const auto bytes = b.raw();
      all.insert(all.end(), bytes.begin(), bytes.end());
    }
    return all;
  }
  const void* find(const void*, cpu::Orientation, DType) const override { return nullptr; }
  int all(const void* master, cpu::Packed out[4]) const override {
    if (master != master_.tensor().data) return 0;
    for (size_t i = 0; i < copies_.size(); i++) out[i] = copies_[i];
    return static_cast<int>(copies_.size());
  }

 private:
  const cpu::Kernels& kernels_;
  const Buffer& master_;
  int64_t n_, k_;
  std::vector<Buffer> memory_;
  std::vector<cpu::Packed> copies_;
};

}  // namespace

TEST("gradNorm is the float64 norm, and the same bits for any threads") {
  for (Isa isa : available_paths())
    for (int64_t n : kSizes) {
      Random random(1);
      const Buffer grads(DType::F32, {n}, random.normal(n)), loss(DType::F32, {1}, {3.0});
      const double want = std::sqrt(inner(grads.get(), grads.get()));
      same_bits_for_any_threads([&](int threads) {
        const Buffer norm(DType::F32, {1}), status(DType::I32, {1}, {0});
        run_op<ops::GradNorm>(isa, threads, {grads, loss, norm, status}, {});
        check_close("norm", norm.get(), {want}, {6e-8, 0});  // rounded once to fp32
        CHECK(status.get()[0] == 0);
        return joined({&norm, &status});
      });
    }
}

TEST("status becomes 1 when a gradient or the loss is not finite, and stays 1") {
  const double inf = std::numeric_limits<double>::infinity();
  for (Isa isa : available_paths()) {
    const Buffer good(DType::F32, {300}, Values(300, 1.0)), norm(DType::F32, {1}), fine(DType::F32, {1}, {1.0});
    for (double bad : {inf, -inf, std::nan("")})
      for (bool in_loss : {false, true}) {
        Values values(300, 1.0);
        values[299] = bad;
        const Buffer broken(DType::F32, {300}, values), loss(DType::F32, {1}, {bad}), status(DType::I32, {1}, {0});
        run_op<ops::GradNorm>(isa, 2, {in_loss ? good : broken, in_loss ? loss : fine, norm, status}, {});
        CHECK(status.get()[0] == 1, bad);
        run_op<ops::GradNorm>(isa, 2, {good, fine, norm, status}, {});
        CHECK(status.get()[0] == 1, "not sticky");
      }
  }
}

TEST("ten steps of adamw follow AdamW in float64, clipped and not") {
  for (Isa isa : available_paths())
    for (int64_t n : kSizes)
      for (double clip : {0.0, 1.0, 1e6}) {
        if (n > 20000 && clip != 1.0) continue;
        Random random(2);
        const Values start = random.normal(n);
        std::vector<Values> grads;
        for (int t = 0; t < 10; t++) grads.push_back(random.normal(n, t == 3 ? 30.0 : 0.3));
        same_bits_for_any_threads([&](int threads) {
          Buffer grad(DType::F32, {n}), norm(DType::F32, {1}), status(DType::I32, {1}, {0});
          const Buffer param(DType::F32, {n}, start), m(DType::F32, {n}, Values(start.size(), 0.0));
          const Buffer v(DType::F32, {n}, Values(start.size(), 0.0));
          Adamw64 want{param.get(), m.get(), v.get(), 0.5, 2.0};
          double scale = 0;  // of the largest first moment on the way: a later one may cancel to almost nothing
          for (int t = 1; t <= 10; t++) {
            grad.set(grads[static_cast<size_t>(t - 1)]);
            norm.set({std::sqrt(inner(grad.get(), grad.get()))});
            const Setting setting = step_setting(t, clip);
            run_op<ops::Adamw>(isa, threads, {grad, norm, status, param, m, v}, {0.5, 2.0}, setting);
            want.step(grad.get(), norm.get()[0], setting.scalars);
            scale = std::max(scale, largest(want.m));
          }
          // Ten fp32 steps: moments within ten roundings; a step is at most about lr * lrScale * 3, and relative errors
          // of m / sqrt(v) stay near 1e-6, except where m cancels, whence the absolute part.
          check_close("m", m.get(), want.m, {2e-6, 2e-6 * scale});
          check_close("v", v.get(), want.v, {2e-6, 1e-30});
          check_close("param", param.get(), want.param, {1e-6, 1e-6});
          return joined({&param, &m, &v});
        });
      }
}

TEST("adamw changes nothing when status is set") {
  for (Isa isa : available_paths()) {
    Random random(3);
    const Buffer grad(DType::F32, {40, 9}, random.normal(360)), norm(DType::F32, {1}, {1}),
        status(DType::I32, {1}, {1});
    const Buffer param(DType::F32, {40, 9}, random.normal(360)), m(DType::F32, {40, 9}, random.normal(360));
    const Buffer v(DType::F32, {40, 9}, Values(360, 1.0));
    Copies copies(isa, param, 40, 9);
    const auto before = joined({&param, &m, &v}), packed = copies.raw();
    Setting setting = step_setting(1, 1.0);
    setting.packed = &copies;
    run_op<ops::Adamw>(isa, 2, {grad, norm, status, param, m, v}, {1, 1}, setting);
    CHECK(joined({&param, &m, &v}) == before && copies.raw() == packed);
  }
}

TEST("packed copies rebuilt by adamw equal the parameter packed from scratch, and change no update") {
  for (Isa isa : available_paths())
    for (auto [n, k] : {std::pair<int64_t, int64_t>{1, 1}, {31, 7}, {32, 48}, {168, 257}, {257, 64}}) {
      const std::vector<int64_t> shape = {n, k};
      Random random(4);
      const Values start = random.normal(n * k);
      const Buffer grad(DType::F32, shape, random.normal(n * k)), norm(DType::F32, {1}, {2}),
          status(DType::I32, {1}, {0});
      const Values none(start.size(), 0.0);
      const Buffer plain(DType::F32, shape, start), plain_m(DType::F32, shape, none), plain_v(DType::F32, shape, none);
      run_op<ops::Adamw>(isa, 1, {grad, norm, status, plain, plain_m, plain_v}, {1, 1}, step_setting(1, 1.0));
      for (int threads : {1, 3}) {
        const Buffer param(DType::F32, shape, start), m(DType::F32, shape, none), v(DType::F32, shape, none);
        Copies copies(isa, param, n, k), scratch(isa, param, n, k);
        copies.pack();
        Setting setting = step_setting(1, 1.0);
        setting.packed = &copies;
        run_op<ops::Adamw>(isa, threads, {grad, norm, status, param, m, v}, {1, 1}, setting);
        scratch.pack();
        CHECK(copies.raw() == scratch.raw(), n, "x", k, ", ", threads, " threads");
        CHECK(joined({&param, &m, &v}) == joined({&plain, &plain_m, &plain_v}), n, "x", k);
      }
    }
}

TEST_MAIN()
