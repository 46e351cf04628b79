#include "native/cuda/kernels/hopper_attention.h"
#include "native/cuda/kernels/hopper_attention_operands.cuh"

/**
 * dQ = scale * sums, from fp32 in the order of the accumulators to bf16 rows of dqkv. 6 bytes an element, once: some 3%
 * of the gradient's time at 4096 positions. A block moves what one warpgroup wrote: 64 queries, all columns or 64.
 */
namespace thalweg::cuda {

namespace {

/** Columns of dQ that one warpgroup of the gradient's kernel makes: all, of 64 of the step's 128 queries, or half of
 * them, of all 64. */
template <int D>
constexpr int kColumns = hopper_backward_tiles(D).step == 64 ? D / 2 : D;

template <int D>
__global__ void __launch_bounds__(128)
    query_gradient_kernel(const __grid_constant__ TensorMap dqkv, QueryGradients gradients, AttentionShape shape) {
  constexpr int kStep = hopper_backward_tiles(D).step, N = kColumns<D>;
  auto& tile = shared_memory<HeadTile<64, N>>();
  const int part = static_cast<int>(blockIdx.x) % 2, index = static_cast<int>(blockIdx.x) / 2;
  const int position = index % gradients.tiles, head = index / gradients.tiles % shape.heads;
  const int sequence = index / gradients.tiles / shape.heads;
  const float* from = gradients.sums + static_cast<int64_t>(blockIdx.x) * (64 * N) + 4 * threadIdx.x;
  const float factor[2] = {shape.scale, shape.scale};
  float sums[N / 2];
  UNROLL
  for (int i = 0; i < N / 8; i++) {
    const Vector<float, 4> four = load_streaming(from + i * 512);
    UNROLL
    for (int e = 0; e < 4; e++) sums[4 * i + e] = four[e];
  }
  stage_rows(tile, warp_index() * 16, sums, factor);
  fence_proxy_async();
  sync_threads();
  if (threadIdx.x != 0) return;
  const int row = position * kStep + (kStep == 128 ? 64 * part : 0), column = kStep == 128 ? 0 : 64 * part;
  tma_store_4d(dqkv, &tile, column, head, row, sequence);
  bulk_commit();
  bulk_wait_read<0>();
}

template <int D>
void launch_query_gradient(Stream& stream, const QueryGradients& gradients, bf16* dqkv, const AttentionShape& shape) {
  launch(
      stream, query_gradient_kernel<D>,
      GridShape{{static_cast<unsigned>(2 * gradients.count(shape)), 1, 1}, 128, 1, sizeof(HeadTile<64, kColumns<D>>)},
      head_boxes(dqkv, shape, shape.heads + 2 * shape.kv_heads), gradients, shape);
}

}  // namespace

void hopper_query_gradient(Stream& stream, const QueryGradients& gradients, bf16* dqkv, const AttentionShape& shape) {
  switch (shape.head_dim) {
#define THALWEG_CASE(D) \
  case D:               \
    return launch_query_gradient<D>(stream, gradients, dqkv, shape);
    THALWEG_HOPPER_HEAD_DIMS(THALWEG_CASE)
#undef THALWEG_CASE
  }
}

}  // namespace thalweg::cuda
