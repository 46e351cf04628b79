import { byteAlphabet } from "./byte_level.ts";
import { isWellFormed, type JsonNode } from "./json_reader.ts";

/** The model of a tokenizer.json. */
export interface Model {
  readonly vocab: ReadonlyMap<string, number>;
  /** Token strings by id; holes where no token has the id. */
  readonly tokens: readonly (string | undefined)[];
  /** Left, right and merged id of each merge, in order of priority. */
  readonly merges: Uint32Array;
  readonly ignoreMerges: boolean;
  /** Id of each byte; 2^32 - 1 for one without a token, which UTF-8 does not have. */
  readonly bytes: Uint32Array;
}

const noToken = 2 ** 32 - 1;

/** The token of a byte in a vocabulary of characters. */
export const fallbackToken = (byte: number) => `<0x${byte.toString(16).toUpperCase().padStart(2, "0")}>`;

/** A BPE model over bytes (in GPT-2's alphabet) or over characters with byte fallback. */
export function readModel(node: JsonNode, form: { readonly byteLevel: boolean; readonly marks: boolean }): Model {
  const type = node.at("type");
  if (type.value !== "BPE") type.refuse(`is ${JSON.stringify(type.value)}, expected "BPE"`);
  node.only(
    "type",
    "dropout",
    "unk_token",
    "continuing_subword_prefix",
    "end_of_word_suffix",
    "fuse_unk",
    "byte_fallback",
    "ignore_merges",
    "vocab",
    "merges",
  );
  const dropout = node.at("dropout");
  if (!dropout.missing && dropout.value !== 0) dropout.refuse("makes ids random; expected null");
  for (const key of ["continuing_subword_prefix", "end_of_word_suffix"]) {
    const affix = node.at(key);
    if (!affix.missing && affix.value !== "") affix.refuse("is not supported; expected null");
  }
  const { vocab, tokens } = readVocab(node.at("vocab"));
  const bytes = readBytes(node, vocab, form);
  const fallback = node.at("byte_fallback");
  if (!form.byteLevel && (fallback.missing || !fallback.boolean()))
    fallback.refuse("is not true: a character without a token would have no id");
  const ignore = node.at("ignore_merges");
  const merges = readMerges(node.at("merges"), vocab, form.byteLevel ? null : form);
  return { vocab, tokens, merges, bytes, ignoreMerges: !ignore.missing && ignore.boolean() };
}

function readVocab(node: JsonNode): { vocab: Map<string, number>; tokens: (string | undefined)[] } {
  const vocab = new Map<string, number>();
  const tokens: (string | undefined)[] = [];
  for (const [token, id] of Object.entries(node.object())) {
    const valid = Number.isInteger(id) && (id as number) >= 0 && (id as number) < 2 ** 30 && isWellFormed(token);
    if (!valid || tokens[id as number] !== undefined)
      node.at(token).refuse(`is ${JSON.stringify(id)}, expected a whole number of its own`);
    vocab.set(token, id as number);
    tokens[id as number] = token;
  }
  if (tokens.length > 2 * vocab.size + 1024) node.refuse(`has ids up to ${tokens.length} for ${vocab.size} tokens`);
  return { vocab, tokens };
}

function readBytes(node: JsonNode, vocab: ReadonlyMap<string, number>, form: { byteLevel: boolean; marks: boolean }) {
  if (form.marks && !vocab.has("\u2581")) node.at("vocab").refuse('has no token "\u2581", which stands for a space');
  return Uint32Array.from({ length: 256 }, (_, byte) => {
    const token = form.byteLevel ? byteAlphabet[byte]! : fallbackToken(byte);
    const id = vocab.get(token);
    if (id === undefined && isUtf8Byte(byte)) node.at("vocab").refuse(`has no token "${token}" for the byte ${byte}`);
    return id ?? noToken;
  });
}

/** Whether UTF-8 has such a byte; tokenizers trained on text may lack the others. */
const isUtf8Byte = (byte: number) => byte < 0xc0 || (byte > 0xc1 && byte < 0xf5);

/** Merges in either way of writing, "a b" or ["a", "b"]. */
function readMerges(
  node: JsonNode,
  vocab: ReadonlyMap<string, number>,
  characters: { readonly marks: boolean } | null,
): Uint32Array {
  if (!Array.isArray(node.value)) node.refuse("is not an array");
  const list = node.value as unknown[];
  const merges = new Uint32Array(3 * list.length);
  for (const [i, merge] of list.entries()) {
    const refuse = (what: string) => node.items()[i]!.refuse(`${JSON.stringify(merge)} ${what}`);
    const pair = typeof merge === "string" ? merge.split(" ") : merge;
    if (!Array.isArray(pair) || pair.length !== 2 || !pair.every((part) => typeof part === "string" && part !== ""))
      refuse("is not a pair of tokens");
    const [left, right] = pair as [string, string];
    const ids = [left, right, left + right].map((token) => vocab.get(token) ?? refuse(`needs the token "${token}"`));
    if (characters && [left, right, left + right].some((token) => /^<0x[0-9A-F]{2}>$/.test(token)))
      refuse("merges the token of a byte, which is not supported");
    if (characters?.marks && (left + right).includes(" ")) refuse("holds a space, which no text has");
    merges.set(ids, 3 * i);
  }
  return merges;
}
