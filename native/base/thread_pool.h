#pragma once
#include <cstdint>

namespace thalweg {

/**
 * A fixed team of threads that plays tiles. run() hands out tile indices 0..tiles-1; which worker gets which tile is
 * not fixed, so a tile's result must depend on its index only (that is what makes results independent of the number of
 * threads). The calling thread is worker 0. Exceptions of a tile are rethrown by run() (the first one seen).
 */
class ThreadPool {
 public:
  explicit ThreadPool(int threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int threads() const { return threads_; }

  /** f(tile, worker) for every tile; returns when all are done. Not reentrant. */
  template <class F>
  void run(int64_t tiles, F&& f) {
    run_erased(
        tiles, [](void* self, int64_t tile, int worker) { (*static_cast<F*>(self))(tile, worker); },
        const_cast<void*>(static_cast<const void*>(&f)));
  }

 private:
  using Body = void (*)(void* self, int64_t tile, int worker);
  void run_erased(int64_t tiles, Body body, void* self);
  struct State;
  State* state_;
  int threads_;
};

/** Number of CPUs this process may use (affinity and cgroup quota respected). */
int available_cpus();

}  // namespace thalweg
