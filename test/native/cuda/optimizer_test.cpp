#include "test/native/adamw_reference.h"
#include "test/native/cuda/command.h"

using namespace check;

namespace {

const std::vector<int64_t> kSizes = {1, 7, 48, 257, 4096, 9001};

Setting step_setting(int t, double clip) {
  Setting setting;
  setting.scalars = step_scalars(t, clip);
  return setting;
}

/** Tensors on the device, each array `shift` elements past an aligned address, with guards, and the table of them. */
class Table {
 public:
  struct Sized {
    int64_t n;
    int shift;
    bool copied;
  };
  explicit Table(const std::vector<Sized>& sizes) : sizes_(sizes) {
    Random random(5);
    for (const Sized& s : sizes_) {
      for (int a = 0; a < 5; a++) {
        memory_.emplace_back(static_cast<size_t>(s.n + 16) * 4, "an array of the table");
        test_stream().fill_bytes(memory_.back().data(), kMark, memory_.back().bytes());
        Values values = random.normal(s.n, a == 3 ? 0.1 : 1.0);
        if (a == 3)
          for (double& v : values) v *= v;  // second moments are not negative
        start_.push_back(values);
        const Buffer rounded(DType::F32, {s.n}, values);
        start_.back() = rounded.get();
        if (a < 4) test_stream().upload(at(memory_.size() - 1, s.shift), rounded.tensor().data, size_t(s.n) * 4);
      }
      const size_t m = memory_.size() - 5;
      entries_.push_back({at(m, s.shift), at(m + 1, s.shift), at(m + 2, s.shift), at(m + 3, s.shift),
                          s.copied ? reinterpret_cast<uint16_t*>(memory_[m + 4].data()) + s.shift : nullptr, s.n, 0.5f,
                          2.0f});
      largest_ = std::max(largest_, s.n);
    }
    device_ = cuda::DeviceMemory(entries_.size() * sizeof(cuda::AdamwEntry), "the table");
    test_stream().upload(device_.data(), entries_.data(), device_.bytes());
  }
  cuda::AdamwTable on_device(const float* norm, const int32_t* status) const {
    return {reinterpret_cast<const cuda::AdamwEntry*>(device_.data()), static_cast<int>(entries_.size()), largest_,
            norm, status};
  }
  /** Array a (grad, param, m, v) of tensor i as it was made. */
  const Values& start(size_t i, int a) const { return start_[5 * i + static_cast<size_t>(a)]; }
  Values values(size_t i, int a) const {
    const Buffer out(DType::F32, {sizes_[i].n});
    test_stream().download(out.tensor().data, at(5 * i + static_cast<size_t>(a), sizes_[i].shift),
                           static_cast<size_t>(sizes_[i].n) * 4);
    return out.get();
  }
  Values copy(size_t i) const {
    const Buffer out(DType::BF16, {sizes_[i].n});
    test_stream().download(out.tensor().data, entries_[i].copy, static_cast<size_t>(sizes_[i].n) * 2);
    return out.get();
  }
  std::vector<unsigned char> raw() const {
    std::vector<unsigned char> all;
    for (const auto& m : memory_) {
      all.resize(all.size() + m.bytes());
      test_stream().download(all.data() + all.size() - m.bytes(), m.data(), m.bytes());
    }
    return all;
  }
  void check_guards() const {
    for (size_t k = 0; k < memory_.size(); k++) {
      const Sized& s = sizes_[k / 5];
      std::vector<unsigned char> bytes(memory_[k].bytes());
      test_stream().download(bytes.data(), memory_[k].data(), bytes.size());
      const size_t size = k % 5 == 4 ? 2 : 4, begin = size * static_cast<size_t>(s.shift);
      const size_t end = k % 5 == 4 && !s.copied ? begin : begin + size * static_cast<size_t>(s.n);
      for (size_t b = 0; b < bytes.size(); b++)
        CHECK((b >= begin && b < end) || bytes[b] == kMark, "tensor ", k / 5, ": written outside array ", k % 5);
    }
  }
  size_t count() const { return entries_.size(); }
  const Sized& sized(size_t i) const { return sizes_[i]; }

