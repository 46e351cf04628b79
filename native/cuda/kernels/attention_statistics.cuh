#pragma once
#include "native/cuda/kernels.h"
#include "native/cuda/kernels/attention_documents.h"
#include "native/cuda/reduce.h"

/** What the gradient's kernels need of each row beforehand: lse in log2 units and delta, and where documents end. */
namespace thalweg::cuda {

namespace {

constexpr int kStatisticsThreads = 256;

/** 2^lane_bits threads of a warp per row of a head, N elements of it each at a time. Rows are counted in 32 bits:
 * dividing by run-time numbers of 64 would take longer than the loads, and 2^32 rows' statistics would fill 34 GB. */
template <class T, int N>
__global__ void __launch_bounds__(kStatisticsThreads)
    statistics_kernel(const T* y, const T* dy, const float* lse, RowStatistics statistics, AttentionShape shape,
                      int lane_bits) {
  const auto heads = static_cast<uint32_t>(shape.heads), padded = static_cast<uint32_t>(statistics.padded);
  const uint32_t rows = static_cast<uint32_t>(shape.batch) * padded * heads;
  const uint32_t index = blockIdx.x * (kStatisticsThreads >> lane_bits) + (threadIdx.x >> lane_bits);
  const int lanes = 1 << lane_bits, head = static_cast<int>(index % heads);
  const int row = static_cast<int>(index / heads % padded), sequence = static_cast<int>(index / heads / padded);
  const bool inside = index < rows && row < shape.seq;
  float sum = 0.0f;
  if (inside) {
    const T *out = shape.output(y, sequence, head, row).first, *grad = shape.output(dy, sequence, head, row).first;
    for (int d = (lane_index() & (lanes - 1)) * N; d < shape.head_dim; d += lanes * N) {
      const Vector<T, N> a = load<N>(out + d), b = load<N>(grad + d);
      UNROLL
      for (int i = 0; i < N; i++) sum += to_float(a[i]) * to_float(b[i]);
    }
  }
  for (int mask = lanes / 2; mask > 0; mask /= 2) sum += shuffle_xor(sum, mask);
  if (index >= rows || (lane_index() & (lanes - 1)) != 0) return;
  const int64_t at = statistics.at(shape, sequence, head, row);
  const int64_t position = static_cast<int64_t>(sequence) * shape.seq + row;
  statistics.delta[at] = sum;
  statistics.lse2[at] = inside ? lse[position * shape.heads + head] * kLog2E : INFINITY;
}

template <class T, int N>
void launch_statistics(Stream& stream, const T* y, const T* dy, const float* lse, const RowStatistics& statistics,
                       const AttentionShape& shape) {
  int lane_bits = 0;
  while (1 << lane_bits < kWarp && (N << lane_bits) < shape.head_dim) lane_bits++;
  const int64_t threads = RowStatistics::elements(shape) << lane_bits;
  launch(stream, statistics_kernel<T, N>,
         GridShape{{static_cast<unsigned>(ceil_div(threads, kStatisticsThreads)), 1, 1}, kStatisticsThreads}, y, dy,
         lse, statistics, shape, lane_bits);
}

/** ends[k]: one more than the last query that sees key k. A binary search in fixed steps: whatever `starts` holds, ends
 * do not decrease. */
__global__ void __launch_bounds__(kStatisticsThreads)
    document_ends_kernel(Documents documents, int* ends, AttentionShape shape) {
  const int index = static_cast<int>(blockIdx.x) * kStatisticsThreads + static_cast<int>(threadIdx.x);
  if (index >= shape.batch * shape.seq) return;
  const int key = index % shape.seq, sequence = index / shape.seq;
  int low = 0, high = shape.seq;
  while (low < high) {
    const int middle = (low + high) / 2;
    if (documents.start(shape, sequence, middle) > key)
      high = middle;
    else
      low = middle + 1;
  }
  ends[index] = low > key ? low : key + 1;
}

/** `workspace` of Documents::bytes. */
Documents document_ends(Stream& stream, const int* starts, std::byte* workspace, const AttentionShape& shape) {
  auto* ends = reinterpret_cast<int*>(workspace);
  const auto rows = static_cast<int64_t>(shape.batch) * shape.seq;
  const Documents documents{starts, ends};
  launch(stream, document_ends_kernel,
         GridShape{{static_cast<unsigned>(ceil_div(rows, kStatisticsThreads)), 1, 1}, kStatisticsThreads}, documents,
         ends, shape);
  return documents;
}

/** At the beginning of the workspace. */
template <class T>
RowStatistics make_statistics(const ops::AttentionBackward& p, Context& ctx, const AttentionShape& shape) {
  const RowStatistics statistics(ctx.workspace, shape);
  const auto *y = p.y.as<const T>(), *dy = p.dy.as<const T>();
  const auto* lse = p.lse.as<const float>();
  if (shape.head_dim % kVector<T> == 0 && is_aligned(y, 16) && is_aligned(dy, 16))
    launch_statistics<T, kVector<T>>(ctx.stream, y, dy, lse, statistics, shape);
  else
    launch_statistics<T, 1>(ctx.stream, y, dy, lse, statistics, shape);
  return statistics;
}

}  // namespace

}  // namespace thalweg::cuda
