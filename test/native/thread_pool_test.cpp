#include "native/base/thread_pool.h"

#include <atomic>
#include <stdexcept>
#include <thread>

#include "test/native/check.h"

using thalweg::ThreadPool;

TEST("every tile is played exactly once, whatever the number of threads") {
  for (const int threads : {1, 2, 3, 8}) {
    ThreadPool pool(threads);
    CHECK(pool.threads() == threads);
    for (const int64_t tiles : {0, 1, 2, 7, 1000}) {
      std::vector<std::atomic<int>> played(static_cast<size_t>(tiles));
      pool.run(tiles, [&](int64_t tile, int worker) {
        CHECK(worker >= 0 && worker < threads);
        played[static_cast<size_t>(tile)]++;
      });
      for (auto& p : played) CHECK(p == 1);
    }
  }
}

TEST("thousands of short regions in a row lose no tile, also after the team has gone to sleep") {
  ThreadPool pool(4);
  for (int round = 0; round < 3000; round++) {
    std::atomic<int64_t> sum{0};
    pool.run(16, [&](int64_t tile, int) { sum += tile; });
    CHECK(sum == 120, "round ", round, ": ", sum.load());
    if (round % 1000 == 999) std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
}

TEST("an exception of a tile reaches the caller, and the pool plays on") {
  ThreadPool pool(3);
  for (int round = 0; round < 50; round++) {
    bool caught = false;
    try {
      pool.run(100, [&](int64_t tile, int) {
        if (tile == 42) throw std::runtime_error("tile 42");
      });
    } catch (const std::runtime_error& e) {
      caught = std::string(e.what()) == "tile 42";
    }
    CHECK(caught);
    std::atomic<int> count{0};
    pool.run(10, [&](int64_t, int) { count++; });
    CHECK(count == 10);
  }
}

TEST("workers see what the caller wrote before, and the caller what they wrote") {
  ThreadPool pool(4);
  std::vector<int64_t> in(4096), out(4096);
  for (int round = 0; round < 200; round++) {
    for (size_t i = 0; i < in.size(); i++) in[i] = round + static_cast<int64_t>(i);
    pool.run(64, [&](int64_t tile, int) {
      for (size_t i = static_cast<size_t>(tile) * 64; i < static_cast<size_t>(tile + 1) * 64; i++) out[i] = 2 * in[i];
    });
    for (size_t i = 0; i < in.size(); i++) CHECK(out[i] == 2 * (round + static_cast<int64_t>(i)));
  }
}

TEST("this process may use at least one CPU") { CHECK(thalweg::available_cpus() >= 1); }

TEST_MAIN()
