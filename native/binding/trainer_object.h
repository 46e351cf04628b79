#pragma once
#include <napi.h>

#include <array>
#include <atomic>
#include <memory>

#include "native/binding/requests.h"
#include "native/text/trainer.h"

namespace thalweg::binding {

/** The JavaScript face of native/text/trainer.h. ts/data/tokenizers/train.ts is its only caller. */
class TrainerObject : public Napi::ObjectWrap<TrainerObject> {
 public:
  static Napi::Function define(Napi::Env env);
  /** new NativeTrainer(bytes, threads) */
  explicit TrainerObject(const Napi::CallbackInfo& info);

 private:
  using Info = const Napi::CallbackInfo&;
  Napi::Value add(Info info);
  Napi::Value learn(Info info);
  Napi::Value learned(Info info);

  std::array<uint32_t, 256> bytes_{};
  int threads_ = 0;
  std::unique_ptr<text::WordCounter> counter_;  // worker thread only
  std::atomic<uint32_t> learned_{0};
  std::unique_ptr<Requests> requests_;  // last: its end joins the thread that uses the members above
};

}  // namespace thalweg::binding
