#pragma once
#include <napi.h>

#include <atomic>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

#include "native/engine/backend.h"
#include "native/engine/worker.h"

namespace thalweg::binding {

/**
 * One promise on its way: `work` runs on a worker thread, then `result` makes the value on the JavaScript thread. Made
 * and destroyed on the JavaScript thread (it holds references to JavaScript objects), lent to the worker in between.
 */
struct Request {
  explicit Request(Napi::Env env) : deferred(Napi::Promise::Deferred::New(env)) {}

  Napi::Promise::Deferred deferred;
  std::function<void(const engine::Cancel&)> work;
  std::function<Napi::Value(Napi::Env)> result;  // none: undefined
  std::vector<Napi::ObjectReference> keep;       // what `work` reads or writes in place
  std::atomic<bool> cancelled{false};
  double id = -1;          // for cancel(), -1: cannot be cancelled alone
  bool always = false;     // plays even when everything is being cancelled
  std::string error_code;  // empty: it went well
  std::string error_text;
};

/**
 * The way of requests from JavaScript to the threads and back. Completions gather in a queue that wakes the event loop
 * once however many there are, and never block a worker. While requests are under way the event loop stays alive; an
 * idle one may end. When the environment ends (exit, a terminated worker) everything is cancelled and joined.
 */
class Requests {
 public:
  explicit Requests(Napi::Env env);
  ~Requests();
  Requests(const Requests&) = delete;
  Requests& operator=(const Requests&) = delete;

  /** Queues a request; `on` is the worker that plays it. */
  Napi::Promise send(std::unique_ptr<Request> request, engine::Worker& on);
  void cancel(double id);
  /** Every request under way or queued on the device fails with CANCELLED. */
  void cancel_device() { stop_device_.store(true); }
  /** Joins the threads and lets go of the environment; nothing can be sent afterwards. JavaScript thread only. */
  void close();

  engine::Worker device;  // all device calls
  engine::Worker files;   // snapshots being written
  /** Called when the last request ended, and when the first began, so that the owner stays alive meanwhile. */
  std::function<void(bool busy)> on_busy;

 private:
  static void at_env_end(void* self);
  void finish(Request* request);
  void drain(Napi::Env env);
  void settle(Napi::Env env, Request& request);

  /** What a wake-up call holds: it may arrive after this object is gone. */
  struct Link {
    Requests* owner;
  };

  Napi::Env env_;
  napi_threadsafe_function wake_ = nullptr;
  Link* link_;  // belongs to wake_
  std::mutex mutex_;
  std::deque<Request*> done_;
  std::unordered_map<Request*, std::unique_ptr<Request>> owned_;
  size_t under_way_ = 0;
  std::atomic<bool> stop_device_{false};
  std::atomic<bool> stop_all_{false};
  bool closed_ = false;
};

}  // namespace thalweg::binding