 private:
  static constexpr int kMark = 0xA5;
  float* at(size_t m, int shift) const { return reinterpret_cast<float*>(memory_[m].data()) + shift; }
  std::vector<Sized> sizes_;
  std::vector<cuda::DeviceMemory> memory_;
  std::vector<Values> start_;
  std::vector<cuda::AdamwEntry> entries_;
  int64_t largest_ = 0;
  cuda::DeviceMemory device_;
};

/** adamw_table once, with these scalars, norm and status. */
void run_table(const Table& table, const std::vector<float>& scalars, float norm, int32_t status) {
  cuda::Stream& stream = test_stream();
  const cuda::Target target = device_target();
  const cuda::DeviceMemory inputs(sizeof(float) * (ops::kScalarCount + 2), "inputs");
  auto* on_device = reinterpret_cast<float*>(inputs.data());
  auto* device_status = reinterpret_cast<int32_t*>(on_device + ops::kScalarCount + 1);
  stream.upload(on_device, scalars.data(), sizeof(float) * ops::kScalarCount);
  stream.upload(on_device + ops::kScalarCount, &norm, sizeof norm);
  stream.upload(device_status, &status, sizeof status);
  cuda::Context context{stream, target, on_device, nullptr, nullptr, nullptr, nullptr};
  cuda::adamw_table(table.on_device(on_device + ops::kScalarCount, device_status), context);
  stream.synchronize();
}

struct OneCopy : cuda::WeightCopies {
  const void* master = nullptr;
  void* copy = nullptr;
  void* find(const void* m) const override { return m == master ? copy : nullptr; }
};

}  // namespace

