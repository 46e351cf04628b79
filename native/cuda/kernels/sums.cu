#include "native/cuda/kernels.h"
#include "native/cuda/kernels/flat_sums.cuh"
#include "native/cuda/kernels/rows.cuh"
#include "native/cuda/launch.h"

/**
 * sum = sum x, dot = sum a b and gradNorm = sqrt(sum g^2) over n fp32, in fp64 over fixed units added in order
 * (flat_sums.cuh says how a unit is summed). Bound by memory: 4 bytes an element (dot 8); a unit's own sum, 8 bytes
 * written and read again, is a five-hundredth of that.
 *
 * A block takes kUnitsOfBlock units without a barrier between them; then each of its warps adds up one. The partials go
 * to the workspace. One block reads them in order; where that would be long, blocks first add up kGroup each: 1.2
 * billion elements have 590,000 partials in 573 groups.
 *
 * gradNorm takes the sums of units that were made with the gradients (Context::squares) instead of reading those again:
 * the same bits.
 */
namespace thalweg::cuda {

namespace {

constexpr int kUnitsOfBlock = kUnitThreads / kWarp;
constexpr int kTogether = 2;      // units of which a thread has its vectors loaded at once
constexpr int64_t kGroup = 1024;  // partials

/** Four elements, those from n on zero. */
template <bool Vectors>
DEVICE Vector<float, 4> load_four(const float* from, int64_t i, int64_t n) {
  Vector<float, 4> out;
  if (Vectors && i + 4 <= n) return load<4>(from + i);
  UNROLL
  for (int k = 0; k < 4; k++) out[k] = i + k < n ? from[i + k] : 0.0f;
  return out;
}

/** `known`: sums of units that need not be made, where they are >= 0 (so neither NaN); or null. */
template <Terms kTerms, bool Vectors>
__global__ void __launch_bounds__(kUnitThreads)
    units_kernel(const float* a, const float* b, int64_t n, const double* known, double* partial) {
  struct Shared {
    double sums[kUnitsOfBlock][kUnitThreads];
  };
  auto& shared = shared_memory<Shared>();
  const int lane = lane_index(), warp = warp_index();
  const int64_t first = static_cast<int64_t>(blockIdx.x) * kUnitsOfBlock;
  const bool exists = lane < kUnitsOfBlock && (first + lane) * kUnit < n;
  const double found = exists && known != nullptr ? known[first + lane] : -1.0;
  const uint32_t wanted = warp_ballot(exists && !(found >= 0.0));
  for (int u = 0; u < kUnitsOfBlock; u += kTogether) {
    Run x[kTogether], y[kTogether];
    UNROLL
    for (int j = 0; j < kTogether; j++) {
      if ((wanted >> (u + j) & 1) == 0) continue;
      UNROLL
      for (int k = 0; k < kRunVectors; k++) {
        const int64_t i = (first + u + j) * kUnit + run_place(k);
        x[j][k] = load_four<Vectors>(a, i, n);
        y[j][k] = kTerms == Terms::Products && a != b ? load_four<Vectors>(b, i, n) : x[j][k];
      }
    }
    UNROLL
    for (int j = 0; j < kTogether; j++)
      if ((wanted >> (u + j) & 1) != 0) shared.sums[u + j][threadIdx.x] = run_sum<kTerms>(x[j], y[j]);
  }
  sync_threads();
  if ((wanted >> warp & 1) != 0) {
    const double total = add_threads(shared.sums[warp]);
    if (lane == 0) partial[first + warp] = total;
  } else if (lane == warp && exists) {
    partial[first + lane] = found;
  }
}

/** The sum of `count` partials, to the first warp of a block. */
DEVICE double sum_partials(const double* partial, int64_t count) {
  struct Shared {
    double sums[kUnitThreads];
  };
  auto& shared = shared_memory<Shared>();
  double total = 0.0;
  for (int64_t i = threadIdx.x; i < count; i += kUnitThreads) total += partial[i];
  shared.sums[threadIdx.x] = total;
  sync_threads();
  return warp_index() == 0 ? add_threads(shared.sums) : 0.0;
}

__global__ void __launch_bounds__(kUnitThreads) groups_kernel(const double* partial, int64_t count, double* groups) {
  const int64_t begin = static_cast<int64_t>(blockIdx.x) * kGroup, left = count - begin;
  const double total = sum_partials(partial + begin, left < kGroup ? left : kGroup);
  if (threadIdx.x == 0) groups[blockIdx.x] = total;
}

__global__ void __launch_bounds__(kUnitThreads)
    finish_sum_kernel(const double* partial, int64_t count, int64_t accumulate, const int32_t* integers, float* y) {
  const double total = sum_partials(partial, count);
  if (threadIdx.x != 0) return;
  const double before = adds(accumulate, integers) ? static_cast<double>(*y) : 0.0;
  *y = static_cast<float>(before + total);
}

__global__ void __launch_bounds__(kUnitThreads)
    finish_norm_kernel(const double* partial, int64_t count, const float* loss, float* norm, int32_t* status) {
  const double total = sum_partials(partial, count);
  if (threadIdx.x != 0) return;
  const float root = static_cast<float>(sqrt(total));
  *norm = root;
  const float doubt = *loss - *loss + (root - root);  // 0, or NaN when one of the two is not finite
  if (!(doubt == 0.0f)) *status = 1;
}

/** Blocks of kUnitThreads with a number of each thread, `sums` times, in shared memory. */
GridShape grid_of(int64_t blocks, int sums) {
  return {{static_cast<unsigned>(blocks), 1, 1}, kUnitThreads, 1, sizeof(double) * kUnitThreads * sums};
}

int64_t groups_of(int64_t units) { return units <= kGroup ? 0 : ceil_div(units, kGroup); }
size_t partial_bytes(int64_t n) {
  return static_cast<size_t>(unit_count(n) + groups_of(unit_count(n))) * sizeof(double);
}

/** What one block is left to add up. */
struct Partials {
  const double* at;
  int64_t count;
};

template <Terms kTerms>
Partials sum_units(const float* a, const float* b, int64_t n, const double* known, Context& ctx) {
  auto* partial = reinterpret_cast<double*>(ctx.workspace);
  const int64_t units = unit_count(n), groups = groups_of(units);
  const GridShape grid = grid_of(ceil_div(units, kUnitsOfBlock), kUnitsOfBlock);
  if (is_aligned(a, 16) && is_aligned(b, 16))
    launch(ctx.stream, units_kernel<kTerms, true>, grid, a, b, n, known, partial);
  else
    launch(ctx.stream, units_kernel<kTerms, false>, grid, a, b, n, known, partial);
  if (groups == 0) return {partial, units};
  launch(ctx.stream, groups_kernel, grid_of(groups, 1), partial, units, partial + units);
  return {partial + units, groups};
}

}  // namespace

void sum(const ops::Sum& p, Context& ctx) {
  const auto* x = p.x.as<const float>();
  const Partials left = sum_units<Terms::Values>(x, x, p.n, nullptr, ctx);
  launch(ctx.stream, finish_sum_kernel, grid_of(1, 1), left.at, left.count, p.accumulate, ctx.integers,
         p.y.as<float>());
}
size_t sum_workspace(const ops::Sum& p, const Target&) { return partial_bytes(p.n); }

void dot(const ops::Dot& p, Context& ctx) {
  const Partials left = sum_units<Terms::Products>(p.a.as<const float>(), p.b.as<const float>(), p.n, nullptr, ctx);
  launch(ctx.stream, finish_sum_kernel, grid_of(1, 1), left.at, left.count, int64_t{ops::kOverwrite}, ctx.integers,
         p.y.as<float>());
}
size_t dot_workspace(const ops::Dot& p, const Target&) { return partial_bytes(p.n); }

void grad_norm(const ops::GradNorm& p, Context& ctx) {
  const auto* grads = p.grads.as<const float>();
  const GradientSquares* squares = ctx.squares;
  const bool covered = squares != nullptr && squares->grads == grads && squares->n == p.n;
  const Partials left = sum_units<Terms::Products>(grads, grads, p.n, covered ? squares->units : nullptr, ctx);
  launch(ctx.stream, finish_norm_kernel, grid_of(1, 1), left.at, left.count, p.loss.as<const float>(),
         p.norm.as<float>(), p.status.as<int32_t>());
}
size_t grad_norm_workspace(const ops::GradNorm& p, const Target&) { return partial_bytes(p.n); }

}  // namespace thalweg::cuda
