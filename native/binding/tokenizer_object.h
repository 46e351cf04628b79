#pragma once
#include <napi.h>

#include <memory>

#include "native/binding/requests.h"
#include "native/text/batch.h"

namespace thalweg::binding {

/**
 * The JavaScript face of native/text: a tokenizer with its threads. Batches are encoded in the order asked for, on
 * threads of its own; single texts on the calling thread. ts/data/tokenizers/native.ts is its only caller and documents
 * the methods.
 */
class TokenizerObject : public Napi::ObjectWrap<TokenizerObject> {
 public:
  static Napi::Function define(Napi::Env env);
  /** new NativeTokenizer(spec, threads) */
  explicit TokenizerObject(const Napi::CallbackInfo& info);

 private:
  using Info = const Napi::CallbackInfo&;
  Napi::Value encode(Info info);
  Napi::Value encode_batch(Info info);
  Napi::Value merges(Info info);

  std::shared_ptr<const text::Tokenizer> tokenizer_;
  int threads_ = 0;
  std::unique_ptr<text::Encoder> encoder_;     // JavaScript thread only
  std::unique_ptr<text::BatchEncoder> batch_;  // worker thread only
  std::unique_ptr<Requests> requests_;         // last: its end joins the thread that uses the members above
};

/** The texts of an array of Uint8Arrays, which live as long as the request. */
std::vector<std::string_view> kept_texts(const Napi::Value& value, Request& request);

/** wordEnds(text, rule): where words end in well-formed UTF-8, in bytes; for tests against the regular expressions. */
Napi::Value word_ends(const Napi::CallbackInfo& info);

}  // namespace thalweg::binding
