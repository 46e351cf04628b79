#include "native/base/thread_pool.h"

#include <sched.h>

#include <atomic>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

#include "native/base/cgroup.h"

namespace thalweg {

namespace {
inline void relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}
/** Spins this often before sleeping: a training step is thousands of short regions, a futex round trip each would show.
 */
constexpr int kSpins = 20000;
}  // namespace

struct ThreadPool::State {
  std::atomic<uint64_t> generation{0};
  alignas(64) std::atomic<int64_t> next{0};
  alignas(64) std::atomic<int> busy{0};
  int64_t tiles = 0;
  Body body = nullptr;
  void* self = nullptr;
  std::atomic<bool> stop{false};
  std::atomic<int> sleeping{0};
  std::mutex mutex;
  std::condition_variable wake;
  std::exception_ptr error;
  std::mutex error_mutex;
  std::vector<std::thread> workers;

  void play(int worker) {
    try {
      for (;;) {
        const int64_t tile = next.fetch_add(1, std::memory_order_relaxed);
        if (tile >= tiles) return;
        body(self, tile, worker);
      }
    } catch (...) {
      std::lock_guard<std::mutex> lock(error_mutex);
      if (!error) error = std::current_exception();
      next.store(tiles, std::memory_order_relaxed);
    }
  }

  void serve(int worker) {
    uint64_t seen = 0;
    for (;;) {
      int spins = 0;
      while (generation.load(std::memory_order_acquire) == seen && !stop.load(std::memory_order_relaxed)) {
        if (++spins < kSpins) {
          relax();
          continue;
        }
        std::unique_lock<std::mutex> lock(mutex);
        sleeping.fetch_add(1);
        wake.wait(lock, [&] { return generation.load() != seen || stop.load(); });
        sleeping.fetch_sub(1);
      }
      if (stop.load(std::memory_order_relaxed)) return;
      seen = generation.load(std::memory_order_acquire);
      play(worker);
      busy.fetch_sub(1, std::memory_order_release);
    }
  }
};

ThreadPool::ThreadPool(int threads) : state_(new State), threads_(threads < 1 ? 1 : threads) {
  for (int i = 1; i < threads_; i++) state_->workers.emplace_back([this, i] { state_->serve(i); });
}

ThreadPool::~ThreadPool() {
  {
    std::lock_guard<std::mutex> lock(state_->mutex);
    state_->stop.store(true);
  }
  state_->wake.notify_all();
  for (auto& t : state_->workers) t.join();
  delete state_;
}

void ThreadPool::run_erased(int64_t tiles, Body body, void* self) {
  State& s = *state_;
  if (tiles <= 0) return;
  if (threads_ == 1 || tiles == 1) {
    for (int64_t i = 0; i < tiles; i++) body(self, i, 0);
    return;
  }
  s.tiles = tiles;
  s.body = body;
  s.self = self;
  s.error = nullptr;
  s.next.store(0, std::memory_order_relaxed);
  s.busy.store(threads_ - 1, std::memory_order_relaxed);
  s.generation.fetch_add(1, std::memory_order_seq_cst);
  if (s.sleeping.load(std::memory_order_seq_cst) > 0) {
    // The empty critical section orders this wake after a worker's check of `generation` under the same mutex.
    { std::lock_guard<std::mutex> lock(s.mutex); }
    s.wake.notify_all();
  }
  s.play(0);
  int spins = 0;
  while (s.busy.load(std::memory_order_acquire) != 0) {
    relax();
    if (++spins > kSpins) {
      std::this_thread::yield();
      spins = 0;
    }
  }
  if (s.error) std::rethrow_exception(s.error);
}

int available_cpus() {
  cpu_set_t set;
  CPU_ZERO(&set);
  int cpus = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
  if (const auto quota = cgroup_limits().cpus) {
    const int allowed = static_cast<int>(*quota + 0.5);
    if (allowed >= 1 && allowed < cpus) cpus = allowed;
  }
  return cpus < 1 ? 1 : cpus;
}

}  // namespace thalweg
