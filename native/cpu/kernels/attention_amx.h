#pragma once
#include "native/cpu/kernels/attention_tiles.h"

/** The states of a forward and of a backward task in bf16 on AMX tiles; same roles as Fp32Forward and Fp32Backward. */
namespace thalweg::cpu::THALWEG_ISA::attn {

class TileForward {
 public:
  using Act = bf16;
  static constexpr int64_t kSteps = 6;  // Ahead::step calls of one pair of blocks, roughly

  TileForward(Carver& carver, const Shape& shape) : s_(shape), width_(round_up(shape.dim, 32)) {
    k_ = carver.take<bf16>(s_.blocks * kBlock * width_);
    vt_ = carver.take<bf16>(s_.blocks * kBlock * width_);
    rows_ = carver.take<bf16>(kBlock * width_);
    pairs_ = carver.take<bf16>(kBlock * width_);
    qt_ = carver.take<bf16>(kBlock * width_);
    pt_ = carver.take<bf16>(kBlock * kBlock);
    st_ = carver.take<float>(kBlock * kBlock);
    out_ = carver.take<float>(kBlock * width_);
    m_ = carver.take<float>(kBlock);
    l_ = carver.take<float>(kBlock);
    alpha_ = carver.take<float>(kBlock);
    if (carver.base) ensure_tile_config();
  }

  void pack_keys(int64_t block, const bf16* k, const bf16* v, int64_t rows) {
    const int64_t at = block * kBlock * width_;
    tile_pack_rows(k, s_.qkv_stride(), rows, s_.dim, width_, k_ + at);
    tile_pack_rows(v, s_.qkv_stride(), rows, s_.dim, width_, rows_);
    interleave_rows(rows_, width_, pairs_);
    transpose_units(pairs_, kBlock / 2, width_, vt_ + at);
  }

  void start_queries(const bf16* q, int64_t rows) {
    tile_pack_rows(q, s_.qkv_stride(), rows, s_.dim, width_, rows_);
    transpose_units(rows_, kBlock, width_ / 2, qt_);
    std::fill(out_, out_ + kBlock * width_, 0.0f);
    std::fill(m_, m_ + kBlock, -__builtin_inff());
    std::fill(l_, l_ + kBlock, 0.0f);
  }

  void attend(int64_t block, bool diagonal, const float* hidden, Ahead& ahead) {
    const int64_t at = block * kBlock * width_;
    tile_scores(width_, k_ + at, qt_, st_, diagonal, ahead);
    tile_online_softmax(st_, s_.scale * kLog2e, m_, l_, alpha_, pt_, diagonal, hidden);
    if (block > 0) fade_output();
    tile_add_to_queries(width_, vt_ + at, pt_, out_, diagonal, ahead);
  }

  void finish(int64_t rows, bf16* y, float* lse) {
    for (int64_t v = 0; v < kBlock; v += kWidth) store(alpha_ + v, set1(1.0f) / load(l_ + v));
    tile_unpack_transposed(out_, alpha_, rows, s_.dim, y, s_.y_stride());
    write_lse(m_, l_, rows, lse, s_.heads);
  }

 private:
  void fade_output() {
    const F a = load(alpha_), b = load(alpha_ + 16), c = load(alpha_ + 32), d = load(alpha_ + 48);
    for (float* row = out_; row < out_ + kBlock * width_; row += kBlock) {
      store(row, load(row) * a);
      store(row + 16, load(row + 16) * b);
      store(row + 32, load(row + 32) * c);
      store(row + 48, load(row + 48) * d);
    }
  }

  Shape s_;
  int64_t width_;
  bf16 *k_, *vt_, *rows_, *pairs_, *qt_, *pt_;
  float *st_, *out_, *m_, *l_, *alpha_;
};

class TileBackward {
 public:
  using Act = bf16;
  static constexpr int64_t kSteps = 15;

