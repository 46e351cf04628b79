import { readFileSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { digestFile } from "../../base/files.ts";
import { Deduplicator, documentKey } from "../deduplicate.ts";
import { Document, decodeUtf8, type InputFile, type Place, ReadReport, standardInput } from "../documents.ts";
import { fileBytes, type Prefix, packingOf, RawMeter } from "./bytes.ts";
import { isBlank, lineBlocks, parsedLines } from "./lines.ts";
import { parquetRows } from "./parquet.ts";
import { blankLineSplitter, endOfTextSplitter, withoutOuterBreaks } from "./text.ts";

export { listFiles } from "./inputs.ts";

export interface ReadOptions {
  /** Field of a .jsonl line, column of a .parquet file that holds the text. Default "text". */
  readonly field?: string;
  /** What ends a document in a text file. Default "file": one file is one document. */
  readonly textSplit?: "file" | "blank-line" | "endoftext";
  /** What standard input holds. Default jsonl. */
  readonly standardInputFormat?: "jsonl" | "text";
  /** Files taken from folders. */
  readonly extensions?: readonly string[];
  /** Largest line, file or part, in bytes; what is larger counts as unreadable. Default 32 MiB. */
  readonly maxRecordBytes?: number;
  /** Seconds after which a decoder of .parquet or .zst that is silent is given up. Default 120. */
  readonly decoderPatience?: number;
  /** Bytes read at once. Default 1 MiB. */
  readonly chunkBytes?: number;
  /** Share of unreadable lines or files above which reading fails. Default 0.01. */
  readonly maxBadShare?: number;
  /** Drop documents whose text was met before. Default true. */
  readonly deduplicate?: boolean;
}

export const defaultMaxRecordBytes = 2 ** 25;
/** A row group or a MiB takes a second or two; a decoder that is silent for so long goes round in circles. */
const defaultPatience = 120;

/** Documents that were read at once, and where reading stands after them. */
export interface DocumentBatch {
  readonly documents: Document[];
  readonly after: Place;
  /** What was read of the present file. */
  readonly prefix: Prefix;
}

/** A file that has been read to its end. */
export interface ReadFile {
  readonly file: string;
  readonly bytes: number;
  /** SHA-256 (hex) of the file as it lies on disk. */
  readonly sha256: string;
}

/** How to read, beside the options. */
export interface ReadState {
  readonly report: ReadReport;
  /** Null to keep duplicates. */
  readonly seen: Deduplicator | null;
  /** Files before this index are pinned in `seen`: their texts are duplicates for ever. */
  readonly pinned?: number;
  /** Go on from here; what the file began with then must be the same now. */
  readonly from?: { readonly place: Place; readonly prefix: Prefix };
  readonly onFile?: (file: ReadFile) => void;
}

/** Documents of the files, one at a time, in order; `report` counts as they come. */
export async function* readDocuments(
  files: readonly InputFile[],
  options: ReadOptions = {},
  report = new ReadReport(options.maxBadShare ?? 0.01),
): AsyncGenerator<Document> {
  const seen = (options.deduplicate ?? true) ? new Deduplicator() : null;
  for await (const { documents } of readBatches(files, options, { report, seen })) yield* documents;
  report.checkBadShare();
}

/**
 * Documents of the files in order, about as many at once as lie in a MiB. Memory: one chunk, the record under way and
 * what `seen` remembers, whatever the size of the files.
 * @throws ThalwegError BAD_INPUT, CORRUPT_DATA
 */
export async function* readBatches(
  files: readonly InputFile[],
  options: ReadOptions,
  state: ReadState,
): AsyncGenerator<DocumentBatch> {
  const { report, seen, from } = state;
  for (let index = from?.place.file ?? 0; index < files.length; index++) {
    const file = files[index]!;
    const resumed = from?.place.file === index ? from : null;
    const before = report.bytesDone;
    if (resumed === null) report.files++;
    const reading: Reading = {
      file,
      options,
      report,
      meter: new RawMeter(file.path, report, resumed?.prefix),
      from: resumed?.place ?? { file: index, record: 0, offset: 0 },
    };
    for await (const { pieces, record, offset } of readPieces(reading)) {
      const documents: Document[] = [];
      for (const { id, utf8, blank } of pieces) {
        if (blank) {
          report.empty++;
          continue;
        }
        const key = seen && documentKey(utf8);
        if (key !== null && !seen!.isNew(key, index < (state.pinned ?? 0))) {
          report.duplicates++;
          continue;
        }
        report.documents++;
        documents.push(new Document(id, utf8, key, file.path, file.group ?? id));
      }
      report.checkEarly();
      yield { documents, after: { file: index, record, offset }, prefix: reading.meter.prefix() };
    }
    report.bytesDone = before + (file.bytes || reading.meter.bytes);
    const { bytes, sha256 } = reading.meter.prefix();
    state.onFile?.({ file: file.path, bytes, sha256 });
  }
}

/** A text found; `blank`: white space alone. */
interface Piece {
  readonly id: string;
  readonly utf8: Buffer;
  readonly blank: boolean;
}

function pieceOf(id: string, text: string): Piece {
  return { id, utf8: Buffer.from(text), blank: isBlank(text) };
}

/** Pieces that came together, and the records and bytes of the file up to their end. */
interface Pieces {
  readonly pieces: Piece[];
  readonly record: number;
  readonly offset: number;
}

interface Reading {
  readonly file: InputFile;
  readonly options: ReadOptions;
  readonly report: ReadReport;
  readonly meter: RawMeter;
  readonly from: Place;
}

function bytesOf({ file, meter, options }: Reading): AsyncGenerator<Buffer> {
  const { chunkBytes, decoderPatience: patience = defaultPatience } = options;
  return fileBytes(file, meter, { chunkBytes, patience });
}

function readPieces(reading: Reading): AsyncGenerator<Pieces> {
  const { file, options } = reading;
  if (file.path === standardInput) {
    if ((options.standardInputFormat ?? "jsonl") === "jsonl") return readJsonl(reading);
    return (options.textSplit ?? "file") === "file" ? readWholeStream(reading) : readSplit(reading);
  }
  const name = file.name.replace(/\.(gz|zst)$/, "");
  if (name.endsWith(".parquet")) return readParquet(reading);
  // Packed .json files of public corpora hold one document a line.
  if (name.endsWith(".jsonl") || (name.endsWith(".json") && packingOf(file.name) !== null)) return readJsonl(reading);
  if (file.group === undefined && (options.textSplit ?? "file") !== "file") return readSplit(reading);
  return packingOf(file.name) === null ? readWhole(reading) : readWholeStream(reading);
}

async function* readWhole({ file, options, report, meter, from }: Reading): AsyncGenerator<Pieces> {
  if (file.bytes > (options.maxRecordBytes ?? defaultMaxRecordBytes)) {
    report.addBad(file.path, null, tooLarge(file.bytes, options));
    return;
  }
  // Thousands of small files: asynchronous reads would take several times as long.
  const bytes = file.bytes < 2 ** 20 ? readFileSync(file.path) : await readFile(file.path);
  meter.add(bytes);
  meter.end();
  if (from.record === 0) yield wholeText(bytes, file, report);
}

async function* readWholeStream(reading: Reading): AsyncGenerator<Pieces> {
  const { file, options, report, from } = reading;
  const limit = options.maxRecordBytes ?? defaultMaxRecordBytes;
  let parts: Buffer[] = [];
  let held = 0;
  for await (const chunk of bytesOf(reading)) {
    held += chunk.length;
    if (held <= limit) parts.push(chunk);
    else parts = [];
  }
  if (held > limit) report.addBad(file.path, null, tooLarge(held, options));
  else if (from.record === 0) yield wholeText(Buffer.concat(parts), file, report);
}

function wholeText(bytes: Buffer, file: InputFile, report: ReadReport): Pieces {
  const text = decodeUtf8(bytes);
  if (text === null) report.addBad(file.path, null, "is not UTF-8");
  return { pieces: text === null ? [] : [pieceOf(file.name, text)], record: 1, offset: 0 };
}

async function* readJsonl(reading: Reading): AsyncGenerator<Pieces> {
  const { file, options, report, from } = reading;
  const limit = options.maxRecordBytes ?? defaultMaxRecordBytes;
  const field = options.field ?? "text";
  let { record, offset } = from;
  for await (const block of lineBlocks(bytesOf(reading), limit, offset)) {
    const pieces: Piece[] = [];
    const bad = (reason: string, head: Buffer) => report.addBad(file.path, record, reason, head.toString("utf8"));
    if (block.bytes === null) {
      record++;
      bad(tooLarge(block.size, options), block.head);
      offset += block.span;
    } else {
      for (const line of parsedLines(block.bytes, field, limit)) {
        record++;
        if (line === null) continue;
        if ("utf8" in line) pieces.push({ id: `${file.name}:${record}`, ...line });
        else if ("size" in line) bad(tooLarge(line.size, options), line.head);
        else if ("reason" in line) bad(line.reason, line.head);
      }
      offset += block.bytes.length;
    }
    yield { pieces, record, offset };
  }
}

async function* readParquet({ file, options, report, meter, from }: Reading): AsyncGenerator<Pieces> {
  const limit = options.maxRecordBytes ?? defaultMaxRecordBytes;
  const before = report.bytesDone;
  meter.whole(await digestFile(file.path));
  let record = from.record;
  const field = options.field ?? "text";
  const read = { field, from: from.record, patience: options.decoderPatience ?? defaultPatience };
  for await (const { texts, share } of parquetRows(file, read)) {
    const pieces: Piece[] = [];
    for (const text of texts) {
      record++;
      if (text === null) report.addBad(file.path, record, `has no text in column "${field}"`);
      else if (text.length > limit) report.addBad(file.path, record, tooLarge(text.length, options));
      else pieces.push(pieceOf(`${file.name}:${record}`, text));
    }
    report.bytesDone = before + Math.floor(share * file.bytes);
    yield { pieces, record, offset: 0 };
  }
}

/** Splits bytes, not text: a part that is not UTF-8 spoils no other. Latin-1 strings stand for bytes. */
async function* readSplit(reading: Reading): AsyncGenerator<Pieces> {
  const { file, options, report, from } = reading;
  const limit = options.maxRecordBytes ?? defaultMaxRecordBytes;
  const splitter = options.textSplit === "endoftext" ? endOfTextSplitter() : blankLineSplitter();
  let record = 0;
  // A part that grew beyond the limit has been counted already; what comes of it is dropped up to its end.
  let dropping = false;
  const pieces = (parts: readonly string[]): Pieces => {
    const found: Piece[] = [];
    for (const part of parts) {
      const dropped = dropping;
      dropping = false;
      if (dropped || /^\s*$/.test(part) || ++record <= from.record) continue;
      const text = part.length > limit ? null : decodeUtf8(Buffer.from(part, "latin1"));
      if (text !== null) found.push(pieceOf(`${file.name}#${record}`, withoutOuterBreaks(text)));
      else report.addBad(file.path, record, part.length > limit ? tooLarge(part.length, options) : "is not UTF-8");
    }
    return { pieces: found, record, offset: 0 };
  };
  for await (const chunk of bytesOf(reading)) {
    const found = pieces(splitter.push(chunk.toString("latin1")));
    if (splitter.held.length > limit) {
      if (!dropping) pieces([splitter.held]);
      dropping = true;
      splitter.held = splitter.held.slice(-longestSeparator);
    }
    if (found.record > from.record) yield found;
  }
  yield pieces([...splitter.push(""), splitter.held]);
}

/** More than a separator of documents in a text file ever takes, in bytes. */
const longestSeparator = 1024;

function tooLarge(bytes: number, options: ReadOptions): string {
  const limit = options.maxRecordBytes ?? defaultMaxRecordBytes;
  return `has ${bytes} bytes, more than the largest record allowed (${limit})`;
}
