import type { WordRule } from "../../native/addon.ts";
import { metaspace } from "./decoders.ts";
import type { JsonNode } from "./json_reader.ts";
import { spaceMark, type TextForm } from "./text_form.ts";

/**
 * The regular expressions of Split pre-tokenizers that are played natively (`WordRule` of native/text/words.h), letter for
 * letter as they stand in the files of GPT-2, GPT-4 and Llama 3, Qwen 2, GPT-4o and Llama 4.
 */
export const splitPatterns: Readonly<Record<Exclude<WordRule, "none">, string>> = {
  gpt2: String.raw`'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`,
  cl100k: String.raw`(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`,
  qwen2: String.raw`(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`,
  o200k: [
    String.raw`[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?`,
    String.raw`[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?`,
    String.raw`\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+`,
  ].join("|"),
};

/** ByteLevel, ByteLevel after a Split by a known pattern, or Metaspace. */
export function readPreTokenizer(parts: readonly JsonNode[], form: TextForm): void {
  const [first, second, third] = parts;
  if (first === undefined) return;
  const type = first.at("type").string();
  if (type === "Split") {
    form.words = readSplit(first);
    if (second?.at("type").value !== "ByteLevel") first.refuse("is a Split without a ByteLevel behind it");
    readByteLevel(second!, form, true);
    third?.refuse("is a third pre-tokenizer; expected two");
    return;
  }
  second?.refuse("is a second pre-tokenizer; expected one, or a Split and a ByteLevel");
  if (type === "ByteLevel") readByteLevel(first, form, false);
  else if (type === "Metaspace") readMetaspace(first, form);
  else first.at("type").refuse(`${JSON.stringify(type)} is not supported; known are ByteLevel, Split and Metaspace`);
}

/** The known patterns leave nothing between their matches, so that these are the words either way round. */
function readSplit(part: JsonNode): WordRule {
  const pattern = part.only("type", "pattern", "behavior", "invert").at("pattern").only("Regex").at("Regex");
  const found = Object.entries(splitPatterns).find(([, known]) => known === pattern.string());
  if (!found) {
    const names = "GPT-2, GPT-4 and Llama 3 (cl100k), Qwen 2, GPT-4o and Llama 4 (o200k)";
    return pattern.refuse(`is ${JSON.stringify(pattern.value)}; known are the expressions of ${names}`);
  }
  const behavior = part.at("behavior");
  const invert = part.at("invert").boolean();
  if (behavior.string() !== "Isolated" && !(behavior.value === "Removed" && invert))
    behavior.refuse(`is "${behavior.value}", expected "Isolated", or "Removed" with invert`);
  return found[0] as WordRule;
}

function readByteLevel(part: JsonNode, form: TextForm, split: boolean): void {
  part.only("type", "add_prefix_space", "trim_offsets", "use_regex");
  const regex = part.at("use_regex");
  const own = regex.missing || regex.boolean();
  form.byteLevel = true;
  if (form.marks) part.refuse(`is ByteLevel after a normalizer that writes "${spaceMark}"`);
  if (split && own) regex.refuse("would split a second time; expected false");
  if (own) form.words = "gpt2";
  const prefix = part.at("add_prefix_space");
  if (!prefix.boolean()) return;
  if (split) prefix.refuse("would put a space before each word; expected false");
  form.prefix = "missing-space";
}

function readMetaspace(part: JsonNode, form: TextForm): void {
  const { mark, scheme, split } = metaspace(part);
  if (mark !== spaceMark) part.at("replacement").refuse(`is ${JSON.stringify(mark)}, expected "${spaceMark}"`);
  if (form.prefix !== "none" && scheme !== "never") part.refuse("puts a mark before the text a second time");
  form.metaspace = true;
  form.marks = true;
  form.splitSpaces = split;
  if (scheme !== "never") form.prefix = scheme === "first" ? "first" : "missing-space";
}
