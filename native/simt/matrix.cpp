#include "native/simt/matrix.h"

#include <cstring>

#include "native/simt/copies.h"
#include "native/simt/machine.h"
#include "native/simt/sabotage.h"

namespace thalweg::simt {

namespace {

float from_bf16(uint16_t bits) {
  const uint32_t wide = static_cast<uint32_t>(bits) << 16;
  float value;
  std::memcpy(&value, &wide, 4);
  return value;
}

float half_of(uint32_t pair, int which) { return from_bf16(static_cast<uint16_t>(pair >> (16 * which))); }

struct MatrixArguments {
  uint32_t* registers;
  uint16_t* row;
};

void check_row(const char* what, const void* row) {
  if (reinterpret_cast<uintptr_t>(row) % 16 != 0) fault(what, " of a row that is not 16-byte aligned");
  shared_at(*current->cta, shared_address(row), 16);
}

struct MmaArguments {
  float* d;
  const uint32_t *a, *b;
};

}  // namespace

void load_matrices(uint32_t* registers, const void* row, int count, bool transpose) {
  if (current->lane < static_cast<unsigned>(count) * 8) check_row("ldmatrix", row);
  MatrixArguments mine{registers, static_cast<uint16_t*>(const_cast<void*>(row))};
  meet_warp(transpose ? "ldmatrix.trans" : "ldmatrix", static_cast<uint64_t>(count), &mine, [&](void** slots) {
    for (int m = 0; m < count; m++)
      for (int lane = 0; lane < 32; lane++) {
        const auto at = [&](int r, int c) { return static_cast<MatrixArguments*>(slots[m * 8 + r])->row[c]; };
        const int r = lane / 4, c = lane % 4 * 2;
        const uint32_t low = transpose ? at(c, r) : at(r, c), high = transpose ? at(c + 1, r) : at(r, c + 1);
        static_cast<MatrixArguments*>(slots[lane])->registers[m] = low | high << 16;
      }
  });
}

void store_matrices(void* row, const uint32_t* registers, int count, bool transpose) {
  if (current->lane < static_cast<unsigned>(count) * 8) {
    check_row("stmatrix", row);
    note_shared_write(row, 16);
  }
  MatrixArguments mine{const_cast<uint32_t*>(registers), static_cast<uint16_t*>(row)};
  meet_warp(transpose ? "stmatrix.trans" : "stmatrix", static_cast<uint64_t>(count), &mine, [&](void** slots) {
    for (int m = 0; m < count; m++)
      for (int lane = 0; lane < 32; lane++) {
        const uint32_t pair = static_cast<MatrixArguments*>(slots[lane])->registers[m];
        const int r = lane / 4, c = lane % 4 * 2;
        for (int i = 0; i < 2; i++) {
          const auto value = static_cast<uint16_t>(pair >> (16 * i));
          if (transpose)
            static_cast<MatrixArguments*>(slots[m * 8 + c + i])->row[r] = value;
          else
            static_cast<MatrixArguments*>(slots[m * 8 + r])->row[c + i] = value;
        }
      }
  });
}

void mma_m16n8k16(float* d, const uint32_t* a, const uint32_t* b) {
  MmaArguments mine{d, a, b};
  meet_warp("mma.m16n8k16", 0, &mine, [](void** slots) {
    float left[16][16], right[16][8];
    for (int lane = 0; lane < 32; lane++) {
      const auto& q = *static_cast<MmaArguments*>(slots[lane]);
      const int g = lane / 4, c = lane % 4 * 2;
      for (int i = 0; i < 8; i++) left[g + i / 2 % 2 * 8][c + i % 2 + i / 4 * 8] = half_of(q.a[i / 2], i % 2);
      for (int i = 0; i < 4; i++) right[c + i % 2 + i / 2 * 8][g] = half_of(q.b[i / 2], i % 2);
    }
    float sum[16][8];
    for (int r = 0; r < 16; r++) {
      float row[8] = {};
      for (int k = 0; k < 16; k++)
        for (int c = 0; c < 8; c++) row[c] += left[r][k] * right[k][c];
      std::memcpy(sum[r], row, sizeof row);
    }
    for (int lane = 0; lane < 32; lane++) {
      const auto& q = *static_cast<MmaArguments*>(slots[lane]);
      for (int i = 0; i < 4; i++) q.d[i] += sum[lane / 4 + i / 2 * 8][lane % 4 * 2 + i % 2];
    }
  });
}

uint32_t shuffle(uint32_t value, int lane, Shuffle kind, int width) {
  struct Arguments {
    uint32_t in, out;
    int lane;
  } mine{value, value, lane};
  static const char* const kNames[] = {"shfl.bfly", "shfl.down", "shfl.up", "shfl.idx"};
  // Lanes may ask an index shuffle for different sources; the other kinds have one distance for all.
  const auto parameter =
      static_cast<uint64_t>(width) << 32 | (kind == Shuffle::Index ? 0 : static_cast<uint32_t>(lane));
  meet_warp(kNames[static_cast<int>(kind)], parameter, &mine, [&](void** slots) {
    for (int i = 0; i < 32; i++) {
      auto& q = *static_cast<Arguments*>(slots[i]);
      const int start = i / width * width, local = i % width;
      int from = local;
      if (kind == Shuffle::Xor)
        from = local ^ q.lane;
      else if (kind == Shuffle::Down)
        from = local + q.lane;
      else if (kind == Shuffle::Up)
        from = local - q.lane;
      else
        from = q.lane & (width - 1);
      q.out = static_cast<Arguments*>(slots[from < 0 || from >= width ? i : start + from])->in;
    }
  });
  return mine.out;
}

uint32_t ballot(bool predicate) {
  struct Arguments {
    bool in;
    uint32_t out;
  } mine{predicate, 0};
  meet_warp("vote.ballot", 0, &mine, [](void** slots) {
    uint32_t bits = 0;
    for (int i = 0; i < 32; i++) bits |= static_cast<uint32_t>(static_cast<Arguments*>(slots[i])->in) << i;
    for (int i = 0; i < 32; i++) static_cast<Arguments*>(slots[i])->out = bits;
  });
  return mine.out;
}

namespace {

/** Element (mn, k) of an operand tile, by the descriptor alone: address, LBO, SBO and swizzle as the PTX manual's
 * matrix descriptor has them. K-major: rows of one swizzle span, 8 rows an atom, SBO from atom to atom. MN-major: LBO
 * from panel to panel of one span, SBO from 8 k rows to the next. */
struct Operand {
  uint32_t address, leading, stride;
  Swizzle swizzle;
  uint32_t span;  // bytes of a row

