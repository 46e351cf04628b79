import { addon } from "../../native/addon.ts";
import { decodeUtf8 } from "../documents.ts";

/** Whole lines that were read at once, or of a line longer than allowed its beginning. */
export type LineBlock =
  | { readonly bytes: Buffer }
  | {
      readonly bytes: null;
      readonly head: Buffer;
      /** Bytes of the line, without and with its "\n". */
      readonly size: number;
      readonly span: number;
    };

const headBytes = 200;
const newline = 10;

/**
 * A stream of chunks cut behind line feeds. Of a line that goes on from an earlier chunk and is longer than `maxBytes`
 * only the beginning is kept, so memory is bounded whatever comes. With `skip`, so many bytes are passed over.
 */
export async function* lineBlocks(
  chunks: AsyncIterable<Buffer>,
  maxBytes: number,
  skip = 0,
): AsyncGenerator<LineBlock> {
  let toSkip = skip;
  let parts: Buffer[] = [];
  let held = 0;
  const hold = (rest: Buffer): void => {
    held += rest.length;
    if (held <= maxBytes) parts.push(rest);
    else parts = [beginning(Buffer.concat([...parts, beginning(rest)]))];
  };
  const release = (end: number): LineBlock => {
    const bytes = parts.length === 1 ? parts[0]! : Buffer.concat(parts);
    const block = held <= maxBytes ? { bytes } : { bytes: null, head: bytes, size: held, span: held + end };
    parts = [];
    held = 0;
    return block;
  };
  for await (let chunk of chunks) {
    if (toSkip > 0) {
      const skipped = Math.min(toSkip, chunk.length);
      toSkip -= skipped;
      chunk = chunk.subarray(skipped);
    }
    const first = held > 0 ? chunk.indexOf(newline) : -1;
    if (first >= 0 && held + first > maxBytes) {
      hold(chunk.subarray(0, first));
      yield release(1);
      chunk = chunk.subarray(first + 1);
    }
    const end = chunk.lastIndexOf(newline) + 1;
    if (end > 0) {
      parts.push(chunk.subarray(0, end));
      held = 0;
      yield release(0);
    }
    if (end < chunk.length) hold(chunk.subarray(end));
  }
  if (held > 0) yield release(0);
}

/** A line's first bytes, to be quoted. */
export function beginning(line: Buffer): Buffer {
  return line.subarray(0, headBytes);
}

/** A text in UTF-8, and whether it is white space alone; or why there is none; null for a blank line. */
export type ParsedLine =
  | { readonly utf8: Buffer; readonly blank: boolean }
  | { readonly reason: string; readonly head: Buffer }
  | { readonly size: number; readonly head: Buffer }
  | null;

/**
 * What stands in `field` of .jsonl lines; of those longer than `maxBytes` only the size. The texts lie in one memory. Lines
 * in the usual form are read natively; the others, and whatever is wrong with them, one by one in JavaScript.
 */
export function* parsedLines(lines: Buffer, field: string, maxBytes: number): Generator<ParsedLine> {
  const texts = Buffer.allocUnsafeSlow(lines.length);
  const { ends, kinds, offsets } = addon().jsonTexts(lines, Buffer.from(field), maxBytes, texts);
  for (let i = 0, start = 0; i < ends.length; start = ends[i]!, i++) {
    if (kinds[i] !== 2) {
      yield { utf8: texts.subarray(offsets[i], offsets[i + 1]), blank: kinds[i] === 1 };
      continue;
    }
    const end = ends[i]!;
    const line = lines.subarray(start, lines[end - 1] === newline ? end - 1 : end);
    yield line.length > maxBytes ? { size: line.length, head: beginning(line) } : parseLine(line, field);
  }
}

function parseLine(bytes: Buffer, field: string): ParsedLine {
  const head = beginning(bytes);
  const line = decodeUtf8(bytes);
  if (line === null) return { reason: "is not UTF-8", head };
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch {
    return line.trim() === "" ? null : { reason: "is not JSON", head };
  }
  const text = fieldOf(value, field);
  if (typeof text !== "string") return { reason: `has no text in field "${field}"`, head };
  return { utf8: Buffer.from(text), blank: isBlank(text) };
}

/** Nothing to learn from. */
export function isBlank(text: string): boolean {
  return text.trim() === "";
}

/** A field by name, or by a path of names with dots ("content.text") where no field has the whole name. */
export function fieldOf(value: unknown, field: string): unknown {
  const inner = (from: unknown, name: string): unknown =>
    typeof from === "object" && from !== null && Object.hasOwn(from, name)
      ? (from as Record<string, unknown>)[name]
      : undefined;
  const direct = inner(value, field);
  return direct === undefined && field.includes(".") ? field.split(".").reduce(inner, value) : direct;
}
