#include "native/binding/reader_object.h"

#include "native/binding/convert.h"
#include "native/text/token_rows.h"

namespace thalweg::binding {

namespace {

/** Runs of `each` numbers. */
std::vector<double> numbers_of(const Bytes& bytes, size_t each) {
  if (bytes.size % (each * sizeof(double)) != 0) fail("BAD_INPUT", "runs are not of ", each, " numbers");
  std::vector<double> numbers(bytes.size / sizeof(double));
  if (!numbers.empty()) std::memcpy(numbers.data(), bytes.data, bytes.size);
  for (const double number : numbers)
    if (!(number >= 0 && number < 0x1p53)) fail("BAD_INPUT", "a run has the number ", number);
  return numbers;
}

/** A run: descriptor, byte offset, tokens, bytes of a token, place in the rows. */
std::vector<text::TokenRun> runs_of(const Bytes& bytes, uint64_t room) {
  constexpr size_t kNumbers = 5;
  const std::vector<double> numbers = numbers_of(bytes, kNumbers);
  std::vector<text::TokenRun> runs;
  for (size_t i = 0; i < numbers.size(); i += kNumbers) {
    const auto at = static_cast<uint64_t>(numbers[i + 4]);
    if (numbers[i + 2] > static_cast<double>(room) || at + static_cast<uint64_t>(numbers[i + 2]) > room)
      fail("BAD_INPUT", "a run goes beyond the ", room, " tokens of the rows");
    if (numbers[i + 3] != 2 && numbers[i + 3] != 4) fail("BAD_INPUT", "a token has ", numbers[i + 3], " bytes");
    runs.push_back({static_cast<int>(numbers[i]), static_cast<uint64_t>(numbers[i + 1]),
                    static_cast<uint32_t>(numbers[i + 2]), static_cast<uint32_t>(numbers[i + 3]), at});
  }
  return runs;
}

/** A run: descriptor, byte offset of the index, documents in it, tokens before, tokens, place in the rows. */
std::vector<text::DocumentRun> document_runs_of(const Bytes& bytes, size_t length, uint64_t room) {
  constexpr size_t kNumbers = 6;
  const std::vector<double> numbers = numbers_of(bytes, kNumbers);
  std::vector<text::DocumentRun> runs;
  for (size_t i = 0; i < numbers.size(); i += kNumbers) {
    const auto count = static_cast<uint64_t>(numbers[i + 4]), at = static_cast<uint64_t>(numbers[i + 5]);
    if (at + count > room || at % length + count > length)
      fail("BAD_INPUT", "a run of ", count, " tokens at ", at, " goes beyond its row of ", length, " or the ", room);
    runs.push_back({static_cast<int>(numbers[i]), static_cast<uint64_t>(numbers[i + 1]),
                    static_cast<uint64_t>(numbers[i + 2]), static_cast<uint64_t>(numbers[i + 3]), count, at});
  }
  return runs;
}

size_t length_of(const Napi::Value& value) {
  return static_cast<size_t>(std::max<int64_t>(1, value.ToNumber().Int64Value()));
}

/** Work whose result, a number or several, is made into a JS value by `express(env, result)`. */
template <class Work, class Express>
void answer(Request& request, Work work, Express express) {
  auto found = std::make_shared<decltype(work())>();
  request.work = [found, work = std::move(work)](const engine::Cancel&) { *found = work(); };
  request.result = [found, express](Napi::Env env) -> Napi::Value { return express(env, *found); };
}

Napi::Value number(Napi::Env env, uint64_t value) { return Napi::Number::New(env, static_cast<double>(value)); }

}  // namespace

Napi::Function ReaderObject::define(Napi::Env env) {
  return DefineClass(
      env, "NativeReader",
      {InstanceMethod<&ReaderObject::read>("read"), InstanceMethod<&ReaderObject::read_starts>("readStarts")});
}

ReaderObject::ReaderObject(const Napi::CallbackInfo& info) : Napi::ObjectWrap<ReaderObject>(info) {
  guarded(info.Env(), [&] {
    requests_ = std::make_unique<Requests>(info.Env());
    requests_->on_busy = [this](bool busy) { busy ? Ref() : Unref(); };
  });
}

Napi::Value ReaderObject::read(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const size_t length = length_of(info[1]);
    const Bytes tokens = bytes_of(info[2], "tokens"), targets = bytes_of(info[3], "targets");
    const size_t rows = std::min(tokens.size, targets.size) / sizeof(int32_t) / length;
    auto request = std::make_unique<Request>(info.Env());
    request->keep.push_back(Napi::Persistent(info[2].As<Napi::Object>()));
    request->keep.push_back(Napi::Persistent(info[3].As<Napi::Object>()));
    const auto read = [runs = runs_of(bytes_of(info[0], "runs"), rows * (length + 1)), length, tokens, targets] {
      return text::read_token_rows(runs, length, reinterpret_cast<int32_t*>(tokens.data),
                                   reinterpret_cast<int32_t*>(targets.data));
    };
    answer(*request, read, [](Napi::Env env, size_t runs) { return number(env, runs); });
    return requests_->send(std::move(request), requests_->device);
  });
}

Napi::Value ReaderObject::read_starts(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const size_t length = length_of(info[1]);
    const Bytes starts = bytes_of(info[2], "starts");
    auto request = std::make_unique<Request>(info.Env());
    request->keep.push_back(Napi::Persistent(info[2].As<Napi::Object>()));
    const uint64_t room = starts.size / sizeof(int32_t) / length * length;
    const auto read = [runs = document_runs_of(bytes_of(info[0], "runs"), length, room), length, starts] {
      return text::read_document_starts(runs, length, reinterpret_cast<int32_t*>(starts.data));
    };
    answer(*request, read, [](Napi::Env env, const text::PlacedStarts& placed) {
      auto out = Napi::Object::New(env);
      out.Set("runs", number(env, placed.runs));
      out.Set("squares", number(env, placed.squares));
      return out;
    });
    return requests_->send(std::move(request), requests_->device);
  });
}

}  // namespace thalweg::binding
