#include "native/cuda/kernels/floats.cuh"
#include "native/cuda/kernels/rows.cuh"

/**
 * adamw: AdamW (Loshchilov & Hutter 2019) as PyTorch computes it, over one tensor or over a table of all of them:
 *   g = grad min(1, clip / (norm + 1e-6));  param -= lr lrScale weightDecay decayScale param
 *   m += (1 - beta1) (g - m);  v = beta2 v + (1 - beta2) g^2;  param -= lr lrScale bias1 m / (sqrt(v bias2) + eps)
 * Nothing changes when *status is not 0. The bf16 copy of a weight is rewritten in the same pass.
 *
 * Bound by memory: 28 bytes a parameter, 30 with a copy. A thread takes four elements of each array at a time. For a
 * table the blocks (as many as stay resident) share the chunks of all tensors: each block counts chunks by a scan over
 * the table in shared memory and finds the tensor of a chunk by bisection; elements are independent, so the division
 * changes no bits.
 */
namespace thalweg::cuda {

namespace {

constexpr int kThreads = 256;
constexpr int64_t kChunk = 4 * 4 * kThreads;  // elements a block takes at a time: 16 a thread
constexpr int kBlocksPerMultiprocessor = 4;

/** Numbers of a step for one tensor. */
struct Step {
  float clip;   // factor on the gradient
  float decay;  // lr * weightDecay, scaled
  float mix1, beta2, mix2;
  float size;  // lr * bias1
  float bias2, eps;
};

DEVICE Step step_of(const AdamwEntry& e, const float* scalars, float norm) {
  const double lr = static_cast<double>(scalars[ops::kScalarLr]) * e.lr_scale;
  const float limit = scalars[ops::kScalarClip], ratio = limit / (norm + 1e-6f);
  Step s;
  s.clip = limit > 0.0f && ratio < 1.0f ? ratio : 1.0f;
  s.decay = static_cast<float>(lr * scalars[ops::kScalarWeightDecay] * e.decay_scale);
  s.mix1 = 1.0f - scalars[ops::kScalarBeta1];
  s.beta2 = scalars[ops::kScalarBeta2];
  s.mix2 = 1.0f - scalars[ops::kScalarBeta2];
  s.size = static_cast<float>(lr * scalars[ops::kScalarBias1]);
  s.bias2 = scalars[ops::kScalarBias2];
  s.eps = scalars[ops::kScalarEps];
  return s;
}

template <int N>
struct Elements {
  Floats<N> grad, param, m, v;
};

/** Vectors pass by the caches: none of these arrays is needed again soon. */
template <int N>
DEVICE Floats<N> read(const float* from) {
  if constexpr (N == 4)
    return unpack(load_streaming(from));
  else
    return load_floats<N>(from);
}

template <int N>
DEVICE void write(float* to, const Floats<N>& values) {
  if constexpr (N == 4)
    store_streaming(to, pack<float>(values));
  else
    store_floats<N>(to, values);
}

template <int N>
DEVICE Elements<N> read(const AdamwEntry& e, int64_t i) {
  return {read<N>(e.grad + i), read<N>(e.param + i), read<N>(e.m + i), read<N>(e.v + i)};
}

template <int N>
DEVICE void update(const AdamwEntry& e, const Step& s, int64_t i, Elements<N> x) {
  UNROLL
  for (int k = 0; k < N; k++) {
    const float g = x.grad[k] * s.clip;
    x.m[k] = fmaf(s.mix1, g - x.m[k], x.m[k]);
    x.v[k] = fmaf(s.mix2 * g, g, s.beta2 * x.v[k]);
    x.param[k] = fmaf(-s.decay, x.param[k], x.param[k]) - s.size * x.m[k] / (sqrtf(x.v[k] * s.bias2) + s.eps);
  }
  write(e.param + i, x.param);
  write(e.m + i, x.m);
  write(e.v + i, x.v);
  if (e.copy != nullptr) store_floats<N>(static_cast<bf16*>(e.copy) + i, x.param);
}

/** Whether all arrays allow vectors of four; the copy's are 8 bytes. */
DEVICE bool takes_vectors(const AdamwEntry& e) {
  const uintptr_t bits = reinterpret_cast<uintptr_t>(e.grad) | reinterpret_cast<uintptr_t>(e.param) |
                         reinterpret_cast<uintptr_t>(e.m) | reinterpret_cast<uintptr_t>(e.v) |
                         reinterpret_cast<uintptr_t>(e.copy) * 2;
  return bits % 16 == 0;
}

/** One chunk of a tensor, by the whole block. */
DEVICE void update_chunk(const AdamwEntry& e, const Step& s, int64_t chunk) {
  const int64_t begin = chunk * kChunk, end = begin + kChunk < e.n ? begin + kChunk : e.n;
  const int64_t whole = takes_vectors(e) ? begin + (end - begin) / 4 * 4 : begin;
  if (whole == begin + kChunk) {
    const int64_t first = begin + 4 * threadIdx.x;
    UNROLL
    for (int64_t i = first; i < first + kChunk; i += 8 * kThreads) {  // eight vectors under way
      const Elements<4> one = read<4>(e, i), two = read<4>(e, i + 4 * kThreads);
      update(e, s, i, one);
      update(e, s, i + 4 * kThreads, two);
    }
    return;
  }
  for (int64_t i = begin + 4 * threadIdx.x; i < whole; i += 4 * kThreads) update(e, s, i, read<4>(e, i));
  for (int64_t i = whole + threadIdx.x; i < end; i += kThreads) update(e, s, i, read<1>(e, i));
}

__global__ void __launch_bounds__(kThreads)
    adamw_kernel(const AdamwEntry entry, const float* scalars, const float* norm, const int32_t* status) {
  if (*status != 0) return;
  update_chunk(entry, step_of(entry, scalars, *norm), blockIdx.x);
}

/** Sum of `value` over the threads before this one, and over all of them. */
struct Scan {
  int64_t before, all;
};

DEVICE Scan block_scan(int64_t value, int64_t* warp_sums) {
  int64_t sum = value;
  UNROLL
  for (int distance = 1; distance < kWarp; distance *= 2) {
    const uint64_t low = shuffle_up(static_cast<uint32_t>(sum), distance);
    const uint64_t high = shuffle_up(static_cast<uint32_t>(static_cast<uint64_t>(sum) >> 32), distance);
    if (lane_index() >= distance) sum += static_cast<int64_t>(low | high << 32);
  }
  if (lane_index() == kWarp - 1) warp_sums[warp_index()] = sum;
  sync_threads();
  Scan scan = {sum - value, 0};
  for (int w = 0; w < kThreads / kWarp; w++) {
    if (w < warp_index()) scan.before += warp_sums[w];
    scan.all += warp_sums[w];
  }
  return scan;
}

struct TableShared {
  int64_t first[kThreads];  // first chunk of each tensor of a part of the table
  int64_t warp_sums[kThreads / kWarp];
};

__global__ void __launch_bounds__(kThreads, kBlocksPerMultiprocessor)
    adamw_table_kernel(const AdamwTable table, const float* scalars) {
  if (*table.status != 0) return;
  auto& shared = shared_memory<TableShared>();
  const float norm = *table.norm;
  int64_t passed = 0;  // chunks of the parts before
  for (int part = 0; part < table.count; part += kThreads) {
    const int count = table.count - part < kThreads ? table.count - part : kThreads;
    const int mine = static_cast<int>(threadIdx.x);
    const int64_t chunks = mine < count ? (table.entries[part + mine].n + kChunk - 1) / kChunk : 0;
    sync_threads();  // nobody searches the part before any more
    const Scan scan = block_scan(chunks, shared.warp_sums);
    shared.first[mine] = scan.before;
    sync_threads();
    // The block's next chunk is the smallest blockIdx + k gridDim that is not in the parts before.
    const int64_t grid = gridDim.x;
    const int64_t behind = passed - static_cast<int64_t>(blockIdx.x);
    int64_t chunk = blockIdx.x + (behind > 0 ? (behind + grid - 1) / grid * grid : 0) - passed;
    for (; chunk < scan.all; chunk += grid) {
      int low = 0, high = count;  // the last tensor whose first chunk is not past `chunk`
      while (high - low > 1) {
        const int middle = (low + high) / 2;
        (shared.first[middle] <= chunk ? low : high) = middle;
      }
      const AdamwEntry entry = table.entries[part + low];
      update_chunk(entry, step_of(entry, scalars, norm), chunk - shared.first[low]);
    }
    passed += scan.all;
  }
}

}  // namespace

void adamw(const ops::Adamw& p, Context& ctx) {
  auto* param = p.param.as<float>();
  const AdamwEntry entry = {p.grad.as<const float>(),
                            param,
                            p.m.as<float>(),
                            p.v.as<float>(),
                            ctx.copies != nullptr ? ctx.copies->find(param) : nullptr,
                            p.n,
                            p.lr_scale,
                            p.decay_scale};
  const GridShape shape = {{static_cast<unsigned>(ceil_div(p.n, kChunk)), 1, 1}, kThreads};
  launch(ctx.stream, adamw_kernel, shape, entry, ctx.scalars, p.norm.as<const float>(), p.status.as<const int32_t>());
}
size_t adamw_workspace(const ops::Adamw&, const Target&) { return 0; }

void adamw_table(const AdamwTable& table, Context& ctx) {
  const int64_t most = ceil_div(table.largest, kChunk) * table.count;
  const int64_t blocks =
      std::min<int64_t>(most, static_cast<int64_t>(ctx.target.multiprocessors) * kBlocksPerMultiprocessor);
  const GridShape shape = {{static_cast<unsigned>(blocks), 1, 1}, kThreads, 1, sizeof(TableShared)};
  launch(ctx.stream, adamw_table_kernel, shape, table, ctx.scalars);
}

}  // namespace thalweg::cuda
