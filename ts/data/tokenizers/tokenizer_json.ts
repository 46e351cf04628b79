import { metaspace, readDecoder } from "./decoders.ts";
import { type Model, readModel } from "./json_model.ts";
import { JsonNode } from "./json_reader.ts";

/** U+2581, which stands for a space in the tokens of SentencePiece. */
export const spaceMark = "\u2581";

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

/** How a text is made ready for merging. */
export interface TextForm {
  nfc: boolean;
  /** Spaces are written U+2581, by the normalizer or (metaspace) after added tokens have been found. */
  marks: boolean;
  metaspace: boolean;
  prefix: "none" | "space" | "missing-space" | "first";
  /** The tokens are bytes in GPT-2's alphabet; otherwise characters, and <0x41> for bytes. */
  byteLevel: boolean;
  gpt2Words: boolean;
  splitSpaces: boolean;
}

/** A tokenizer.json, understood whole. */
export interface TokenizerForm extends TextForm {
  readonly model: Model;
  /** Special tokens first, as Hugging Face tokenizers keep them. */
  readonly added: readonly AddedToken[];
  readonly decode: (tokens: string[]) => string;
}

/**
 * Reads a tokenizer.json of the GPT-2, GPT-NeoX or Llama-2 kind: byte-level BPE with GPT-2's words, or BPE over
 * characters with byte fallback. Post-processors only add special tokens around a text, which data preparation does
 * itself; they are checked and play no part.
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
    gpt2Words: false,
    splitSpaces: false,
  };
  readNormalizer(root.at("normalizer"), form);
  const normalize = normalizer(form);
  readPreTokenizer(root.at("pre_tokenizer"), form);
  checkPostProcessor(root.at("post_processor"));
  const model = readModel(root.at("model"), form);
  if (model.ignoreMerges && !form.gpt2Words)
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

function readPreTokenizer(node: JsonNode, form: TextForm): void {
  const parts = partsOf(node, "pretokenizers");
  if (parts.length > 1) parts[1]!.refuse("is a second pre-tokenizer; expected one");
  const [part] = parts;
  if (part === undefined) return;
  const type = part.at("type").string();
  if (type === "ByteLevel") {
    part.only("type", "add_prefix_space", "trim_offsets", "use_regex");
    const regex = part.at("use_regex");
    form.byteLevel = true;
    form.gpt2Words = regex.missing || regex.boolean();
    if (form.marks) part.refuse(`is ByteLevel after a normalizer that writes "${spaceMark}"`);
    if (part.at("add_prefix_space").boolean()) form.prefix = "missing-space";
  } else if (type === "Metaspace") {
    const { mark, scheme, split } = metaspace(part);
    if (mark !== spaceMark) part.at("replacement").refuse(`is ${JSON.stringify(mark)}, expected "${spaceMark}"`);
    if (form.prefix !== "none" && scheme !== "never") part.refuse("puts a mark before the text a second time");
    form.metaspace = true;
    form.marks = true;
    form.splitSpaces = split;
    if (scheme !== "never") form.prefix = scheme === "first" ? "first" : "missing-space";
  } else {
    part.at("type").refuse(`${JSON.stringify(type)} is not supported; known are ByteLevel and Metaspace`);
  }
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
