import { fromSymbols } from "./byte_level.ts";
import type { JsonNode } from "./json_reader.ts";

/** A step from tokens to text: takes and gives the parts of the text. */
export type Decoder = (parts: string[]) => string[];

/** The decoder of a tokenizer.json, as one function from token strings to text. */
export function readDecoder(node: JsonNode): (tokens: string[]) => string {
  if (node.missing) return (tokens) => tokens.join(" ");
  const decode = readStep(node);
  return (tokens) => decode(tokens).join("");
}

function readStep(node: JsonNode): Decoder {
  const type = node.at("type").string();
  switch (type) {
    case "Sequence": {
      const steps = node.only("type", "decoders").at("decoders").items().map(readStep);
      return (parts) => steps.reduce((now, step) => step(now), parts);
    }
    case "ByteLevel":
      node.only("type", "add_prefix_space", "trim_offsets", "use_regex");
      return decodeByteLevel;
    case "ByteFallback":
      node.only("type");
      return decodeByteFallback;
    case "Fuse":
      node.only("type");
      return (parts) => [parts.join("")];
    case "Replace": {
      const from = node.only("type", "pattern", "content").at("pattern").only("String").at("String").string();
      const to = node.at("content").string();
      if (from === "") node.at("pattern").refuse("is empty");
      return (parts) => parts.map((part) => part.replaceAll(from, () => to));
    }
    case "Strip":
      return readStrip(node);
    case "Metaspace":
      return readMetaspace(node);
    default:
      return node.at("type").refuse(`${JSON.stringify(type)} is not supported`);
  }
}

/** Bytes of all parts together; a part not written in the byte alphabet (an added token) stands for itself. */
const decodeByteLevel: Decoder = (parts) => {
  const bytes = parts.map((part) => {
    const latin1 = fromSymbols(part);
    return latin1 === null ? Buffer.from(part, "utf8") : Buffer.from(latin1, "latin1");
  });
  return [Buffer.concat(bytes).toString("utf8")];
};

/** <0x41> and the like are bytes; a run of them that is not UTF-8 gives U+FFFD for each byte. */
const decodeByteFallback: Decoder = (parts) => {
  const out: string[] = [];
  let run: number[] = [];
  const flush = () => {
    if (run.length === 0) return;
    const text = Buffer.from(run).toString("utf8");
    const valid = Buffer.from(text, "utf8").equals(Buffer.from(run));
    out.push(...(valid ? [text] : run.map(() => "\ufffd")));
    run = [];
  };
  for (const part of parts) {
    const match = /^<0x([0-9A-Fa-f]{2})>$/.exec(part);
    if (match) {
      run.push(Number.parseInt(match[1]!, 16));
      continue;
    }
    flush();
    out.push(part);
  }
  flush();
  return out;
};

function readStrip(node: JsonNode): Decoder {
  const content = node.only("type", "content", "start", "stop").at("content").string();
  const [start, stop] = [node.at("start").whole(), node.at("stop").whole()];
  if ([...content].length !== 1) node.at("content").refuse("is not one character");
  return (parts) =>
    parts.map((part) => {
      const characters = [...part];
      let [from, to] = [0, characters.length];
      while (from < Math.min(start, characters.length) && characters[from] === content) from++;
      while (characters.length - to < stop && to > from && characters[to - 1] === content) to--;
      return characters.slice(from, to).join("");
    });
}

/** Marks become spaces; in the first token they are dropped, when one was put before the text. */
function readMetaspace(node: JsonNode): Decoder {
  const { mark, scheme } = metaspace(node);
  return (parts) => parts.map((part, i) => part.replaceAll(mark, () => (i === 0 && scheme !== "never" ? "" : " ")));
}

/** What a Metaspace pre-tokenizer or decoder says; older files have add_prefix_space for prepend_scheme. */
export function metaspace(node: JsonNode): { mark: string; scheme: "always" | "first" | "never"; split: boolean } {
  node.only("type", "replacement", "add_prefix_space", "prepend_scheme", "split", "str_rep");
  const mark = node.at("replacement").string();
  const named = node.at("prepend_scheme");
  const older = node.at("add_prefix_space");
  const scheme = named.missing ? (older.missing || older.boolean() ? "always" : "never") : named.string();
  if (scheme !== "always" && scheme !== "first" && scheme !== "never")
    return named.refuse(`is "${scheme}", expected always, first or never`);
  const split = node.at("split");
  return { mark, scheme, split: split.missing || split.boolean() };
}