  TileBackward(Carver& carver, const Shape& shape) : s_(shape), width_(round_up(shape.dim, 32)) {
    const int64_t keys = std::min(s_.blocks, kKeyBlocks) * kBlock;
    for (bf16** keyed : {&k_, &v_, &kt_}) *keyed = carver.take<bf16>(keys * width_);
    for (float** keyed : {&dk_, &dv_}) *keyed = carver.take<float>(keys * width_);
    for (bf16** block : {&rows_, &q_pairs_, &dy_pairs_, &qt_, &dyt_}) *block = carver.take<bf16>(kBlock * width_);
    for (bf16** square : {&p_, &ds_, &ds_pairs_}) *square = carver.take<bf16>(kBlock * kBlock);
    for (float** square : {&st_, &dpt_}) *square = carver.take<float>(kBlock * kBlock);
    for (float** line : {&lse2_, &delta_, &scales_}) *line = carver.take<float>(kBlock);
    if (!carver.base) return;
    std::fill(scales_, scales_ + kBlock, s_.scale);
    ensure_tile_config();
  }

  /** Floats of dQ^T of one query block. */
  static int64_t block_size(const Shape& s) { return kBlock * round_up(s.dim, 32); }

  void load_keys(int64_t slot, const bf16* k, const bf16* v, int64_t rows) {
    const int64_t at = slot * kBlock * width_;
    tile_pack_rows(k, s_.qkv_stride(), rows, s_.dim, width_, k_ + at);
    tile_pack_rows(v, s_.qkv_stride(), rows, s_.dim, width_, v_ + at);
    interleave_rows(k_ + at, width_, rows_);
    transpose_units(rows_, kBlock / 2, width_, kt_ + at);
    std::fill(dk_ + at, dk_ + at + kBlock * width_, 0.0f);
    std::fill(dv_ + at, dv_ + at + kBlock * width_, 0.0f);
  }

  void load_queries(const bf16* q, const bf16* y, const bf16* dy, const float* lse, int64_t rows) {
    tile_pack_rows(q, s_.qkv_stride(), rows, s_.dim, width_, rows_);
    interleave_rows(rows_, width_, q_pairs_);
    transpose_units(rows_, kBlock, width_ / 2, qt_);
    tile_pack_rows(dy, s_.y_stride(), rows, s_.dim, width_, rows_);
    interleave_rows(rows_, width_, dy_pairs_);
    transpose_units(rows_, kBlock, width_ / 2, dyt_);
    row_sums(y, dy, s_, lse, rows, lse2_, delta_);
  }

  void pair(int64_t slot, float* dq, bool diagonal, const float* hidden, Ahead& ahead) {
    const int64_t at = slot * kBlock * width_;
    tile_scores(width_, k_ + at, qt_, st_, diagonal, ahead);
    tile_scores(width_, v_ + at, dyt_, dpt_, diagonal, ahead);
    tile_softmax_gradient(st_, dpt_, s_.scale * kLog2e, lse2_, delta_, p_, ds_, ds_pairs_, diagonal, hidden);
    tile_add_to_keys(width_, p_, dy_pairs_, dv_ + at, diagonal, ahead);
    tile_add_to_keys(width_, ds_, q_pairs_, dk_ + at, diagonal, ahead);
    tile_add_to_queries(width_, kt_ + at, ds_pairs_, dq, diagonal, ahead);
  }

  void store_queries(const float* dq, int64_t rows, bf16* out) {
    tile_unpack_transposed(dq, scales_, rows, s_.dim, out, s_.qkv_stride());
  }

  void store_keys(int64_t slot, int64_t rows, bf16* dk, bf16* dv) {
    const int64_t at = slot * kBlock * width_;
    tile_unpack_rows(dk_ + at, width_, rows, s_.dim, s_.scale, dk, s_.qkv_stride());
    tile_unpack_rows(dv_ + at, width_, rows, s_.dim, 1.0f, dv, s_.qkv_stride());
  }

 private:
  Shape s_;
  int64_t width_;
  bf16 *k_, *v_, *kt_, *rows_, *q_pairs_, *dy_pairs_, *qt_, *dyt_, *p_, *ds_, *ds_pairs_;
  float *dk_, *dv_, *st_, *dpt_, *lse2_, *delta_, *scales_;
};

}  // namespace thalweg::cpu::THALWEG_ISA::attn
