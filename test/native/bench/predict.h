#pragma once
#include <algorithm>

#include "native/cuda/kernels/hopper_matmul_tiles.h"

/** What the predictions share: the H200, and how long a product and attention should take on it. */
namespace bench {

/** 132 multiprocessors of 4096 operations a clock. At its 1980 MHz that is 1070 TFLOP/s; products of random numbers
 * draw so much power that the clock falls, and no library is known to sustain more than kSustained. */
constexpr thalweg::cuda::Target kH200{90, 132, 227 * 1024};
constexpr double kHertz = 1.98e9, kPeak = 132 * 4096 * kHertz, kSustained = 790e12;

/** Seconds of a product: its schedule's, or those the power allows. */
inline double product_seconds(const thalweg::cuda::matmul::Shape& s, double clocks) {
  const double flops = 2.0 * static_cast<double>(s.m) * static_cast<double>(s.n) * static_cast<double>(s.k);
  return std::max(clocks / kHertz, flops / kSustained);
}

/** Seconds of attention and of its gradient (dQ in turns) over whole sequences of as many key heads as query heads. */
struct AttentionSeconds {
  double forward, backward;
};
AttentionSeconds attention_seconds(int seq, int sequences, int heads, int head_dim);

}  // namespace bench