  explicit Operand(uint64_t descriptor) {
    address = static_cast<uint32_t>(descriptor & 0x3FFF) << 4;
    leading = static_cast<uint32_t>(descriptor >> 16 & 0x3FFF) << 4;
    stride = static_cast<uint32_t>(descriptor >> 32 & 0x3FFF) << 4;
    const auto base_offset = static_cast<unsigned>(descriptor >> 49 & 7);
    const auto mode = static_cast<unsigned>(descriptor >> 62);
    static constexpr Swizzle kModes[] = {Swizzle::None, Swizzle::B128, Swizzle::B64, Swizzle::B32};
    static constexpr uint32_t kSpans[] = {16, 128, 64, 32};
    swizzle = kModes[mode];
    span = kSpans[mode];
    if (base_offset != 0)
      fault("wgmma with a base offset of ", base_offset, ", expected tiles aligned to their swizzle pattern");
  }

  uint32_t place(bool mn_major, uint32_t mn, uint32_t k) const {
    if (swizzle == Swizzle::None) {  // 8x8 core matrices of 128 dense bytes
      if (!mn_major) return address + mn % 8 * 16 + mn / 8 * stride + k / 8 * leading + k % 8 * 2;
      return address + k % 8 * 16 + k / 8 * leading + mn / 8 * stride + mn % 8 * 2;
    }
    const uint32_t elements = span / 2;
    const uint32_t at = mn_major ? address + mn % elements * 2 + mn / elements * leading + k % 8 * span + k / 8 * stride
                                 : address + mn % 8 * span + mn / 8 * stride + k * 2;
    return swizzled(at, swizzle);
  }

