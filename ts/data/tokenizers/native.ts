import { addon, type NativeTokenizer, type NativeTokenizerSpec } from "../../native/addon.ts";

/** How a tokenizer is used, not what it is. */
export interface TokenizerOptions {
  /** Threads that encode batches; 0, the default, for every CPU this process may use. */
  readonly threads?: number;
  /**
   * What <|endoftext|> and the like mean in a text: its characters ("text", the default: a text from anywhere cannot end
   * a document), or the token ("match", the default of Hugging Face tokenizers).
   */
  readonly specialTokens?: "text" | "match";
}

/** Tables of `NativeTokenizerSpec` that most tokenizers leave alone. */
const plain = {
  merges: new Uint32Array(),
  ranks: false,
  wholeWords: false,
  characters: false,
  words: "none",
  splitSpaces: false,
  markIsSpace: false,
  nfc: false,
  prefix: "none",
  added: [],
} as const;

type Tables = Partial<NativeTokenizerSpec> & {
  /** Bytes of each token in id order; empty: no text becomes this token by merging. */
  readonly pieces: readonly Uint8Array[];
  readonly bytes: Uint32Array;
};

/** @throws an Error with code BAD_INPUT for tables that contradict each other */
export function nativeTokenizer({ pieces, ...tables }: Tables, options: TokenizerOptions): NativeTokenizer {
  const tokenOffsets = new Uint32Array(pieces.length + 1);
  for (const [i, piece] of pieces.entries()) tokenOffsets[i + 1] = tokenOffsets[i]! + piece.length;
  const spec: NativeTokenizerSpec = {
    ...plain,
    ...tables,
    tokens: Buffer.concat(pieces),
    tokenOffsets,
    matchSpecial: options.specialTokens === "match",
  };
  return new (addon().NativeTokenizer)(spec, options.threads ?? 0);
}