TEST("ten steps of the CUDA adamw follow AdamW in float64, clipped and not") {
  for (int64_t n : kSizes)
    for (double clip : {0.0, 1.0, 1e6}) {
      if (n > 4000 && clip != 1.0) continue;
      Random random(2);
      const Values start = random.normal(n);
      std::vector<Values> grads;
      for (int t = 0; t < 10; t++) grads.push_back(random.normal(n, t == 3 ? 30.0 : 0.3));
      same_bits_on_every_schedule([&] {
        Buffer grad(DType::F32, {n}), norm(DType::F32, {1}), status(DType::I32, {1}, {0});
        const Buffer param(DType::F32, {n}, start), m(DType::F32, {n}, Values(start.size(), 0.0));
        const Buffer v(DType::F32, {n}, Values(start.size(), 0.0));
        Adamw64 want{param.get(), m.get(), v.get(), 0.5, 2.0};
        double scale = 0;  // of the largest first moment on the way: a later one may cancel to almost nothing
        for (int t = 1; t <= 10; t++) {
          grad.set(grads[static_cast<size_t>(t - 1)]);
          norm.set({std::sqrt(inner(grad.get(), grad.get()))});
          const Setting setting = step_setting(t, clip);
          run_op<ops::Adamw>({grad, norm, status, param, m, v}, {0.5, 2.0}, setting);
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

TEST("a table of tensors, aligned and not, gets the update of each tensor alone, and its bf16 copies") {
  // Chunks are 4096 elements: empty and tiny tensors, ragged ends, more tensors than a block scans at once.
  std::vector<Table::Sized> sizes = {{1, 0, true},    {4096, 0, true}, {9001, 0, true}, {8192, 4, false},
                                     {5000, 1, true}, {4100, 2, true}, {37, 3, false},  {12288, 0, true}};
  for (int i = 0; i < 290; i++) sizes.push_back({1 + i % 9, i % 4, i % 2 == 0});
  const std::vector<float> scalars = step_scalars(3, 1.0);
  const float norm = 7.5f;
  std::vector<unsigned char> first;
  for (int multiprocessors : {1, 3})
    on_device(90, multiprocessors, [&] {
      same_bits_on_every_schedule([&] {
        const Table table(sizes);
        run_table(table, scalars, norm, 0);
        table.check_guards();
        for (size_t i = 0; i < table.count(); i++) {
          Adamw64 want{table.start(i, 1), table.start(i, 2), table.start(i, 3), 0.5, 2.0};
          want.step(table.start(i, 0), norm, scalars);
          // One fp32 step; see above.
          check_close("m", table.values(i, 2), want.m, {1e-6, 1e-6});
          check_close("v", table.values(i, 3), want.v, {1e-6, 1e-30});
          check_close("param", table.values(i, 1), want.param, {1e-6, 1e-6});
          CHECK(table.values(i, 0) == table.start(i, 0), "the gradient of tensor ", i, " was changed");
          if (!table.sized(i).copied) continue;
          const Buffer rounded(DType::BF16, {table.sized(i).n}, table.values(i, 1));
          CHECK(table.copy(i) == rounded.get(), "the copy of tensor ", i);
        }
        if (first.empty()) first = table.raw();
        CHECK(first == table.raw(), multiprocessors, " multiprocessors give other bits");
        return table.raw();
      });
    });
}

TEST("a table gives the bits of one tensor after the other") {
  const int64_t n = 5000;
  const Table table({{n, 0, false}});
  const Buffer grad(DType::F32, {n}, table.start(0, 0)), norm(DType::F32, {1}, {2.0}), status(DType::I32, {1}, {0});
  const Buffer param(DType::F32, {n}, table.start(0, 1)), m(DType::F32, {n}, table.start(0, 2)),
      v(DType::F32, {n}, table.start(0, 3));
  run_op<ops::Adamw>({grad, norm, status, param, m, v}, {0.5, 2.0}, step_setting(1, 1.0));
  run_table(table, step_scalars(1, 1.0), 2.0f, 0);
  CHECK(table.values(0, 1) == param.get() && table.values(0, 2) == m.get() && table.values(0, 3) == v.get());
}

TEST("the CUDA adamw changes nothing when status is set, alone and in a table") {
  Random random(3);
  const Buffer grad(DType::F32, {40, 9}, random.normal(360)), norm(DType::F32, {1}, {1}), status(DType::I32, {1}, {1});
  const Buffer param(DType::F32, {40, 9}, random.normal(360)), m(DType::F32, {40, 9}, random.normal(360));
  const Buffer v(DType::F32, {40, 9}, Values(360, 1.0));
  const auto before = joined({&param, &m, &v});
  run_op<ops::Adamw>({grad, norm, status, param, m, v}, {1, 1}, step_setting(1, 1.0));
  CHECK(joined({&param, &m, &v}) == before);
  const Table table({{5000, 0, true}, {3, 1, false}});
  const auto all = table.raw();
  run_table(table, step_scalars(1, 1.0), 1.0f, 1);
  CHECK(table.raw() == all);
}

TEST("the CUDA adamw rewrites the bf16 copy of its parameter") {
  const int64_t n = 4500;
  Random random(4);
  const Buffer grad(DType::F32, {n}, random.normal(n)), norm(DType::F32, {1}, {2}), status(DType::I32, {1}, {0});
  const Buffer param(DType::F32, {n}, random.normal(n)), m(DType::F32, {n}, Values(n, 0.0)),
      v(DType::F32, {n}, Values(n, 0.0)), copy(DType::BF16, {n});
  DeviceOperands device({grad, norm, status, param, m, v, copy});
  const std::vector<float> scalars = step_scalars(1, 1.0);
  const cuda::DeviceMemory on_device(sizeof(float) * scalars.size(), "scalars");
  test_stream().upload(on_device.data(), scalars.data(), on_device.bytes());
  OneCopy copies;
  copies.master = device.tensors()[3].data;
  copies.copy = device.tensors()[6].data;
  const cuda::Target target = device_target();
  cuda::Context context{test_stream(), target, reinterpret_cast<const float*>(on_device.data()), nullptr, nullptr,
                        nullptr,       &copies};
  const std::vector<Tensor> operands(device.tensors().begin(), device.tensors().begin() + 6);
  cuda::adamw(ops::Adamw::decode({"adamw", "test", operands, {1, 1}}), context);
  test_stream().synchronize();
  device.download();
  const Buffer rounded(DType::BF16, {n}, param.get());
  CHECK(copy.raw() == rounded.raw());
}

TEST_MAIN()
