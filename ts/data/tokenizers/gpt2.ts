import { createHash } from "node:crypto";
import { ThalwegError } from "../../base/errors.ts";
import { RankedMerges } from "./bpe.ts";
import { fromSymbols, huggingFaceFiles } from "./byte_level.ts";
import { endOfText, joinBatch, type TokenBatch, type Tokenizer } from "./tokenizer.ts";

/**
 * GPT-2's words. The original is written for engines where \s is the Unicode property White_Space (Python's regex, Rust);
 * JavaScript's own \s differs from it at U+0085 and U+FEFF, so the property is spelled out.
 */
const words =
  /'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\p{White_Space}\p{L}\p{N}]+|\p{White_Space}+(?!\P{White_Space})|\p{White_Space}+/gu;

const decoder = new TextDecoder("utf-8", { ignoreBOM: true });

const cachedWords = 1 << 17;
const longestCachedWord = 64;

/** Byte-level BPE (Radford et al. 2019) over ranked tokens; <|endoftext|> follows the last rank. */
export class Gpt2Tokenizer implements Tokenizer {
  readonly name: string;
  readonly vocabSize: number;
  readonly eos: number;
  readonly hash: string;
  private readonly merges: RankedMerges;
  private readonly cache = new Map<string, number[]>();

  /** @param tokens bytes of each token (one character U+0000..U+00FF each), in rank order */
  constructor(name: string, tokens: readonly string[]) {
    this.name = name;
    this.merges = new RankedMerges(tokens);
    const missing = this.merges.missingByte();
    if (missing >= 0) throw new ThalwegError("BAD_INPUT", `tokenizer ${name} has no token for the byte ${missing}`);
    this.eos = tokens.length;
    this.vocabSize = tokens.length + 1;
    const hash = createHash("sha256").update("thalweg gpt2 1\n");
    hash.update(Buffer.from(tokens.map((token) => `${token.length}:${token}`).join(""), "latin1"));
    this.hash = hash.digest("hex");
  }

  encode(text: string): Int32Array {
    let ids = new Int32Array(Math.max(16, text.length >> 1));
    let count = 0;
    for (const [word] of text.matchAll(words)) {
      const parts = this.encodeWord(word);
      if (count + parts.length > ids.length) {
        const larger = new Int32Array(2 * ids.length + parts.length);
        larger.set(ids);
        ids = larger;
      }
      for (let i = 0; i < parts.length; i++) ids[count++] = parts[i]!;
    }
    return ids.slice(0, count);
  }

  async encodeBatch(texts: readonly Uint8Array[]): Promise<TokenBatch> {
    const encoded = texts.map((text) => this.encode(decoder.decode(text)));
    return joinBatch(encoded, this.vocabSize);
  }

  decode(ids: Iterable<number>): string {
    const pieces: Buffer[] = [];
    for (const id of ids) {
      const bytes = this.merges.tokens[id];
      // Ids above <|endoftext|> are the padding of a model's vocabulary: an untrained model may sample them.
      if (bytes !== undefined) pieces.push(Buffer.from(bytes, "latin1"));
      else pieces.push(Buffer.from(id === this.eos ? endOfText : "\ufffd", "utf8"));
    }
    return Buffer.concat(pieces).toString("utf8");
  }

  files(): Record<string, string> {
    return huggingFaceFiles(this.merges.tokens, this.merges.recoverMerges(), this.eos);
  }

  private encodeWord(word: string): number[] {
    let ids = this.cache.get(word);
    if (ids !== undefined) return ids;
    ids = this.merges.encodeWord(Buffer.from(word, "utf8").toString("latin1"));
    if (word.length > longestCachedWord) return ids;
    if (this.cache.size >= cachedWords) this.cache.clear();
    // matchAll yields slices that keep the whole document alive; a cache key must not.
    this.cache.set(Buffer.from(word, "utf16le").toString("utf16le"), ids);
    return ids;
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

/**
 * Tokens of a tokenizer.json whose merges are in id order, as GPT-2's and those this project writes.
 * @throws ThalwegError BAD_INPUT naming what is not supported
 */
export function parseTokenizerJson(text: string, file: string): string[] {
  const refuse = (found: string): never => {
    throw new ThalwegError("BAD_INPUT", `${file}: ${found}; expected a byte-level BPE in GPT-2's form`);
  };
  let json: TokenizerJson;
  try {
    json = JSON.parse(text) as TokenizerJson;
  } catch (cause) {
    throw new ThalwegError("BAD_INPUT", `${file} is not JSON: ${(cause as Error).message}`, { cause });
  }
  const { model, added_tokens: added } = json;
  if (model?.type !== "BPE" || typeof model.vocab !== "object") refuse(`its model is ${model?.type ?? "missing"}`);
  const pre = json.pre_tokenizer;
  if (pre?.type !== "ByteLevel" || pre.use_regex === false || pre.add_prefix_space === true || json.normalizer)
    refuse("its normalizer or pre-tokenizer is another");
  const tokens: string[] = [];
  for (const [symbols, id] of Object.entries(model!.vocab!)) {
    if (symbols === endOfText) continue;
    tokens[id] = fromSymbols(symbols) ?? refuse(`token ${id} "${symbols}" is not written in the byte alphabet`);
  }
  if (Object.keys(tokens).length !== tokens.length) refuse("its ids have gaps");
  const special = added?.find((token) => token.content === endOfText);
  if (special?.id !== tokens.length) refuse(`${endOfText} has id ${special?.id}, expected ${tokens.length}`);
  checkMergeOrder(model!.merges ?? [], tokens, refuse);
  return tokens;
}

interface TokenizerJson {
  model?: { type?: string; vocab?: Record<string, number>; merges?: (string | [string, string])[] };
  added_tokens?: { id: number; content: string }[];
  pre_tokenizer?: { type?: string; use_regex?: boolean; add_prefix_space?: boolean } | null;
  normalizer?: unknown;
}

function checkMergeOrder(
  merges: (string | [string, string])[],
  tokens: string[],
  refuse: (found: string) => never,
): void {
  const ids = new Map(tokens.map((token, id) => [token, id]));
  let last = -1;
  for (const merge of merges) {
    const pair = typeof merge === "string" ? merge.split(" ") : merge;
    const id = ids.get(fromSymbols(pair.join("")) ?? "");
    if (id === undefined || id <= last) refuse(`merge "${pair.join(" ")}" is out of id order`);
    last = id!;
  }
  if (merges.length !== tokens.filter((token) => token.length > 1).length) refuse("some tokens have no merge");
}
