import { readDecoder } from "./decoders.ts";
import { type Model, readModel } from "./json_model.ts";
import { JsonNode } from "./json_reader.ts";
import { readPreTokenizer } from "./pre_tokenizer.ts";
import { spaceMark, type TextForm } from "./text_form.ts";

export interface AddedToken {
  readonly id: number;
  readonly content: string;
  /** What it decodes to: a token looked for in the normalized text is written so. */
  readonly written: string;
  readonly lstrip: boolean;
  readonly rstrip: boolean;
  readonly normalized: boolean;
  readonly special: boolean;
}

/** A tokenizer.json, understood whole. */
export interface TokenizerForm extends TextForm {
  readonly model: Model;
  /** Special tokens first, as Hugging Face tokenizers keep them. */
  readonly added: readonly AddedToken[];
  readonly decode: (tokens: string[]) => string;
}

/**
 * Reads a tokenizer.json of the GPT-2, GPT-NeoX, Llama 2, Llama 3, Qwen 2 or GPT-4 kind: byte-level BPE over the words of a
 * known expression, or BPE over characters with byte fallback. Post-processors only add special tokens around a text,
 * which data preparation does itself; they are checked and play no part.
 * @throws ThalwegError BAD_INPUT naming the JSON path of anything that is not supported
 */
export function readTokenizerJson(text: string, file: string): TokenizerForm {
  const root = JsonNode.parse(text, file).only(
    "version",
    "truncation",
    "padding",
    "added_tokens",
    "normalizer",
    "pre_tokenizer",
    "post_processor",
    "decoder",
    "model",
  );
  for (const key of ["truncation", "padding"])
    if (!root.at(key).missing) root.at(key).refuse("is set, and would change the ids of a text; expected null");
  const form: TextForm = {
    nfc: false,
    marks: false,
    metaspace: false,
    prefix: "none",
    byteLevel: false,
    words: "none",
    splitSpaces: false,
  };
  readNormalizer(root.at("normalizer"), form);
  const normalize = normalizer(form);
  readPreTokenizer(partsOf(root.at("pre_tokenizer"), "pretokenizers"), form);
  checkPostProcessor(root.at("post_processor"));
  const model = readModel(root.at("model"), form);
  if (model.ignoreMerges && form.words === "none")
    root.at("model").at("ignore_merges").refuse("is true, which is supported for byte-level words only");
  const added = readAddedTokens(root.at("added_tokens"), model.vocab, normalize);
  const unclear = form.metaspace ? added.find((token) => /[ \u2581]/.test(token.content)) : undefined;
  if (unclear) root.at("added_tokens").refuse(`has "${unclear.content}" beside Metaspace, which is not supported`);
  return {
    ...form,
    model,
    added,
    decode: readDecoder(root.at("decoder")),
  };
}

/** The members of a Sequence, or the part itself. */
function partsOf(node: JsonNode, members: string): JsonNode[] {
  if (node.missing) return [];
  if (node.at("type").string() !== "Sequence") return [node];
  return node
    .only("type", members)
    .at(members)
    .items()
    .flatMap((item) => partsOf(item, members));
}

/** NFC, then a mark before the text, then marks for spaces: any of them. */
function readNormalizer(node: JsonNode, form: TextForm): void {
  let prepend: JsonNode | null = null;
  for (const part of partsOf(node, "normalizers")) {
    const type = part.at("type").string();
    if (type === "NFC") {
      if (form.marks || prepend) part.refuse("is NFC after other normalizers; expected before them");
      part.only("type");
      form.nfc = true;
    } else if (type === "Prepend") {
      const mark = part.only("type", "prepend").at("prepend");
      if (mark.string() !== spaceMark || prepend) mark.refuse(`is not one "${spaceMark}"`);
      prepend = part;
      form.prefix = "space";
    } else if (type === "Replace") {
      readMarks(part);
      form.marks = true;
    } else {
      part.at("type").refuse(`${JSON.stringify(type)} is not supported; known are NFC, Prepend, Replace, Sequence`);
    }
  }
  if (prepend && !form.marks) prepend.refuse(`needs a Replace of " " by "${spaceMark}" beside it`);
}

/** The normalizer as a function; the pre-tokenizer is not yet in the form. */
function normalizer({ nfc, marks, prefix }: TextForm): (text: string) => string {
  return (text) => {
    const composed = nfc ? text.normalize("NFC") : text;
    const marked = marks ? composed.replaceAll(" ", spaceMark) : composed;
    return prefix === "space" ? spaceMark + marked : marked;
  };
}

function readMarks(part: JsonNode): void {
  const pattern = part.only("type", "pattern", "content").at("pattern").only("String").at("String");
  if (pattern.string() !== " ") pattern.refuse(`is ${JSON.stringify(pattern.value)}, expected " "`);
  const content = part.at("content");
  if (content.string() !== spaceMark) content.refuse(`is ${JSON.stringify(content.value)}, expected "${spaceMark}"`);
}

/** These add special tokens and change offsets, never the ids of the text. */
function checkPostProcessor(node: JsonNode): void {
  const known = ["ByteLevel", "TemplateProcessing", "RobertaProcessing", "BertProcessing"];
  for (const part of partsOf(node, "processors")) {
    const type = part.at("type").string();
    if (!known.includes(type)) part.at("type").refuse(`${JSON.stringify(type)} is not one of ${known.join(", ")}`);
  }
}

/** Tokens beyond the model's vocabulary must have the ids that Hugging Face tokenizers give them. */
function readAddedTokens(
  node: JsonNode,
  vocab: ReadonlyMap<string, number>,
  normalize: (text: string) => string,
): AddedToken[] {
  if (node.missing) return [];
  const seen = new Set<string>();
  let largest = -1;
  const tokens = node.items().map((item) => {
    item.only("id", "content", "single_word", "lstrip", "rstrip", "normalized", "special");
    const content = item.at("content").string();
    const id = item.at("id").whole();
    const expected = vocab.get(content) ?? (largest >= vocab.size ? largest + 1 : vocab.size);
    if (id !== expected) item.at("id").refuse(`is ${id}, but "${content}" has the id ${expected}`);
    largest = Math.max(largest, id);
    if (content === "" || seen.has(content)) item.at("content").refuse("is empty or stands here twice");
    seen.add(content);
    if (item.at("single_word").boolean()) item.at("single_word").refuse("is true, which is not supported");
    const normalized = item.at("normalized").boolean();
    return {
      ...{ id, content, normalized },
      written: normalized ? normalize(content) : content,
      lstrip: item.at("lstrip").boolean(),
      rstrip: item.at("rstrip").boolean(),
      special: item.at("special").boolean(),
    };
  });
  return [...tokens.filter((token) => token.special), ...tokens.filter((token) => !token.special)];
}
