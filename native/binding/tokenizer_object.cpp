#include "native/binding/tokenizer_object.h"

#include "native/binding/convert.h"
#include "native/text/utf8.h"

namespace thalweg::binding {

namespace {

std::vector<uint32_t> numbers(const Napi::Object& object, const char* name) {
  const Bytes bytes = bytes_of(object.Get(name), name);
  if (bytes.size % 4 != 0) fail("BAD_INPUT", name, " has ", bytes.size, " bytes, expected a multiple of 4");
  std::vector<uint32_t> out(bytes.size / 4);
  if (!out.empty()) std::memcpy(out.data(), bytes.data, bytes.size);
  return out;
}

bool flag(const Napi::Object& object, const char* name) { return object.Get(name).ToBoolean(); }

/** Strings laid one after the other, string i being bytes[offsets[i]] up to bytes[offsets[i + 1]]. */
std::vector<std::string> strings(const Bytes& bytes, const std::vector<uint32_t>& offsets) {
  std::vector<std::string> out;
  for (size_t i = 1; i < offsets.size(); i++) {
    if (offsets[i] < offsets[i - 1] || offsets[i] > bytes.size) fail("BAD_INPUT", "token ", i - 1, " lies outside");
    out.emplace_back(reinterpret_cast<const char*>(bytes.data) + offsets[i - 1], offsets[i] - offsets[i - 1]);
  }
  return out;
}

std::vector<text::AddedToken> added_tokens(const Napi::Value& value) {
  std::vector<text::AddedToken> out;
  const auto array = value.As<Napi::Array>();
  for (uint32_t i = 0; i < array.Length(); i++) {
    const auto object = Napi::Value(array[i]).As<Napi::Object>();
    text::AddedToken token;
    token.content = text_member(object, "content");
    token.id = static_cast<uint32_t>(number_member(object, "id"));
    token.normalized = flag(object, "normalized");
    token.special = flag(object, "special");
    token.lstrip = flag(object, "lstrip");
    token.rstrip = flag(object, "rstrip");
    out.push_back(std::move(token));
  }
  return out;
}

text::Prefix prefix_of(const std::string& name) {
  if (name == "none") return text::Prefix::None;
  if (name == "space") return text::Prefix::Space;
  if (name == "missing-space") return text::Prefix::MissingSpace;
  if (name == "first") return text::Prefix::First;
  fail("BAD_INPUT", "prefix ", name, " is unknown");
}

text::WordRule rule_of(const std::string& name) {
  if (name == "none") return text::WordRule::None;
  if (name == "gpt2") return text::WordRule::Gpt2;
  if (name == "cl100k") return text::WordRule::Cl100k;
  if (name == "qwen2") return text::WordRule::Qwen2;
  if (name == "o200k") return text::WordRule::O200k;
  fail("BAD_INPUT", "words ", name, " are unknown");
}

text::TokenizerSpec spec_of(const Napi::Object& object) {
  text::TokenizerSpec spec;
  spec.tokens = strings(bytes_of(object.Get("tokens"), "tokens"), numbers(object, "tokenOffsets"));
  const std::vector<uint32_t> merges = numbers(object, "merges");
  for (size_t i = 0; i + 2 < merges.size(); i += 3) spec.merges.push_back({merges[i], merges[i + 1], merges[i + 2]});
  const std::vector<uint32_t> bytes = numbers(object, "bytes");
  if (bytes.size() != 256) fail("BAD_INPUT", "there are ", bytes.size(), " byte tokens, expected 256");
  std::copy(bytes.begin(), bytes.end(), spec.bytes.begin());
  spec.ranks = flag(object, "ranks");
  spec.whole_words = flag(object, "wholeWords");
  spec.characters = flag(object, "characters");
  spec.words = rule_of(text_member(object, "words"));
  spec.split_spaces = flag(object, "splitSpaces");
  spec.mark_is_space = flag(object, "markIsSpace");
  spec.nfc = flag(object, "nfc");
  spec.prefix = prefix_of(text_member(object, "prefix"));
  spec.added = added_tokens(object.Get("added"));
  spec.match_special = flag(object, "matchSpecial");
  return spec;
}

template <class Array>
Array typed_array(Napi::Env env, std::unique_ptr<std::byte[]> data, size_t count) {
  using Element = std::remove_pointer_t<decltype(std::declval<Array>().Data())>;
  std::byte* raw = data.release();
  const auto free = [](Napi::Env, void* memory) { delete[] static_cast<std::byte*>(memory); };
  const auto buffer = Napi::ArrayBuffer::New(env, raw, count * sizeof(Element), free);
  return Array::New(env, count, buffer, 0);
}

Napi::Value batch_object(Napi::Env env, text::EncodedBatch& batch) {
  auto out = Napi::Object::New(env);
  const size_t count = batch.offsets.back();
  if (batch.id_bytes == 2)
    out.Set("ids", typed_array<Napi::Uint16Array>(env, std::move(batch.ids), count));
  else
    out.Set("ids", typed_array<Napi::Uint32Array>(env, std::move(batch.ids), count));
  auto offsets = Napi::Uint32Array::New(env, batch.offsets.size());
  std::copy(batch.offsets.begin(), batch.offsets.end(), offsets.Data());
  out.Set("offsets", offsets);
  return out;
}

}  // namespace

std::vector<std::string_view> kept_texts(const Napi::Value& value, Request& request) {
  if (!value.IsArray()) fail("BAD_INPUT", "texts are not an array");
  const auto given = value.As<Napi::Array>();
  // The caller may change its array meanwhile: the texts are kept by one of our own.
  auto kept = Napi::Array::New(value.Env(), given.Length());
  std::vector<std::string_view> texts;
  texts.reserve(given.Length());
  for (uint32_t i = 0; i < given.Length(); i++) {
    const Napi::Value text = given[i];
    const Bytes bytes = bytes_of(text, "a text");
    texts.emplace_back(reinterpret_cast<const char*>(bytes.data), bytes.size);
    kept[i] = text;
  }
  request.keep.push_back(Napi::Persistent(kept.As<Napi::Object>()));
  return texts;
}

Napi::Function TokenizerObject::define(Napi::Env env) {
  return DefineClass(env, "NativeTokenizer",
                     {InstanceMethod<&TokenizerObject::encode>("encode"),
                      InstanceMethod<&TokenizerObject::encode_batch>("encodeBatch"),
                      InstanceMethod<&TokenizerObject::merges>("merges")});
}

TokenizerObject::TokenizerObject(const Napi::CallbackInfo& info) : Napi::ObjectWrap<TokenizerObject>(info) {
  guarded(info.Env(), [&] {
    tokenizer_ = std::make_shared<text::Tokenizer>(spec_of(info[0].As<Napi::Object>()));
    threads_ = info[1].ToNumber().Int32Value();
    requests_ = std::make_unique<Requests>(info.Env());
    requests_->on_busy = [this](bool busy) { busy ? Ref() : Unref(); };
  });
}

Napi::Value TokenizerObject::encode(Info info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const Bytes bytes = bytes_of(info[0], "text");
    if (!encoder_) encoder_ = std::make_unique<text::Encoder>(*tokenizer_);
    text::IdBuffer ids;
    encoder_->encode({reinterpret_cast<const char*>(bytes.data), bytes.size}, false, ids);
    auto out = Napi::Int32Array::New(info.Env(), ids.size());
    std::copy(ids.data(), ids.data() + ids.size(), out.Data());
    return out;
  });
}

