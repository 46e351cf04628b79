#include "native/binding/requests.h"

#include <new>

#include "native/binding/convert.h"

namespace thalweg::binding {

Requests::Requests(Napi::Env env) : env_(env), link_(new Link{this}) {
  const napi_status status = napi_create_threadsafe_function(
      env, nullptr, nullptr, Napi::String::New(env, "thalweg"), 0, 1, link_,
      [](napi_env, void* link, void*) { delete static_cast<Link*>(link); }, link_,
      [](napi_env env, napi_value, void* link, void*) {
        Requests* owner = static_cast<Link*>(link)->owner;
        if (env != nullptr && owner != nullptr) owner->drain(env);  // no env: it is going away
      },
      &wake_);
  if (status != napi_ok) fail("INTERNAL", "the engine could not reach the event loop (status ", int{status}, ")");
  napi_unref_threadsafe_function(env, wake_);
  napi_add_env_cleanup_hook(env, at_env_end, this);
}

void Requests::at_env_end(void* self) { static_cast<Requests*>(self)->close(); }

Requests::~Requests() { close(); }

void Requests::close() {
  if (closed_) return;
  closed_ = true;
  stop_all_.store(true);
  stop_device_.store(true);
  device.stop();
  files.stop();
  napi_remove_env_cleanup_hook(env_, at_env_end, this);
  link_->owner = nullptr;
  napi_release_threadsafe_function(wake_, napi_tsfn_release);
  done_.clear();
  owned_.clear();  // their references go while the environment is still there
}

Napi::Promise Requests::send(std::unique_ptr<Request> request, engine::Worker& on) {
  if (closed_) fail("DISPOSED", "the engine was disposed");
  Request* r = request.get();
  const Napi::Promise promise = r->deferred.Promise();
  owned_.emplace(r, std::move(request));
  if (under_way_++ == 0) {
    napi_ref_threadsafe_function(env_, wake_);
    if (on_busy) on_busy(true);
  }
  const std::atomic<bool>* stop = &on == &device ? &stop_device_ : &stop_all_;
  on.post([this, r, stop] {
    try {
      const engine::Cancel cancel = r->always ? engine::Cancel{} : engine::Cancel{&r->cancelled, stop};
      cancel.poll();
      r->work(cancel);
    } catch (const Error& e) {
      r->error_code = e.code();
      r->error_text = e.what();
    } catch (const std::bad_alloc&) {
      r->error_code = "OUT_OF_MEMORY";
      r->error_text = "the system has no memory left for the engine's own tables.";
    } catch (const std::exception& e) {
      r->error_code = "INTERNAL";
      r->error_text = e.what();
    }
    finish(r);
  });
  return promise;
}

void Requests::cancel(double id) {
  for (auto& [pointer, request] : owned_)
    if (request->id == id) request->cancelled.store(true);
}

void Requests::finish(Request* request) {
  bool first;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    first = done_.empty();
    done_.push_back(request);
  }
  if (first) napi_call_threadsafe_function(wake_, nullptr, napi_tsfn_nonblocking);
}

void Requests::drain(Napi::Env env) {
  std::deque<Request*> done;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    done.swap(done_);
  }
  Napi::HandleScope scope(env);
  for (Request* pointer : done) {
    const auto node = owned_.extract(pointer);
    if (--under_way_ == 0) {
      napi_unref_threadsafe_function(env, wake_);
      if (on_busy) on_busy(false);
    }
    settle(env, *node.mapped());
  }
}

/** A terminating environment throws from any call, also from reject: nothing may leave this function. */
void Requests::settle(Napi::Env env, Request& request) {
  Napi::HandleScope scope(env);
  try {
    if (request.error_code.empty()) {
      request.deferred.Resolve(request.result ? request.result(env) : env.Undefined());
    } else {
      request.deferred.Reject(js_error(env, request.error_code, request.error_text).Value());
    }
  } catch (...) {
    try {
      request.deferred.Reject(js_error(env, "INTERNAL", "the result could not be made").Value());
    } catch (...) {
    }
  }
}

}  // namespace thalweg::binding
