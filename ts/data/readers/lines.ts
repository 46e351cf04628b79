import { decodeUtf8 } from "../documents.ts";

/** One line of a file without its "\n". */
export interface Line {
  /** Null when the line is longer than allowed; then `head` holds its beginning. */
  readonly bytes: Buffer | null;
  readonly head: Buffer;
  /** Length in bytes. */
  readonly size: number;
  /** From 1. */
  readonly number: number;
  /** Bytes of the file up to and with this line's "\n". */
  readonly end: number;
}

const headBytes = 200;
const newline = 10;

/**
 * Lines of a stream of chunks, those of one chunk at a time. Of a line longer than `maxBytes` only the beginning is kept,
 * so memory is bounded whatever comes. With `from`, the lines before are passed over.
 */
export async function* lineBatches(
  chunks: AsyncIterable<Buffer>,
  maxBytes: number,
  from = { record: 0, offset: 0 },
): AsyncGenerator<Line[]> {
  let toSkip = from.offset;
  let end = from.offset;
  let number = from.record;
  let parts: Buffer[] = [];
  let held = 0;
  const finish = (last: Buffer, mark: number): Line => {
    const size = held + last.length;
    parts.push(last);
    const whole = parts.length === 1 ? last : Buffer.concat(parts);
    parts = [];
    held = 0;
    end += size + mark;
    const bytes = size <= maxBytes ? whole : null;
    return { bytes, head: whole.subarray(0, headBytes), size, number: ++number, end };
  };
  for await (let chunk of chunks) {
    if (toSkip > 0) {
      const skipped = Math.min(toSkip, chunk.length);
      toSkip -= skipped;
      chunk = chunk.subarray(skipped);
    }
    const lines: Line[] = [];
    let start = 0;
    for (let at = chunk.indexOf(newline); at >= 0; at = chunk.indexOf(newline, start)) {
      lines.push(finish(chunk.subarray(start, at), 1));
      start = at + 1;
    }
    if (start < chunk.length) {
      const rest = chunk.subarray(start);
      held += rest.length;
      if (held <= maxBytes) parts.push(rest);
      else parts = [Buffer.concat([...parts, rest.subarray(0, headBytes)]).subarray(0, headBytes)];
    }
    if (lines.length > 0) yield lines;
  }
  if (held > 0) yield [finish(Buffer.alloc(0), 0)];
}

export type ParsedLine = { readonly text: string } | { readonly reason: string } | null;

/** The text in `field` of a .jsonl line, or why there is none; null for a blank line. */
export function parseLine(bytes: Buffer, field: string): ParsedLine {
  const line = decodeUtf8(bytes);
  if (line === null) return { reason: "is not UTF-8" };
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch {
    return line.trim() === "" ? null : { reason: "is not JSON" };
  }
  const text = fieldOf(value, field);
  return typeof text === "string" ? { text } : { reason: `has no text in field "${field}"` };
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
