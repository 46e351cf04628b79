#pragma once
#include <napi.h>

namespace thalweg::binding {

/** jsonTexts(lines, field, longest, out): see text::json_texts; synchronous, about a GB/s. */
Napi::Value json_texts_of(const Napi::CallbackInfo& info);

}  // namespace thalweg::binding
