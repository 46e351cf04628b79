#pragma once
/**
 * The fp32 engine: panels of fp32, a register block of kMr x kNr accumulators, one fused multiply-add per lane and k.
 *
 *   AVX-512  12 x 32: 24 accumulators, 2 vectors of B, rows of A broadcast from memory (14 loads for 24 FMAs)
 *   AVX2      6 x 16: 12 accumulators
 *   portable  4 x  8: 8 accumulators of the 16 registers any 64-bit machine has
 *
 * bf16 operands are widened (exactly) when packed, so the same kernel gives exact products and fp32 sums. After Goto &
 * van de Geijn 2008 (Anatomy of high-performance matrix multiplication), but for the block of k: there a strip of B
 * stays in L1. Here it is longer than L1 holds and comes from L2 each time, 128 bytes in 12 clocks, announced kAhead
 * steps before; sums then go to C and back a third as often. Measured: docs/log.md.
 */
#include "native/cpu/kernels/gemm.h"
#include "native/cpu/kernels/linear_transpose.h"

namespace thalweg::cpu::THALWEG_ISA::gemm {

/** How packing reads a row: as it is, widened, or rounded to what bf16 can hold. */
struct ReadF32 {
  using T = float;
  static F all(const T* p) { return load(p); }
  static F first(const T* p, int count) { return load_n(p, count); }
};
struct ReadBf16 {
  using T = bf16;
  static F all(const T* p) { return load(p); }
  static F first(const T* p, int count) { return load_n(p, count); }
};
struct ReadF32AsBf16 {
  using T = float;
  static F all(const T* p) { return rounded(load(p)); }
  static F first(const T* p, int count) { return rounded(load_n(p, count)); }
};

/** dst[p * Strip + i] = src[i * ld + p] for i < Width (rows past `valid` are zero) and p < k: transposed blocks of
 * kWidth. */
template <int Strip, int Width, class Read>
void pack_transposed(const typename Read::T* src, int64_t ld, int valid, int64_t k, float* dst) {
  int64_t p = 0;
  F block[kWidth];
  const int rows = std::clamp(valid, 0, Width);
  if (rows == Width) {
    for (; p + kWidth <= k; p += kWidth) {
      for (int i = 0; i < kWidth; i++) block[i] = i < Width ? Read::all(src + i * ld + p) : F{};
      transpose(block);
      for (int t = 0; t < kWidth; t++) {
        if (Width == kWidth)
          store(dst + (p + t) * Strip, block[t]);
        else
          store_n(dst + (p + t) * Strip, block[t], Width);
      }
    }
  }
  for (; p < k; p += kWidth) {
    const int steps = static_cast<int>(std::min<int64_t>(kWidth, k - p));
    for (int i = 0; i < kWidth; i++) block[i] = i < rows ? Read::first(src + i * ld + p, steps) : F{};
    transpose(block);
    for (int t = 0; t < steps; t++) store_n(dst + (p + t) * Strip, block[t], Width);
  }
}

/** dst[p * Strip + i] = src[p * ld + i]: rows copied side by side. */
template <int Strip, class Read>
void pack_copied(const typename Read::T* src, int64_t ld, int valid, int64_t k, float* dst) {
  constexpr int kTail = Strip % kWidth, kLine = 64 / sizeof(typename Read::T);
  if (valid >= Strip) {
    for (int64_t p = 0; p < k; p++) {
      // Short pieces of far rows are no stream the hardware would follow; the next call reads the rows from p + k on.
      for (int i = 0; i < Strip; i += kLine) __builtin_prefetch(src + (p + k) * ld + i);
      for (int i = 0; i + kWidth <= Strip; i += kWidth) store(dst + p * Strip + i, Read::all(src + p * ld + i));
      if (kTail > 0) {
        constexpr int kAt = Strip - kTail;
        store_n(dst + p * Strip + kAt, Read::first(src + p * ld + kAt, kTail), kTail);
      }
    }
    return;
  }
  for (int64_t p = 0; p < k; p++)
    for (int i = 0; i < Strip; i += kWidth) {
      const int count = std::clamp(valid - i, 0, kWidth);
      store_n(dst + p * Strip + i, Read::first(src + p * ld + i, count), std::min(kWidth, Strip - i));
    }
}

template <int Strip, class Read>
void pack_strip_as(const Operand& from, int64_t strip, int64_t k0, int64_t k, float* dst) {
  const auto* data = static_cast<const typename Read::T*>(from.data);
  const int64_t begin = strip * Strip;
  const int valid = static_cast<int>(std::min<int64_t>(Strip, from.extent - begin));
  if (!from.k_contiguous) return pack_copied<Strip, Read>(data + k0 * from.ld + begin, from.ld, valid, k, dst);
  const auto* src = data + begin * from.ld + k0;
  constexpr int kWhole = Strip / kWidth * kWidth;
  for (int i = 0; i < kWhole; i += kWidth)
    pack_transposed<Strip, kWidth, Read>(src + i * from.ld, from.ld, valid - i, k, dst + i);
  if constexpr (kWhole < Strip)
    pack_transposed<Strip, Strip - kWhole, Read>(src + kWhole * from.ld, from.ld, valid - kWhole, k, dst + kWhole);
}

/** Panel [k, Strip] of one strip, k range [k0, k0 + k); columns past the operand's extent are zero. */
template <int Strip>
void pack_strip(const Operand& from, int64_t strip, int64_t k0, int64_t k, float* dst) {
  switch (from.kind) {
    case Kind::F32:
      return pack_strip_as<Strip, ReadF32>(from, strip, k0, k, dst);
    case Kind::Bf16:
      return pack_strip_as<Strip, ReadBf16>(from, strip, k0, k, dst);
    case Kind::F32AsBf16:
      return pack_strip_as<Strip, ReadF32AsBf16>(from, strip, k0, k, dst);
  }
}

struct F32Engine {
  using Element = float;
  static constexpr int kMr = THALWEG_SIMD >= 2 ? 12 : THALWEG_SIMD == 1 ? 6 : 4;
  static constexpr int kVecs = 2;
  static constexpr int kNr = kVecs * kWidth;
  static constexpr int kStep = 1;  // k is not padded
  static constexpr int64_t kPackSteps = 16;
  static constexpr int64_t kBlock = 768;
  static constexpr int kAhead = 8;  // steps of k between the prefetch of B and its use
  static constexpr int kTileM = 120, kTileN = 512, kMinTileM = 24;
  static constexpr bool kPacksInTile = true;  // what is packed is read next, from L2

