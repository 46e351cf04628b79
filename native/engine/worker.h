#pragma once
#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>

namespace thalweg::engine {

/** One thread that plays jobs in the order posted. The engine has one for its device and one for files. Jobs must not
 * throw. */
class Worker {
 public:
  Worker() = default;
  ~Worker() { stop(); }
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;

  /** The thread starts with the first job. */
  void post(std::function<void()> job);
  /** Plays what was posted, then joins; later jobs are dropped. Not from the thread itself. */
  void stop();

 private:
  void serve();
  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<std::function<void()>> jobs_;
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace thalweg::engine
