/** Text to token ids and back. Special tokens are never read out of the text: they are ordinary characters there. */
export interface Tokenizer {
  /** What `loadTokenizer` was asked for, without paths: "bytes", "gpt2", ... */
  readonly name: string;
  /** Ids are in [0, vocabSize); a model may pad its vocabulary beyond. */
  readonly vocabSize: number;
  /** The id that ends a document, or null. */
  readonly eos: number | null;
  /** SHA-256 (hex) of everything that decides the ids: shards and checkpoints carry it. */
  readonly hash: string;
  encode(text: string): Int32Array;
  /**
   * Ids of many texts in UTF-8, made off the event loop. The texts must not change until the promise settles. Bytes that
   * are not UTF-8 count as U+FFFD, as in TextDecoder (a byte-order mark is kept).
   */
  encodeBatch(texts: readonly Uint8Array[]): Promise<TokenBatch>;
  /** Invalid UTF-8 (a sample may end inside a character) becomes U+FFFD. */
  decode(ids: Iterable<number>): string;
  /** Files to write beside a checkpoint, by name, so that transformers' AutoTokenizer loads the folder. */
  files(): Record<string, string>;
}

/** The ids of several texts: text i is ids[offsets[i]] up to ids[offsets[i + 1]]. */
export interface TokenBatch {
  /** uint16 when every id of the tokenizer fits (vocabSize <= 65536), as in the shards. */
  readonly ids: Uint16Array | Uint32Array;
  /** One more than there are texts; begins with 0. */
  readonly offsets: Uint32Array;
}

export const endOfText = "<|endoftext|>";

/** Lays the ids of texts one after the other. */
export function joinBatch(encoded: readonly ArrayLike<number>[], vocabSize: number): TokenBatch {
  const offsets = new Uint32Array(encoded.length + 1);
  for (const [i, ids] of encoded.entries()) offsets[i + 1] = offsets[i]! + ids.length;
  const total = offsets[encoded.length]!;
  const ids = vocabSize <= 65536 ? new Uint16Array(total) : new Uint32Array(total);
  for (const [i, one] of encoded.entries()) ids.set(one, offsets[i]);
  return { ids, offsets };
}
