#pragma once
#include <napi.h>

#include <memory>

#include "native/binding/requests.h"

namespace thalweg::binding {

/** The JavaScript face of native/text/token_rows.h. ts/data/row_reader.ts is its only caller. */
class ReaderObject : public Napi::ObjectWrap<ReaderObject> {
 public:
  static Napi::Function define(Napi::Env env);
  /** new NativeReader() */
  explicit ReaderObject(const Napi::CallbackInfo& info);

 private:
  Napi::Value read(const Napi::CallbackInfo& info);
  Napi::Value read_starts(const Napi::CallbackInfo& info);
  std::unique_ptr<Requests> requests_;
};

}  // namespace thalweg::binding
