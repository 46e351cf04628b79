import { existsSync, readdirSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { ThalwegError } from "../base/errors.ts";

/** What crosses into C++: see native/binding. Only ts/engine (and ts/data, for text) call it. */
export interface NativeEngine {
  info(): Record<string, unknown>;
  load(layout: ArrayBuffer, programs: ArrayBuffer[]): Promise<number>;
  attach(module: number, programs: ArrayBuffer[]): Promise<void>;
  play(module: number, entries: unknown[], profile: boolean, request: number): Promise<unknown>;
  cancel(request: number): void;
  write(module: number, tensor: string, data: ArrayBufferView): Promise<void>;
  read(module: number, tensor: string, into: ArrayBufferView): Promise<void>;
  initialize(module: number, tensor: string, spec: Record<string, unknown>): Promise<void>;
  refresh(module: number): Promise<void>;
  snapshot(module: number, tensors: string[]): Promise<object>;
  writeFile(snapshot: object, path: string, entries: unknown[], metadata: Record<string, string>): Promise<number>;
  dropSnapshot(snapshot: object): void;
  loadFile(module: number, path: string, entries: unknown[]): Promise<void>;
  dropModule(module: number): Promise<void>;
  runOp(call: Record<string, unknown>): Promise<number[]>;
  freeDevice(): Promise<void>;
  finishFiles(): Promise<void>;
  close(): void;
}

/** `WordRule` of native/text/words.h: the regular expression that cuts texts into words. */
export type WordRule = "none" | "gpt2" | "cl100k" | "qwen2" | "o200k";

/** The tables that decide a tokenizer's ids: `TokenizerSpec` of native/text/tokenizer.h, field by field. */
export interface NativeTokenizerSpec {
  /** Bytes of all tokens; token i is tokens[tokenOffsets[i]] up to tokens[tokenOffsets[i + 1]]. */
  tokens: Uint8Array;
  tokenOffsets: Uint32Array;
  /** Left, right and merged id of each merge, in order of priority. */
  merges: Uint32Array;
  /** Id of each byte; 2^32 - 1 for a byte that UTF-8 does not have and that has no token. */
  bytes: Uint32Array;
  ranks: boolean;
  wholeWords: boolean;
  characters: boolean;
  words: WordRule;
  splitSpaces: boolean;
  markIsSpace: boolean;
  nfc: boolean;
  prefix: "none" | "space" | "missing-space" | "first";
  added: readonly {
    content: string;
    id: number;
    normalized: boolean;
    special: boolean;
    lstrip: boolean;
    rstrip: boolean;
  }[];
  matchSpecial: boolean;
}

/** native/text: batches are encoded in turn, on threads of its own (0: every CPU allowed). */
export interface NativeTokenizer {
  encode(text: Uint8Array): Int32Array;
  encodeBatch(texts: readonly Uint8Array[]): Promise<{ ids: Uint16Array | Uint32Array; offsets: Uint32Array }>;
  merges(): Uint32Array;
}

/** Learns a byte-level BPE vocabulary from GPT-2's words. */
export interface NativeTrainer {
  /** Counts the words of texts. */
  add(texts: readonly Uint8Array[]): Promise<void>;
  /** Left, right and merged id of each merge, until there are so many new tokens or no pair occurs `least` times. */
  learn(tokens: number, least: number): Promise<Uint32Array>;
  /** Tokens learned so far. */
  learned(): number;
}

/** native/text/token_rows.h: reads tokens of open files into sequences and targets, on a thread of its own. */
export interface NativeReader {
  /**
   * @param runs five numbers each: descriptor, byte offset, tokens, bytes of a token (2 or 4), place among rows of
   * length + 1 tokens
   * @returns how many runs were read; fewer than all when a file ended or could not be read
   */
  read(runs: Float64Array, length: number, tokens: Int32Array, targets: Int32Array): Promise<number>;
  /**
   * For each token of rows of `length` the position in its row where its document begins.
   * @param runs six numbers each: descriptor, byte offset of a shard's document index, documents in it, tokens of the shard
   * before the run, tokens of the run, place among the rows
   * @returns how many runs were read, fewer than all when an index cannot be read or is out of order; and the squared lengths of
   * the pieces of documents in the rows, summed
   */
  readStarts(runs: Float64Array, length: number, starts: Int32Array): Promise<{ runs: number; squares: number }>;
}

/** What stands in one field of .jsonl lines: `JsonTexts` of native/text/json_lines.h. */
export interface JsonTexts {
  /** Bytes up to and with the end of each line. */
  ends: Uint32Array;
  /** Of each line: 0 a text, 1 a blank text, 2 to be looked at. */
  kinds: Uint8Array;
  /** Text i is out[offsets[i]] up to out[offsets[i + 1]]. */
  offsets: Uint32Array;
}

export interface Addon {
  /** The kinds of device this build has: cpu, cuda or simt. */
  deviceKinds: string[];
  NativeEngine: new (device: string, threads: number) => NativeEngine;
  NativeTokenizer: new (spec: NativeTokenizerSpec, threads: number) => NativeTokenizer;
  /** @param bytes id of each byte, a permutation of 0..255 */
  NativeTrainer: new (
    bytes: Uint32Array,
    threads: number,
  ) => NativeTrainer;
  NativeReader: new () => NativeReader;
  /** Where words end in well-formed UTF-8, in bytes. */
  wordEnds(text: Uint8Array, rule: WordRule): Uint32Array;
  /** Texts in `field` of lines, none longer than `longest`, written to `out`, which has room for as much as the lines. */
  jsonTexts(lines: Uint8Array, field: Uint8Array, longest: number, out: Uint8Array): JsonTexts;
  /** Version of Unicode that words and normalization follow. */
  unicodeVersion: string;
  cpuFeatures(): { path: string; best: string; cpus: number };
  planMemory(
    layout: ArrayBuffer,
    programs: ArrayBuffer[],
    device: string,
    threads: number,
  ): Record<string, number | boolean>;
  /** Lengths of `scalars` and `integers` of a play entry. */
  scalarCount: number;
  integerCount: number;
}

/** The package's root: two floors up both in the sources (ts/native) and in the built package (dist/native). */
const root = join(import.meta.dirname, "..", "..");
const require = createRequire(import.meta.url);
let loaded: Addon | undefined;

/** The native engine, loaded at first use. THALWEG_NATIVE=/path/to/thalweg.node takes that one and no other. */
export function addon(): Addon {
  if (loaded) return loaded;
  const forced = process.env.THALWEG_NATIVE;
  try {
    loaded = (forced ? require(forced) : require("node-gyp-build")(root)) as Addon;
    return loaded;
  } catch (cause) {
    throw new ThalwegError("NO_ADDON", explain(cause, forced), { cause });
  }
}

function glibc(): string {
  const header = (process.report?.getReport() as { header?: { glibcVersionRuntime?: string } } | undefined)?.header;
  return header?.glibcVersionRuntime ? `glibc ${header.glibcVersionRuntime}` : "no glibc (musl?)";
}

/** What was searched, what is here, what is needed, what to do: the message of NO_ADDON. */
function explain(cause: unknown, forced: string | undefined): string {
  const reason = (cause as { message?: string } | null)?.message?.split("\n")[0] ?? String(cause);
  const prebuilds = join(root, "prebuilds");
  const shipped = existsSync(prebuilds) ? readdirSync(prebuilds).join(", ") : "none";
  const searched = forced
    ? `  searched: ${forced} (THALWEG_NATIVE)`
    : `  searched: ${join(root, "build/Release")}, ${join(prebuilds, `${process.platform}-${process.arch}`)}`;
  return `Could not load the native engine of thalweg for ${process.platform}-${process.arch}.
${searched}
  reason:   ${reason}
  found:    node ${process.versions.node} (${process.arch}), ${glibc()}; prebuilt binaries for: ${shipped}
  needed:   node >= 20.19 on linux-x64 with glibc >= 2.34 (Ubuntu 22.04, Debian 12, RHEL 9), or a local build
Possible solutions:
  1. In a checkout: run \`npm ci && npm run build\` (needs CMake >= 3.22 and g++ >= 12).
  2. In a project: reinstall with \`npm install thalweg\`, on the machine and with the node that will run it.
  3. Point THALWEG_NATIVE at a thalweg.node built for this machine.`;
}
