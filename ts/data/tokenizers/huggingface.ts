import { createHash } from "node:crypto";
import type { NativeTokenizer } from "../../native/addon.ts";
import { fromSymbols } from "./byte_level.ts";
import { fallbackToken } from "./json_model.ts";
import { nativeTokenizer, type TokenizerOptions } from "./native.ts";
import { spaceMark } from "./text_form.ts";
import type { TokenBatch, Tokenizer } from "./tokenizer.ts";
import type { AddedToken, TokenizerForm } from "./tokenizer_json.ts";

/** A tokenizer.json as it was read, and what lay beside it. */
export interface TokenizerFiles {
  readonly json: string;
  /** tokenizer_config.json, or null. */
  readonly config: string | null;
}

/** A tokenizer read from a tokenizer.json: the ids Hugging Face tokenizers give without special tokens added. */
export class HuggingFaceTokenizer implements Tokenizer {
  readonly name = "bpe";
  readonly vocabSize: number;
  readonly eos: number | null;
  readonly hash: string;
  private readonly source: TokenizerFiles;
  private readonly strings: (string | undefined)[];
  private readonly added: readonly AddedToken[];
  private readonly toText: (tokens: string[]) => string;
  private readonly native: NativeTokenizer;

  constructor(form: TokenizerForm, source: TokenizerFiles, options: TokenizerOptions = {}) {
    const { model, added } = form;
    this.source = source;
    this.added = added;
    this.toText = form.decode;
    this.strings = [...model.tokens];
    for (const token of added) this.strings[token.id] = token.written;
    this.vocabSize = this.strings.length;
    this.eos = findEos(form, source.config);
    const canonical = JSON.stringify(JSON.parse(source.json));
    this.hash = createHash("sha256").update(`thalweg tokenizer.json 1 eos ${this.eos}\n${canonical}`).digest("hex");
    const { nfc, prefix, words, splitSpaces } = form;
    this.native = nativeTokenizer(
      {
        pieces: Array.from(model.tokens, (token) =>
          Buffer.from(token === undefined ? "" : pieceOf(token, form), "latin1"),
        ),
        merges: model.merges,
        bytes: model.bytes,
        wholeWords: model.ignoreMerges,
        characters: !form.byteLevel,
        markIsSpace: form.marks,
        ...{ nfc, prefix, words, splitSpaces, added },
      },
      options,
    );
  }

  encode(text: string): Int32Array {
    return this.native.encode(Buffer.from(text, "utf8"));
  }

  encodeBatch(texts: readonly Uint8Array[]): Promise<TokenBatch> {
    return this.native.encodeBatch(texts);
  }

  decode(ids: Iterable<number>): string {
    // Ids that are no token are the padding of a model's vocabulary: an untrained model may sample them.
    return this.toText(Array.from(ids, (id) => this.strings[id] ?? "\ufffd"));
  }

  files(): Record<string, string> {
    const { json, config } = this.source;
    const eos = this.eos === null ? {} : { eos_token: this.added.find((token) => token.id === this.eos)!.content };
    const made = { tokenizer_class: "PreTrainedTokenizerFast", ...eos, clean_up_tokenization_spaces: false };
    return { "tokenizer.json": json, "tokenizer_config.json": config ?? `${JSON.stringify(made, null, 2)}\n` };
  }
}

const byteTokens = new Set(Array.from({ length: 256 }, (_, byte) => fallbackToken(byte)));

/** The bytes (latin1) that merge to a token; empty when none do. */
function pieceOf(token: string, form: TokenizerForm): string {
  if (form.byteLevel) return fromSymbols(token) ?? "";
  if (byteTokens.has(token) || (form.marks && token.includes(" "))) return "";
  return Buffer.from(form.marks ? token.replaceAll(spaceMark, " ") : token, "utf8").toString("latin1");
}

/** The names that end a document where no tokenizer_config.json says it. */
const endNames = ["<|endoftext|>", "</s>", "<|end_of_text|>", "<eos>"];

function findEos(form: TokenizerForm, config: string | null): number | null {
  const idOf = (content: unknown) => form.added.find((token) => token.content === content)?.id ?? null;
  const named = config === null ? undefined : (JSON.parse(config) as { eos_token?: unknown }).eos_token;
  if (named !== undefined && named !== null)
    return idOf(typeof named === "object" ? (named as { content?: unknown }).content : named);
  const special = form.added.filter((token) => token.special).map((token) => token.content);
  return idOf(endNames.find((name) => special.includes(name)));
}
