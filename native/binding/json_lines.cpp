#include "native/binding/json_lines.h"

#include <algorithm>

#include "native/binding/convert.h"
#include "native/text/json_lines.h"

namespace thalweg::binding {

namespace {

std::string_view text_of(const Bytes& bytes) { return {reinterpret_cast<const char*>(bytes.data), bytes.size}; }

template <class Array, class T>
Array copied(Napi::Env env, const std::vector<T>& values) {
  auto out = Array::New(env, values.size());
  std::transform(values.begin(), values.end(), out.Data(),
                 [](T value) { return static_cast<std::remove_pointer_t<decltype(out.Data())>>(value); });
  return out;
}

}  // namespace

Napi::Value json_texts_of(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const Bytes lines = bytes_of(info[0], "lines"), field = bytes_of(info[1], "field"), out = bytes_of(info[3], "out");
    if (lines.size >= 1u << 31) fail("BAD_INPUT", lines.size, " bytes of lines are too many at a time");
    if (out.size < lines.size) fail("BAD_INPUT", "out has ", out.size, " bytes, the lines ", lines.size);
    const auto longest = static_cast<size_t>(std::max<int64_t>(0, info[2].ToNumber().Int64Value()));
    const text::JsonTexts found =
        text::json_texts(text_of(lines), text_of(field), longest, reinterpret_cast<char*>(out.data));
    auto result = Napi::Object::New(info.Env());
    result.Set("ends", copied<Napi::Uint32Array>(info.Env(), found.ends));
    result.Set("kinds", copied<Napi::Uint8Array>(info.Env(), found.kinds));
    result.Set("offsets", copied<Napi::Uint32Array>(info.Env(), found.offsets));
    return result;
  });
}

}  // namespace thalweg::binding
