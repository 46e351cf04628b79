import { createReadStream, readFileSync } from "node:fs";
import { readdir, readFile, stat } from "node:fs/promises";
import { basename, join } from "node:path";
import { ThalwegError } from "../base/errors.ts";
import { Deduplicator, type Document, decodeUtf8, type InputFile, ReadReport } from "./documents.ts";
import { globFiles, isGlob } from "./globs.ts";
import { packageFiles } from "./packages.ts";
import { endOfText } from "./tokenizers/tokenizer.ts";

export interface ReadOptions {
  /** Field of a .jsonl line that holds the text. Default "text". */
  readonly field?: string;
  /** What ends a document in a text file. Default "file": one file is one document. */
  readonly textSplit?: "file" | "blank-line" | "endoftext";
  /** Files taken from folders. Default .txt .jsonl .md .ts .js .json. */
  readonly extensions?: readonly string[];
  /** Share of unreadable lines or files above which reading fails. Default 0.01. */
  readonly maxBadShare?: number;
  /** Drop documents whose text was met before. Default true. */
  readonly deduplicate?: boolean;
}

export const defaultExtensions: readonly string[] = [".txt", ".jsonl", ".md", ".ts", ".js", ".json"];
const packagesPrefix = "packages:";
/** A document must fit a JavaScript string (2^29 characters) with room to spare. */
const largestDocument = 2 ** 28;

/**
 * The files of inputs, in the order they will be read: a file, a folder (recursive, sorted by path; hidden and
 * node_modules folders skipped), a glob (`*`, `**`, `?`, `{a,b}`), or `packages:node_modules`.
 * @throws ThalwegError BAD_INPUT when an input gives nothing
 */
export async function listFiles(inputs: readonly string[], options: ReadOptions = {}): Promise<InputFile[]> {
  const files: InputFile[] = [];
  for (const input of inputs) files.push(...(await filesOf(input, options.extensions ?? defaultExtensions)));
  return files;
}

/** Documents of the files, one at a time, in order; `report` counts as they come. Memory: one document and the hashes. */
export async function* readDocuments(
  files: readonly InputFile[],
  options: ReadOptions = {},
  report = new ReadReport(options.maxBadShare ?? 0.01),
): AsyncGenerator<Document> {
  const seen = (options.deduplicate ?? true) ? new Deduplicator() : null;
  for (const file of files) {
    const before = report.bytesDone;
    report.files++;
    for await (const { id, text } of readFileDocuments(file, options, report)) {
      if (text.trim() === "") report.empty++;
      else if (seen && !seen.isNew(text)) report.duplicates++;
      else {
        report.documents++;
        yield { id, text, source: file.path, group: file.group ?? id };
      }
    }
    report.bytesDone = before + file.bytes;
  }
  report.checkBadShare();
}

type Piece = { id: string; text: string };

function readFileDocuments(file: InputFile, options: ReadOptions, report: ReadReport): AsyncGenerator<Piece> {
  if (file.path.endsWith(".jsonl")) return readJsonl(file, options.field ?? "text", report);
  if (file.group !== undefined || (options.textSplit ?? "file") === "file") return readWhole(file, report);
  return readSplit(file, options.textSplit === "endoftext" ? endOfTextSplitter() : blankLineSplitter(), report);
}

async function* readWhole(file: InputFile, report: ReadReport): AsyncGenerator<Piece> {
  if (file.bytes > largestDocument) throw tooLarge(file.path);
  // Thousands of small files: asynchronous reads would take several times as long.
  const text = decodeUtf8(file.bytes < 2 ** 20 ? readFileSync(file.path) : await readFile(file.path));
  if (text === null) report.addBad(file.path, "is not UTF-8");
  else yield { id: file.name, text };
}

async function* readJsonl(file: InputFile, field: string, report: ReadReport): AsyncGenerator<Piece> {
  let number = 0;
  for await (const line of lines(file, report)) {
    number++;
    const text = decodeUtf8(line);
    if (text !== null && text.trim() === "") continue;
    const found = text === null ? { reason: "is not UTF-8" } : textOfLine(text, field);
    if ("reason" in found) report.addBad(`${file.path}:${number}`, found.reason);
    else yield { id: `${file.name}:${number}`, text: found.text };
  }
}

function textOfLine(line: string, field: string): { text: string } | { reason: string } {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch {
    return { reason: `is not JSON: ${quote(line)}` };
  }
  const text = (value as Record<string, unknown> | null)?.[field];
  if (typeof text === "string") return { text };
  return { reason: `has no text in field "${field}": ${quote(line)}` };
}

function quote(line: string): string {
  return line.length > 80 ? `${line.slice(0, 80)}...` : line;
}

/** Lines of a file as bytes, without their "\n". */
async function* lines(file: InputFile, report: ReadReport): AsyncGenerator<Buffer> {
  let parts: Buffer[] = [];
  let held = 0;
  for await (const chunk of createReadStream(file.path, { highWaterMark: 1 << 20 }) as AsyncIterable<Buffer>) {
    let start = 0;
    for (let end = chunk.indexOf(10); end >= 0; end = chunk.indexOf(10, start)) {
      yield Buffer.concat([...parts, chunk.subarray(start, end)]);
      parts = [];
      held = 0;
      start = end + 1;
    }
    parts.push(chunk.subarray(start));
    held += chunk.length - start;
    if (held > largestDocument) throw tooLarge(file.path);
    report.bytesDone += chunk.length;
  }
  if (held > 0) yield Buffer.concat(parts);
}

