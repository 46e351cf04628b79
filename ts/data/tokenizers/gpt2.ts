import { createHash } from "node:crypto";
import { ThalwegError } from "../../base/errors.ts";
import type { NativeTokenizer } from "../../native/addon.ts";
import { huggingFaceFiles } from "./byte_level.ts";
import { nativeTokenizer, type TokenizerOptions } from "./native.ts";
import { endOfText, type TokenBatch, type Tokenizer } from "./tokenizer.ts";

/** GPT-2's vocabulary without <|endoftext|>. */
const gpt2Tokens = 50256;

/**
 * Byte-level BPE over GPT-2's words (Radford et al. 2019), id = rank; <|endoftext|> follows the last rank. The words are
 * split by Unicode's White_Space, as in the engines GPT-2 was written for (Python's regex, Rust): JavaScript's own \s
 * differs from it at U+0085 and U+FEFF.
 */
export class RankedTokenizer implements Tokenizer {
  readonly name: string;
  readonly vocabSize: number;
  readonly eos: number;
  readonly hash: string;
  private readonly tokens: readonly string[];
  private readonly native: NativeTokenizer;

  /**
   * @param tokens bytes of each token (one character U+0000..U+00FF each), in rank order
   * @throws ThalwegError BAD_INPUT when a byte has no token
   */
  constructor(tokens: readonly string[], options: TokenizerOptions = {}) {
    this.name = tokens.length === gpt2Tokens ? "gpt2" : "bpe";
    const ids = new Map(tokens.map((token, id) => [token, id]));
    const bytes = Uint32Array.from({ length: 256 }, (_, byte) => {
      const id = ids.get(String.fromCharCode(byte));
      if (id === undefined) throw new ThalwegError("BAD_INPUT", `the tokenizer has no token for the byte ${byte}`);
      return id;
    });
    this.tokens = tokens;
    this.eos = tokens.length;
    this.vocabSize = tokens.length + 1;
    const hash = createHash("sha256").update("thalweg gpt2 1\n");
    hash.update(Buffer.from(tokens.map((token) => `${token.length}:${token}`).join(""), "latin1"));
    this.hash = hash.digest("hex");
    const pieces = tokens.map((token) => Buffer.from(token, "latin1"));
    const special = {
      content: endOfText,
      id: this.eos,
      special: true,
      normalized: false,
      lstrip: false,
      rstrip: false,
    };
    this.native = nativeTokenizer({ pieces, bytes, ranks: true, words: "gpt2", added: [special] }, options);
  }

  encode(text: string): Int32Array {
    return this.native.encode(Buffer.from(text, "utf8"));
  }

  encodeBatch(texts: readonly Uint8Array[]): Promise<TokenBatch> {
    return this.native.encodeBatch(texts);
  }

  decode(ids: Iterable<number>): string {
    const pieces: Buffer[] = [];
    for (const id of ids) {
      const bytes = this.tokens[id];
      // Ids above <|endoftext|> are the padding of a model's vocabulary: an untrained model may sample them.
      if (bytes !== undefined) pieces.push(Buffer.from(bytes, "latin1"));
      else pieces.push(Buffer.from(id === this.eos ? endOfText : "\ufffd", "utf8"));
    }
    return Buffer.concat(pieces).toString("utf8");
  }

  /** Left, right and merged id of each merge, in order of priority. */
  merges(): Uint32Array {
    return this.native.merges();
  }

  /** Some tokens cannot be made by merging, only looked up as whole words. */
  get wholeWords(): boolean {
    return this.merges().length / 3 !== this.tokens.length - 256;
  }

  files(): Record<string, string> {
    const { tokens, wholeWords, eos } = this;
    return huggingFaceFiles({ tokens, merges: this.merges(), wholeWords, eos });
  }
}

/**
 * Tokens of a ranks file in tiktoken's form: a line `base64 rank` per token, ranks 0, 1, 2, ...
 * @throws ThalwegError BAD_INPUT with file and line
 */
export function parseRanks(text: string, file: string): string[] {
  const tokens: string[] = [];
  for (const [number, line] of text.split("\n").entries()) {
    if (line.trim() === "") continue;
    const match = /^([A-Za-z0-9+/]+=*) (\d+)\r?$/.exec(line);
    if (!match || Number(match[2]) !== tokens.length) {
      const found = line.length > 60 ? `${line.slice(0, 60)}...` : line;
      throw new ThalwegError(
        "BAD_INPUT",
        `${file}:${number + 1}: found "${found}", expected "<base64> ${tokens.length}" (tiktoken ranks, in order)`,
      );
    }
    tokens.push(Buffer.from(match[1]!, "base64").toString("latin1"));
  }
  return tokens;
}
