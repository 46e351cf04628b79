/** Text to token ids and back. `encode` never reads special tokens out of the text: they are ordinary characters there. */
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
  /** Invalid UTF-8 (a sample may end inside a character) becomes U+FFFD. */
  decode(ids: Iterable<number>): string;
  /** Files to write beside a checkpoint, by name, so that transformers' AutoTokenizer loads the folder. */
  files(): Record<string, string>;
}

export const endOfText = "<|endoftext|>";