  /** fp32 rows along k are broadcast from where they are, also a last strip of fewer rows. */
  static bool reads_in_place(const Operand& a) { return a.k_contiguous && a.kind == Kind::F32; }
  static constexpr bool kPacksLastStrip = false;
  static bool sums_in(DType out) { return out == DType::F32; }
  static void enter() {}
  static LeftView view_in_place(const Operand& a, int64_t strip, int64_t k0) {
    return {reinterpret_cast<const char*>(static_cast<const float*>(a.data) + strip * kMr * a.ld + k0), a.ld * 4, 4};
  }
  static LeftView view_packed(const float* panel) { return {reinterpret_cast<const char*>(panel), 4, kMr * 4}; }

  static void pack_left(const Operand& from, int64_t strip, int64_t k0, int64_t k, float* dst) {
    pack_strip<kMr>(from, strip, k0, k, dst);
  }
  static void pack_right(const Operand& from, int64_t strip, int64_t k0, int64_t k, float* dst) {
    pack_strip<kNr>(from, strip, k0, k, dst);
  }

  /** out[i, j] = sums + what is there already or to be added, for the columns inside C. */
  template <class Add, class Out>
  static void put(const F* sums, const Add* add, Out* out, int cols) {
    for (int j = 0; j < kVecs; j++) {
      const int count = cols - j * kWidth;
      if (count >= kWidth) {
        store(out + j * kWidth, add ? sums[j] + load(add + j * kWidth) : sums[j]);
      } else if (count > 0) {
        store_n(out + j * kWidth, add ? sums[j] + load_n(add + j * kWidth, count) : sums[j], count);
      }
    }
  }

