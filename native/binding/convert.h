#pragma once
#include <napi.h>

#include <cstring>
#include <map>
#include <string>
#include <vector>

#include "native/base/error.h"
#include "native/engine/backend.h"
#include "native/engine/safetensors.h"

namespace thalweg::binding {

/** The bytes behind a TypedArray or ArrayBuffer; valid while the value is alive. */
struct Bytes {
  std::byte* data = nullptr;
  size_t size = 0;
};
Bytes bytes_of(const Napi::Value& value, const char* what);
std::vector<std::byte> copy_bytes(const Napi::Value& value, const char* what);

/** A member that must be there with that type, else BAD_INPUT naming it. */
std::string text_member(const Napi::Object& object, const char* name);
double number_member(const Napi::Object& object, const char* name);

engine::StepInputs step_inputs(const Napi::Object& object);
std::vector<engine::PlayEntry> play_entries(const Napi::Value& value);
std::vector<engine::FileRows> file_rows(const Napi::Value& value);
std::map<std::string, std::string> text_map(const Napi::Value& value);
std::vector<std::string> texts(const Napi::Value& value);

/** A JavaScript Error with `.code`. */
Napi::Error js_error(Napi::Env env, const std::string& code, const std::string& message);

/** Runs f and turns C++ errors into JavaScript exceptions: every entry point goes through this. */
template <class F>
auto guarded(Napi::Env env, F&& f) -> decltype(f()) {
  try {
    return f();
  } catch (const Napi::Error&) {
    throw;
  } catch (const Error& e) {
    throw js_error(env, e.code(), e.what());
  } catch (const std::bad_alloc&) {
    throw js_error(env, "OUT_OF_MEMORY", "the system has no memory left for the engine's own tables.");
  } catch (const std::exception& e) {
    throw js_error(env, "INTERNAL", e.what());
  }
}

}  // namespace thalweg::binding
