import { endOfText } from "./tokenizer.ts";

/**
 * GPT-2's printable alphabet for bytes (Radford et al. 2019, `bytes_to_unicode`): printable Latin-1 stands for itself,
 * the other 68 bytes become U+0100 and on, in byte order.
 */
export const byteAlphabet: readonly string[] = (() => {
  let next = 0x100;
  return Array.from({ length: 256 }, (_, byte) => {
    const printable = (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
    return String.fromCodePoint(printable ? byte : next++);
  });
})();

const byteOfSymbol = new Map(byteAlphabet.map((symbol, byte) => [symbol, byte]));

/** Bytes, one character (U+0000..U+00FF) each, as the printable symbols of a tokenizer.json. */
export function toSymbols(latin1: string): string {
  let symbols = "";
  for (let i = 0; i < latin1.length; i++) symbols += byteAlphabet[latin1.charCodeAt(i)];
  return symbols;
}

/** The inverse of `toSymbols`; null when a symbol stands for no byte. */
export function fromSymbols(symbols: string): string | null {
  let latin1 = "";
  for (const symbol of symbols) {
    const byte = byteOfSymbol.get(symbol);
    if (byte === undefined) return null;
    latin1 += String.fromCharCode(byte);
  }
  return latin1;
}

/** A byte-level BPE tokenizer whose words are GPT-2's. */
export interface ByteLevelTokens {
  /** Bytes of each token (one character U+0000..U+00FF each) in id order. */
  readonly tokens: readonly string[];
  /** Left, right and merged id of each merge, in order of priority. */
  readonly merges: Uint32Array;
  /** A word that is a token is that token, whether merging makes it or not. */
  readonly wholeWords: boolean;
  /** The id of <|endoftext|>. */
  readonly eos: number;
}

/** The files of a tokenizer for transformers. */
export function huggingFaceFiles({ tokens, merges, wholeWords, eos }: ByteLevelTokens) {
  const byteLevel = { type: "ByteLevel", add_prefix_space: false, trim_offsets: true, use_regex: true };
  const vocab: Record<string, number> = {};
  const symbols = tokens.map(toSymbols);
  for (const [id, symbol] of symbols.entries()) vocab[symbol] = id;
  const pairs: string[] = [];
  for (let i = 0; i < merges.length; i += 3) pairs.push(`${symbols[merges[i]!]} ${symbols[merges[i + 1]!]}`);
  const special = {
    content: endOfText,
    single_word: false,
    lstrip: false,
    rstrip: false,
    normalized: false,
    special: true,
  };
  const tokenizer = {
    version: "1.0",
    truncation: null,
    padding: null,
    added_tokens: [{ id: eos, ...special }],
    normalizer: null,
    pre_tokenizer: byteLevel,
    post_processor: null,
    decoder: byteLevel,
    model: {
      type: "BPE",
      dropout: null,
      unk_token: null,
      continuing_subword_prefix: null,
      end_of_word_suffix: null,
      fuse_unk: false,
      byte_fallback: false,
      ignore_merges: wholeWords,
      vocab,
      merges: pairs,
    },
  };
  const config = {
    tokenizer_class: "PreTrainedTokenizerFast",
    bos_token: endOfText,
    eos_token: endOfText,
    add_prefix_space: false,
    clean_up_tokenization_spaces: false,
  };
  return {
    "tokenizer.json": `${JSON.stringify(tokenizer, null, 1)}\n`,
    "tokenizer_config.json": `${JSON.stringify(config, null, 2)}\n`,
  };
}