  template <int Rows>
  static void finish(F (&sums)[Rows][kVecs], const Destination& d) {
#pragma GCC unroll 16
    for (int i = 0; i < Rows; i++) {
      if (d.dtype == DType::F32) {
        float* out = reinterpret_cast<float*>(d.out) + i * d.ld;
        const float* addend = d.addend ? reinterpret_cast<const float*>(d.addend) + i * d.ld : nullptr;
        put(sums[i], d.first ? addend : out, out, d.cols);
        continue;
      }
      float* partial = d.partial == nullptr ? nullptr : d.partial + i * d.ld_partial;
      if (!d.first)
        for (int j = 0; j < kVecs; j++) sums[i][j] += load(partial + j * kWidth);
      if (d.last) {
        const bf16* addend = d.addend ? reinterpret_cast<const bf16*>(d.addend) + i * d.ld : nullptr;
        put(sums[i], addend, reinterpret_cast<bf16*>(d.out) + i * d.ld, d.cols);
      } else {
        for (int j = 0; j < kVecs; j++) store(partial + j * kWidth, sums[i][j]);
      }
    }
  }

  /** The block of C comes while its sums are made: a store would wait for lines that are far off. A quarter of its rows
   * at a time: all at once would keep the lines of A and B waiting. (Inlined, or g++ takes a function of nothing but
   * prefetches for one without effect, and drops it.) */
  template <int Rows, int Quarter>
  THALWEG_INLINE void fetch_destination(const Destination& d) {
    if (d.dtype != DType::F32 && !d.last) return;
    const int64_t bytes = d.ld * (d.dtype == DType::F32 ? 4 : 2);
#pragma GCC unroll 16
    for (int i = Quarter * Rows / 4; i < (Quarter + 1) * Rows / 4; i++) {
      __builtin_prefetch(d.out + i * bytes, 1);
      __builtin_prefetch(d.out + i * bytes + 64, 1);
    }
  }

  /**
   * RowMajor: row i of A is `stride` elements after row i - 1, and k steps are neighbours; otherwise (a panel) the
   * rows' values of one k are neighbours, and the next k is `stride` elements on.
   */
  template <int Rows, bool RowMajor>
  static void multiply_rows(int64_t k, const float* a, int64_t stride, const float* b, const Destination& d) {
    F sums[Rows][kVecs] = {};
    const char* ahead = d.ahead;
    // A base every third row: with one register for the stride, base, base + stride and base + 2 stride are addresses.
    constexpr int kBases = (Rows + 2) / 3;
    const float* base[kBases];
    for (int i = 0; i < kBases; i++) base[i] = a + 3 * i * stride;
    const auto steps = [&](int64_t count) __attribute__((always_inline)) {
      for (int64_t p = 0; p < count; p++) {
        const F b0 = load(b), b1 = load(b + kWidth);
        __builtin_prefetch(ahead, 0, 2);
        ahead += d.ahead_step;
#pragma GCC unroll 2
        for (int j = 0; j < kNr; j += 16) __builtin_prefetch(b + kAhead * kNr + j);
#pragma GCC unroll 16
        for (int i = 0; i < Rows; i++) {
          const float left = RowMajor ? base[i / 3][i % 3 * stride] : a[i];
          sums[i][0] += left * b0;
          sums[i][1] += left * b1;
        }
        if constexpr (RowMajor) {
#pragma GCC unroll 16
          for (int i = 0; i < kBases; i++) base[i]++;
        } else {
          a += stride;
        }
        b += kNr;
      }
    };
    fetch_destination<Rows, 0>(d);
    steps(k / 4);
    fetch_destination<Rows, 1>(d);
    steps(k / 4);
    fetch_destination<Rows, 2>(d);
    steps(k / 4);
    fetch_destination<Rows, 3>(d);
    steps(k - 3 * (k / 4));
    finish<Rows>(sums, d);
  }

  template <int Rows>
  static void dispatch(int64_t k, const LeftView& a, const float* b, const Destination& d) {
    if (d.rows == Rows) {
      const auto* left = reinterpret_cast<const float*>(a.data);
      if (a.row_stride != 4) return multiply_rows<Rows, true>(k, left, a.row_stride / 4, b, d);
      return multiply_rows<Rows, false>(k, left, a.step_stride / 4, b, d);
    }
    if constexpr (Rows > 1) dispatch<Rows - 1>(k, a, b, d);
  }
  /** One register block over k steps of its panels. */
  static void multiply(int64_t k, const LeftView& a, const float* b, const Destination& d) {
    dispatch<kMr>(k, a, b, d);
  }
};

}  // namespace thalweg::cpu::THALWEG_ISA::gemm