Napi::Value TokenizerObject::encode_batch(Info info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    auto request = std::make_unique<Request>(info.Env());
    const std::vector<std::string_view> texts = kept_texts(info[0], *request);
    auto batch = std::make_shared<text::EncodedBatch>();
    request->work = [this, batch, texts](const engine::Cancel& cancel) {
      if (!batch_) batch_ = std::make_unique<text::BatchEncoder>(tokenizer_, threads_);
      *batch = batch_->encode(texts, [&] { cancel.poll(); });
    };
    request->result = [batch](Napi::Env env) { return batch_object(env, *batch); };
    return requests_->send(std::move(request), requests_->device);
  });
}

/** Left, right and merged id of each merge, in order of priority. */
Napi::Value TokenizerObject::merges(Info info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const auto& merges = tokenizer_->merges();
    auto out = Napi::Uint32Array::New(info.Env(), 3 * merges.size());
    for (size_t i = 0; i < merges.size(); i++) std::copy(merges[i].begin(), merges[i].end(), out.Data() + 3 * i);
    return out;
  });
}

Napi::Value word_ends(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const Bytes bytes = bytes_of(info[0], "text");
    const std::string_view text(reinterpret_cast<const char*>(bytes.data), bytes.size);
    if (text::well_formed_prefix(text) != text.size()) fail("BAD_INPUT", "the text is not UTF-8");
    const text::Words words(rule_of(info[1].ToString()));
    std::vector<uint32_t> ends;
    const uint8_t* begin = text::bytes_of(text);
    for (const uint8_t* p = begin; p < begin + text.size();) {
      p = words.word_end(p, begin + text.size());
      ends.push_back(static_cast<uint32_t>(p - begin));
    }
    auto out = Napi::Uint32Array::New(info.Env(), ends.size());
    std::copy(ends.begin(), ends.end(), out.Data());
    return out;
  });
}

}  // namespace thalweg::binding
