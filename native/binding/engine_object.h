#pragma once
#include <napi.h>

#include <memory>
#include <unordered_map>

#include "native/binding/requests.h"

namespace thalweg::binding {

/**
 * The JavaScript face of an engine: a device, its driver thread, its modules by number. Only converts and queues; what
 * happens is in native/engine and native/cpu. ts/engine/engine.ts is its only caller and documents the methods.
 */
class EngineObject : public Napi::ObjectWrap<EngineObject> {
 public:
  static Napi::Function define(Napi::Env env);
  explicit EngineObject(const Napi::CallbackInfo& info);

 private:
  using Info = const Napi::CallbackInfo&;
  Napi::Value info(Info info);
  Napi::Value load(Info info);
  Napi::Value attach(Info info);
  Napi::Value play(Info info);
  Napi::Value write(Info info);
  Napi::Value read(Info info);
  Napi::Value initialize(Info info);
  Napi::Value refresh(Info info);
  Napi::Value snapshot(Info info);
  Napi::Value write_file(Info info);
  Napi::Value drop_snapshot(Info info);
  Napi::Value load_file(Info info);
  Napi::Value drop_module(Info info);
  Napi::Value run_op(Info info);
  Napi::Value cancel(Info info);
  Napi::Value free_device(Info info);
  Napi::Value finish_files(Info info);
  Napi::Value close(Info info);

  /** Sends work on a module to the driver thread. */
  Napi::Promise on_module(std::unique_ptr<Request> request, uint32_t module,
                          std::function<void(engine::DeviceModule&, const engine::Cancel&)> work);

  std::unique_ptr<engine::Backend> backend_;
  std::unordered_map<uint32_t, std::unique_ptr<engine::DeviceModule>> modules_;  // driver thread only
  uint32_t next_module_ = 1;
  std::unique_ptr<Requests> requests_;  // last: its end joins the threads that use the members above
};

}  // namespace thalweg::binding
