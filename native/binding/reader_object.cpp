#include "native/binding/reader_object.h"

#include "native/binding/convert.h"
#include "native/text/token_rows.h"

namespace thalweg::binding {

namespace {

/** Numbers of a run: descriptor, byte offset, tokens, bytes of a token, place in the rows. */
constexpr size_t kNumbers = 5;

std::vector<text::TokenRun> runs_of(const Bytes& bytes, uint64_t room) {
  if (bytes.size % (kNumbers * sizeof(double)) != 0) fail("BAD_INPUT", "runs are not of ", kNumbers, " numbers");
  std::vector<double> numbers(bytes.size / sizeof(double));
  if (!numbers.empty()) std::memcpy(numbers.data(), bytes.data, bytes.size);
  std::vector<text::TokenRun> runs;
  for (size_t i = 0; i < numbers.size(); i += kNumbers) {
    for (size_t k = 0; k < kNumbers; k++)
      if (!(numbers[i + k] >= 0 && numbers[i + k] < 0x1p53)) fail("BAD_INPUT", "a run has the number ", numbers[i + k]);
    const auto at = static_cast<uint64_t>(numbers[i + 4]);
    if (numbers[i + 2] > static_cast<double>(room) || at + static_cast<uint64_t>(numbers[i + 2]) > room)
      fail("BAD_INPUT", "a run goes beyond the ", room, " tokens of the rows");
    if (numbers[i + 3] != 2 && numbers[i + 3] != 4) fail("BAD_INPUT", "a token has ", numbers[i + 3], " bytes");
    runs.push_back({static_cast<int>(numbers[i]), static_cast<uint64_t>(numbers[i + 1]),
                    static_cast<uint32_t>(numbers[i + 2]), static_cast<uint32_t>(numbers[i + 3]), at});
  }
  return runs;
}

}  // namespace

Napi::Function ReaderObject::define(Napi::Env env) {
  return DefineClass(env, "NativeReader", {InstanceMethod<&ReaderObject::read>("read")});
}

ReaderObject::ReaderObject(const Napi::CallbackInfo& info) : Napi::ObjectWrap<ReaderObject>(info) {
  guarded(info.Env(), [&] {
    requests_ = std::make_unique<Requests>(info.Env());
    requests_->on_busy = [this](bool busy) { busy ? Ref() : Unref(); };
  });
}

Napi::Value ReaderObject::read(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const auto length = static_cast<size_t>(std::max<int64_t>(1, info[1].ToNumber().Int64Value()));
    const Bytes tokens = bytes_of(info[2], "tokens"), targets = bytes_of(info[3], "targets");
    const size_t rows = std::min(tokens.size, targets.size) / sizeof(int32_t) / length;
    auto request = std::make_unique<Request>(info.Env());
    request->keep.push_back(Napi::Persistent(info[2].As<Napi::Object>()));
    request->keep.push_back(Napi::Persistent(info[3].As<Napi::Object>()));
    auto done = std::make_shared<size_t>(0);
    request->work = [runs = runs_of(bytes_of(info[0], "runs"), rows * (length + 1)), length, tokens, targets,
                     done](const engine::Cancel&) {
      *done = text::read_token_rows(runs, length, reinterpret_cast<int32_t*>(tokens.data),
                                    reinterpret_cast<int32_t*>(targets.data));
    };
    request->result = [done](Napi::Env env) -> Napi::Value {
      return Napi::Number::New(env, static_cast<double>(*done));
    };
    return requests_->send(std::move(request), requests_->device);
  });
}

}  // namespace thalweg::binding