  /** visit(mn, k, value) for the whole tile [rows, 16], read 16 bytes at a time: no swizzle moves less. */
  template <class Visit>
  void each_chunk(Cta& cta, bool mn_major, uint32_t rows, Visit&& visit) const {
    for (uint32_t mn = 0; mn < rows; mn += mn_major ? 8 : 1)
      for (uint32_t k = 0; k < 16; k += mn_major ? 1 : 8) {
        uint16_t bits[8];
        std::memcpy(bits, proxy_at(cta, place(mn_major, mn, k), 16), 16);
        for (uint32_t i = 0; i < 8; i++) visit(mn + (mn_major ? i : 0), k + (mn_major ? 0 : i), from_bf16(bits[i]));
      }
  }
};

struct Product {
  int n;
  bool add, a_mn_major, b_mn_major;
  uint64_t a, b;
  float* d[128];
  const uint32_t* a_registers[128];
};

int fragment_row(int thread, int i) { return thread / 32 * 16 + thread % 32 / 4 + i / 2 % 2 * 8; }
int fragment_column(int thread, int i) { return i / 4 * 8 + thread % 4 * 2 + i % 2; }

void compute(Cta& cta, const Product& p) {
  float left[64][16];
  static thread_local float right[16][256];
  if (p.a_registers[0] != nullptr) {
    for (int t = 0; t < 128; t++)
      for (int i = 0; i < 8; i++)
        left[fragment_row(t, i)][t % 4 * 2 + i % 2 + i / 4 * 8] = half_of(p.a_registers[t][i / 2], i % 2);
  } else {
    const Operand a(p.a);
    a.each_chunk(cta, p.a_mn_major, 64, [&](uint32_t mn, uint32_t k, float value) { left[mn][k] = value; });
  }
  const Operand b(p.b);
  b.each_chunk(cta, p.b_mn_major, static_cast<uint32_t>(p.n),
               [&](uint32_t mn, uint32_t k, float value) { right[k][mn] = value; });
  static thread_local float out[64][256];
  for (int m = 0; m < 64; m++) {
    std::memset(out[m], 0, sizeof(float) * static_cast<size_t>(p.n));
    for (int k = 0; k < 16; k++)
      for (int n = 0; n < p.n; n++) out[m][n] += left[m][k] * right[k][n];
  }
  for (int t = 0; t < 128; t++)
    for (int i = 0; i < p.n / 2; i++) {
      float& d = p.d[t][i];
      d = out[fragment_row(t, i)][fragment_column(t, i)] + (p.add ? d : 0.0f);
    }
}

}  // namespace

void wgmma_fence() {
  if (sabotage.hits(Sabotage::Kind::ProductFence)) return;
  meet_warpgroup("wgmma.fence", 0, nullptr, [](Warpgroup& group, void**) { group.fenced = true; });
}

void wgmma_commit() {
  meet_warpgroup("wgmma.commit_group", 0, nullptr, [](Warpgroup& group, void**) { group.committed++; });
}

void wgmma_wait(unsigned groups) {
  if (sabotage.hits(Sabotage::Kind::ProductWait, static_cast<int>(groups))) return;
  meet_warpgroup("wgmma.wait_group", groups, nullptr, [groups](Warpgroup& group, void**) {
    const uint64_t finished = group.committed < groups ? 0 : group.committed - groups;
    size_t done = 0;
    while (done < group.queue.size() && group.queue[done].group < finished) group.queue[done++].run();
    group.queue.erase(group.queue.begin(), group.queue.begin() + static_cast<std::ptrdiff_t>(done));
    if (groups == 0) group.fenced = false;
  });
}

void wgmma(int n, float* d, uint64_t a, const uint32_t* a_registers, uint64_t b, bool add, bool a_mn_major,
           bool b_mn_major) {
  if (n < 8 || n > 256 || n % 8 != 0) fault("wgmma of n = ", n, ", expected a multiple of 8 from 8 to 256");
  if (a_registers != nullptr && a_mn_major) fault("wgmma with A in registers is K-major only");
  struct Arguments {
    float* d;
    const uint32_t* a;
  } mine{d, a_registers};
  const uint64_t same = a * 31 + b * 7 + static_cast<uint64_t>(n) * 4 + (add ? 2 : 0);
  meet_warpgroup("wgmma.mma_async", same, &mine, [&](Warpgroup& group, void** slots) {
    if (!group.fenced) fault("wgmma.mma_async without wgmma.fence since the registers were last touched");
    Product p{n, add, a_mn_major, b_mn_major, a, b, {}, {}};
    for (int t = 0; t < 128; t++) {
      p.d[t] = static_cast<Arguments*>(slots[t])->d;
      p.a_registers[t] = static_cast<Arguments*>(slots[t])->a;
    }
    Cta* cta = current->cta;
    if (machine->schedule().late_products)
      group.queue.push_back({[cta, p] { compute(*cta, p); }, group.committed});
    else
      compute(*cta, p);
  });
}

}  // namespace thalweg::simt