/** Takes text as it comes and gives back the documents that are complete. */
interface Splitter {
  push(text: string): string[];
  /** The text after the last separator. */
  held: string;
}

async function* readSplit(file: InputFile, splitter: Splitter, report: ReadReport): AsyncGenerator<Piece> {
  const decoder = new TextDecoder("utf-8", { fatal: true });
  const decode = (bytes?: Buffer): string => {
    try {
      return bytes ? decoder.decode(bytes, { stream: true }) : decoder.decode();
    } catch {
      throw new ThalwegError("BAD_INPUT", `${file.path} is not UTF-8 near byte ${report.bytesDone}: convert it first`);
    }
  };
  let number = 0;
  const start = report.bytesDone;
  const piece = (text: string): Piece => ({ id: `${file.name}#${++number}`, text: withoutOuterBreaks(text) });
  for await (const chunk of createReadStream(file.path, { highWaterMark: 1 << 20 }) as AsyncIterable<Buffer>) {
    for (const text of splitter.push(decode(chunk))) if (text.trim() !== "") yield piece(text);
    report.bytesDone += chunk.length;
    if (splitter.held.length > largestDocument) throw tooLarge(file.path);
  }
  report.bytesDone = start;
  for (const text of [...splitter.push(decode()), splitter.held]) if (text.trim() !== "") yield piece(text);
}

function endOfTextSplitter(): Splitter {
  return {
    held: "",
    push(text) {
      // A mark may lie across two chunks, so the search starts a little before the new text.
      const from = Math.max(0, this.held.length - endOfText.length);
      this.held += text;
      if (this.held.indexOf(endOfText, from) < 0) return [];
      const parts = this.held.split(endOfText);
      this.held = parts.pop()!;
      return parts;
    },
  };
}

function blankLineSplitter(): Splitter {
  return {
    held: "",
    push(text) {
      const all = this.held + text;
      // White space at the end may be the start of a longer separator: it waits.
      const end = all.trimEnd().length;
      const parts = all.slice(0, end).split(/\r?\n(?:[ \t]*\r?\n)+/);
      this.held = parts.pop()! + all.slice(end);
      return parts;
    },
  };
}

/** A document without the line breaks around its separators. */
function withoutOuterBreaks(text: string): string {
  return text.replace(/^[\r\n]+|[\r\n]+$/g, "");
}

async function filesOf(input: string, extensions: readonly string[]): Promise<InputFile[]> {
  const fail = (what: string): never => {
    throw new ThalwegError("BAD_INPUT", `input "${input}" ${what}`);
  };
  if (input.startsWith(packagesPrefix)) {
    const files = await packageFiles(input.slice(packagesPrefix.length));
    return files.length > 0 ? files : fail("has no packages with documentation or sources: run npm ci first");
  }
  const info = await stat(input).catch(() => null);
  if (info?.isFile()) return [{ path: input, name: basename(input), bytes: info.size }];
  if (info?.isDirectory()) {
    const files = (await walk(input)).filter((name) => extensions.some((extension) => name.endsWith(extension)));
    return files.length > 0 ? withSizes(input, files) : fail(`has no files ending in ${extensions.join(" ")}`);
  }
  if (isGlob(input)) {
    const { base, names } = await globFiles(input, walk);
    return names.length > 0 ? withSizes(base, names) : fail("matches no file");
  }
  return fail("does not exist: expected a file, a folder, a glob or packages:node_modules");
}

async function withSizes(base: string, names: readonly string[]): Promise<InputFile[]> {
  const files: InputFile[] = [];
  for (const name of names) {
    const path = join(base, name);
    files.push({ path, name, bytes: (await stat(path)).size });
  }
  return files;
}

/** Files under a folder by relative path with "/", sorted by code unit, so that every system gives the same order. */
async function walk(folder: string): Promise<string[]> {
  const found: string[] = [];
  const visit = async (relative: string): Promise<void> => {
    for (const entry of await readdir(join(folder, relative), { withFileTypes: true })) {
      if (entry.name.startsWith(".") || entry.name === "node_modules") continue;
      const path = relative === "" ? entry.name : `${relative}/${entry.name}`;
      if (entry.isDirectory()) await visit(path);
      else if (
        entry.isFile() ||
        (entry.isSymbolicLink() && (await stat(join(folder, path)).catch(() => null))?.isFile())
      )
        found.push(path);
    }
  };
  await visit("");
  return found.sort((a, b) => (a < b ? -1 : 1));
}

function tooLarge(path: string): ThalwegError {
  const message = `${path} has a document of more than ${largestDocument / 2 ** 20} MiB: split it (text split blank-line or endoftext, or smaller files)`;
  return new ThalwegError("BAD_INPUT", message);
}
