#include <napi.h>

#include "native/base/cpu_features.h"
#include "native/base/thread_pool.h"
#include "native/binding/convert.h"
#include "native/binding/devices.h"
#include "native/binding/engine_object.h"
#include "native/binding/json_lines.h"
#include "native/binding/reader_object.h"
#include "native/binding/tokenizer_object.h"
#include "native/binding/trainer_object.h"
#include "native/text/unicode_tables.h"

namespace thalweg::binding {

namespace {

Napi::Value cpu_features(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    auto out = Napi::Object::New(info.Env());
    out.Set("path", isa_name(selected_isa()));
    out.Set("best", isa_name(best_isa()));
    out.Set("cpus", available_cpus());
    return out;
  });
}

/** planMemory(layout, programs, device, threads): see engine::MemoryPlan. */
Napi::Value plan_memory_of(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const Bytes bytes = bytes_of(info[0], "layout");
    const engine::Layout layout = engine::decode_layout(bytes.data, bytes.size);
    std::vector<engine::Program> programs;
    const auto encoded = info[1].As<Napi::Array>();
    for (uint32_t i = 0; i < encoded.Length(); i++) {
      const Bytes program = bytes_of(encoded[i], "program");
      programs.push_back(engine::decode_program(program.data, program.size, layout));
    }
    const engine::MemoryPlan plan =
        binding::plan_memory(info[2].ToString(), layout, programs, info[3].ToNumber().Int32Value());
    auto out = Napi::Object::New(info.Env());
    out.Set("workspaceBytes", static_cast<double>(plan.workspace_bytes));
    out.Set("packedBytes", static_cast<double>(plan.packed_bytes));
    out.Set("scratchBytes", static_cast<double>(plan.scratch_bytes));
    out.Set("persistentBytes", static_cast<double>(layout.persistent_bytes));
    out.Set("repeatable", plan.repeatable);
    return out;
  });
}

Napi::Object define(Napi::Env env, Napi::Object exports) {
  exports.Set("NativeEngine", EngineObject::define(env));
  exports.Set("NativeTokenizer", TokenizerObject::define(env));
  exports.Set("NativeTrainer", TrainerObject::define(env));
  exports.Set("NativeReader", ReaderObject::define(env));
  exports.Set("wordEnds", Napi::Function::New<word_ends>(env, "wordEnds"));
  exports.Set("jsonTexts", Napi::Function::New<json_texts_of>(env, "jsonTexts"));
  exports.Set("unicodeVersion", text::kUnicodeVersion);
  exports.Set("cpuFeatures", Napi::Function::New<cpu_features>(env, "cpuFeatures"));
  exports.Set("planMemory", Napi::Function::New<plan_memory_of>(env, "planMemory"));
  auto kinds = Napi::Array::New(env);
  for (const auto& kind : device_kinds()) kinds.Set(kinds.Length(), kind);
  exports.Set("deviceKinds", kinds);
  exports.Set("scalarCount", ops::kScalarCount);
  exports.Set("integerCount", ops::kIntegerCount);
  return exports;
}

}  // namespace

}  // namespace thalweg::binding

static Napi::Object init(Napi::Env env, Napi::Object exports) { return thalweg::binding::define(env, exports); }
NODE_API_MODULE(thalweg, init)
