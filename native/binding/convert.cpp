#include "native/binding/convert.h"

namespace thalweg::binding {

Bytes bytes_of(const Napi::Value& value, const char* what) {
  if (value.IsTypedArray()) {
    const auto array = value.As<Napi::TypedArray>();
    return {static_cast<std::byte*>(array.ArrayBuffer().Data()) + array.ByteOffset(), array.ByteLength()};
  }
  if (value.IsArrayBuffer()) {
    auto buffer = value.As<Napi::ArrayBuffer>();
    return {static_cast<std::byte*>(buffer.Data()), buffer.ByteLength()};
  }
  fail("BAD_INPUT", what, " is not a TypedArray");
}

std::vector<std::byte> copy_bytes(const Napi::Value& value, const char* what) {
  const Bytes b = bytes_of(value, what);
  return std::vector<std::byte>(b.data, b.data + b.size);
}

std::string text_member(const Napi::Object& object, const char* name) {
  const Napi::Value value = object.Get(name);
  if (!value.IsString()) fail("BAD_INPUT", name, " is not a string");
  return value.As<Napi::String>().Utf8Value();
}

double number_member(const Napi::Object& object, const char* name) {
  const Napi::Value value = object.Get(name);
  if (!value.IsNumber()) fail("BAD_INPUT", name, " is not a number");
  return value.As<Napi::Number>().DoubleValue();
}

namespace {
void take_step(const Napi::Value& value, const char* what, void* to, size_t bytes) {
  if (value.IsUndefined()) return;
  const Bytes from = bytes_of(value, what);
  if (from.size != bytes) fail("BAD_INPUT", what, " has ", from.size / 4, " values, expected ", bytes / 4);
  std::memcpy(to, from.data, bytes);
}

template <class F>
void each(const Napi::Value& value, const char* what, F&& f) {
  if (!value.IsArray()) fail("BAD_INPUT", what, " is not an array");
  const auto array = value.As<Napi::Array>();
  for (uint32_t i = 0; i < array.Length(); i++) f(Napi::Value(array[i]));
}

Napi::Object object_of(const Napi::Value& value, const char* what) {
  if (!value.IsObject()) fail("BAD_INPUT", what, " is not an object");
  return value.As<Napi::Object>();
}
}  // namespace

engine::StepInputs step_inputs(const Napi::Object& object) {
  engine::StepInputs step;
  take_step(object.Get("scalars"), "scalars", step.scalars, sizeof step.scalars);
  take_step(object.Get("integers"), "integers", step.integers, sizeof step.integers);
  return step;
}

std::vector<engine::PlayEntry> play_entries(const Napi::Value& value) {
  std::vector<engine::PlayEntry> entries;
  each(value, "entries", [&](const Napi::Value& item) {
    const auto object = object_of(item, "play entry");
    engine::PlayEntry entry{text_member(object, "program"), {}, step_inputs(object)};
    const Napi::Value inputs = object.Get("inputs");
    if (!inputs.IsUndefined()) {
      const auto by_name = object_of(inputs, "inputs");
      each(by_name.GetPropertyNames(), "inputs", [&](const Napi::Value& key) {
        const std::string name = key.As<Napi::String>().Utf8Value();
        entry.inputs.push_back({name, copy_bytes(by_name.Get(name), name.c_str())});
      });
    }
    entries.push_back(std::move(entry));
  });
  return entries;
}

std::vector<engine::FileRows> file_rows(const Napi::Value& value) {
  std::vector<engine::FileRows> rows;
  each(value, "entries", [&](const Napi::Value& item) {
    const auto object = object_of(item, "file entry");
    engine::FileRows r;
    r.name = text_member(object, "name");
    r.tensor = text_member(object, "tensor");
    if (object.Get("rowStart").IsNumber()) r.row_start = object.Get("rowStart").As<Napi::Number>().Int64Value();
    if (object.Get("rows").IsNumber()) r.rows = object.Get("rows").As<Napi::Number>().Int64Value();
    if (object.Get("shape").IsArray())
      each(object.Get("shape"), "shape", [&](const Napi::Value& n) { r.shape.push_back(n.ToNumber().Int64Value()); });
    rows.push_back(std::move(r));
  });
  return rows;
}

std::map<std::string, std::string> text_map(const Napi::Value& value) {
  std::map<std::string, std::string> map;
  if (value.IsUndefined()) return map;
  const auto object = object_of(value, "metadata");
  for (const auto& key : texts(object.GetPropertyNames())) map[key] = text_member(object, key.c_str());
  return map;
}

std::vector<std::string> texts(const Napi::Value& value) {
  std::vector<std::string> out;
  each(value, "names", [&](const Napi::Value& item) { out.push_back(item.ToString().Utf8Value()); });
  return out;
}

Napi::Error js_error(Napi::Env env, const std::string& code, const std::string& message) {
  Napi::Error error = Napi::Error::New(env, message);
  error.Set("code", Napi::String::New(env, code));
  return error;
}

}  // namespace thalweg::binding
