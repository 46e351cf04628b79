#include "native/binding/trainer_object.h"

#include "native/binding/convert.h"
#include "native/binding/tokenizer_object.h"

namespace thalweg::binding {

Napi::Function TrainerObject::define(Napi::Env env) {
  return DefineClass(env, "NativeTrainer",
                     {InstanceMethod<&TrainerObject::add>("add"), InstanceMethod<&TrainerObject::learn>("learn"),
                      InstanceMethod<&TrainerObject::learned>("learned")});
}

TrainerObject::TrainerObject(const Napi::CallbackInfo& info) : Napi::ObjectWrap<TrainerObject>(info) {
  guarded(info.Env(), [&] {
    const Bytes bytes = bytes_of(info[0], "bytes");
    if (bytes.size != sizeof bytes_) fail("BAD_INPUT", "bytes has ", bytes.size, " bytes, expected 1024");
    std::memcpy(bytes_.data(), bytes.data, bytes.size);
    threads_ = info[1].ToNumber().Int32Value();
    requests_ = std::make_unique<Requests>(info.Env());
    requests_->on_busy = [this](bool busy) { busy ? Ref() : Unref(); };
  });
}

Napi::Value TrainerObject::add(Info info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    auto request = std::make_unique<Request>(info.Env());
    const std::vector<std::string_view> texts = kept_texts(info[0], *request);
    request->work = [this, texts](const engine::Cancel& cancel) {
      if (!counter_) counter_ = std::make_unique<text::WordCounter>(threads_);
      counter_->add(texts, [&] { cancel.poll(); });
    };
    return requests_->send(std::move(request), requests_->device);
  });
}

Napi::Value TrainerObject::learn(Info info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    auto request = std::make_unique<Request>(info.Env());
    auto merges = std::make_shared<std::vector<text::Merge>>();
    request->work = [this, merges, tokens = info[0].ToNumber().Uint32Value(),
                     least = info[1].ToNumber().Uint32Value()](const engine::Cancel& cancel) {
      const auto words = counter_ ? counter_->words() : std::vector<text::WordCount>();
      *merges = text::learn_merges(words, bytes_, tokens, least, learned_, [&] { cancel.poll(); });
    };
    request->result = [merges](Napi::Env env) -> Napi::Value {
      auto out = Napi::Uint32Array::New(env, 3 * merges->size());
      for (size_t i = 0; i < merges->size(); i++)
        std::copy((*merges)[i].begin(), (*merges)[i].end(), out.Data() + 3 * i);
      return out;
    };
    return requests_->send(std::move(request), requests_->device);
  });
}

Napi::Value TrainerObject::learned(Info info) { return Napi::Number::New(info.Env(), learned_.load()); }

}  // namespace thalweg::binding
