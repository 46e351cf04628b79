/**
 * The program of a child process: decodes parquet files, one after the other, and answers each request for rows. A damaged file
 * can keep the decoder busy for ever or make it ask for any amount of memory; a process can be ended without harm.
 */
import { type FileHandle, open } from "node:fs/promises";
import { optionalPackage } from "../optional.ts";
import { fieldOf } from "./lines.ts";

/** The text column of a file. */
export interface ParquetTask {
  readonly path: string;
  readonly field: string;
  /** Bytes of a page, or characters of the texts asked for, above which memory is refused. */
  readonly largest: number;
}

/** One row group's text column. */
export interface ParquetGroup {
  readonly rows: number;
  /** Values of the column; at least `rows`, unless the file is damaged. */
  readonly values: number;
  /** Bytes of the column, packed or unpacked, whichever are more. */
  readonly bytes: number;
}

export interface ParquetFacts {
  /** Rows of the file, as its footer says. */
  readonly rows: number;
  readonly columns: readonly string[];
  readonly groups: readonly ParquetGroup[];
}

export type ParquetRows = { readonly rowStart: number; readonly rowEnd: number };
/** The next file, rows of it, or the end of it, to which there is no answer. */
export type ParquetQuestion = { open: ParquetTask } | { rows: ParquetRows } | { close: true };
/** Texts: null where a row has none. `tooLarge`: the characters of the rows asked for. */
export type ParquetAnswer =
  | { facts: ParquetFacts }
  | { texts: (string | null)[] }
  | { tooLarge: number }
  | { refused: string | { code: string; message: string } };

interface Metadata {
  readonly num_rows: bigint;
  readonly row_groups: readonly {
    readonly num_rows: bigint;
    readonly columns: readonly {
      readonly meta_data?: {
        readonly path_in_schema: readonly string[];
        readonly num_values: bigint;
        readonly total_uncompressed_size: bigint;
        readonly total_compressed_size: bigint;
      };
    }[];
  }[];
}
interface AsyncBuffer {
  byteLength: number;
  slice(start: number, end?: number): Promise<ArrayBuffer>;
}
type Decompressor = (bytes: Uint8Array, size: number) => Uint8Array;
interface Hyparquet {
  parquetMetadataAsync(file: AsyncBuffer): Promise<Metadata>;
  parquetReadObjects(options: object): Promise<Record<string, unknown>[]>;
}

/** The top-level column that a field lies in. */
const columnOf = (field: string, columns: readonly string[]): string =>
  columns.includes(field) ? field : field.split(".")[0]!;

function factsOf(metadata: Metadata, field: string): ParquetFacts {
  const named = metadata.row_groups.map(({ num_rows, columns }) => ({
    rows: Number(num_rows),
    columns: columns.flatMap(({ meta_data }) =>
      meta_data ? [{ name: meta_data.path_in_schema[0]!, ...meta_data }] : [],
    ),
  }));
  const columns = [...new Set(named.flatMap((group) => group.columns.map((column) => column.name)))];
  const column = columnOf(field, columns);
  const groups = named.map((group) => {
    const own = group.columns.filter(({ name }) => name === column);
    const sizes = own.map((c) => [Number(c.total_uncompressed_size), Number(c.total_compressed_size)] as const);
    return {
      rows: group.rows,
      values: own.length === 0 ? 0 : Math.min(...own.map((c) => Number(c.num_values))),
      bytes: sizes.reduce((sum, size) => sum + Math.max(...size), 0),
    };
  });
  return { rows: Number(metadata.num_rows), columns, groups };
}

/** A page whose size is damaged is refused before memory is asked for. */
const limited = (compressors: Record<string, Decompressor>, largest: number): Record<string, Decompressor> =>
  Object.fromEntries(
    Object.entries(compressors).map(([name, unpack]) => [
      name,
      (bytes, size) => {
        if (!(size <= largest)) throw new Error(`a page of ${size} bytes`);
        return unpack(bytes, size);
      },
    ]),
  );

interface OpenFile {
  readonly facts: ParquetFacts;
  read(rows: ParquetRows): Promise<ParquetAnswer>;
  close(): Promise<void>;
}

async function openFile({ path, field, largest }: ParquetTask): Promise<OpenFile> {
  const { parquetMetadataAsync, parquetReadObjects } = await optionalPackage<Hyparquet>(
    "hyparquet",
    "reading .parquet",
  );
  const { compressors: all } = await optionalPackage<{ compressors: Record<string, Decompressor> }>(
    "hyparquet-compressors",
    "reading .parquet",
  );
  const compressors = limited(all, largest);
  const handle = await open(path, "r");
  try {
    const file = await asyncBuffer(handle);
    const metadata = await parquetMetadataAsync(file);
    const facts = factsOf(metadata, field);
    const columns = [columnOf(field, facts.columns)];
    return {
      facts,
      read: async (rows) => {
        const found = await parquetReadObjects({ file, metadata, columns, compressors, ...rows });
        const texts = found.map((row) => {
          const text = fieldOf(row, field);
          return typeof text === "string" ? text : null;
        });
        // A dictionary may hold a long text once for many rows.
        const characters = texts.reduce((sum, text) => sum + (text?.length ?? 0), 0);
        return characters > largest ? { tooLarge: characters } : { texts };
      },
      close: () => handle.close(),
    };
  } catch (error) {
    await handle.close();
    throw error;
  }
}

let file: OpenFile | null = null;

async function answerTo(question: ParquetQuestion): Promise<ParquetAnswer | null> {
  if ("rows" in question) return file!.read(question.rows);
  const before = file;
  file = null;
  await before?.close();
  if ("close" in question) return null;
  file = await openFile(question.open);
  return { facts: file.facts };
}

async function asyncBuffer(handle: FileHandle): Promise<AsyncBuffer> {
  const byteLength = (await handle.stat()).size;
  return {
    byteLength,
    async slice(start, end = byteLength) {
      if (!(start >= 0 && end >= start && end <= byteLength))
        throw new Error(`bytes ${start}..${end} are not in the file of ${byteLength}`);
      const bytes = new Uint8Array(end - start);
      const { bytesRead } = await handle.read(bytes, 0, bytes.length, start);
      if (bytesRead < bytes.length) throw new Error(`the file ends at byte ${start + bytesRead}`);
      return bytes.buffer;
    },
  };
}

if (process.send) {
  const answer = (message: ParquetAnswer): void => void process.send!(message);
  process.on("disconnect", () => process.exit());
  // Reads of a damaged file that nobody waits for any more, as another one has failed already: no matter of the next file.
  process.on("unhandledRejection", () => undefined);
  process.on("message", async (question: ParquetQuestion) => {
    try {
      const found = await answerTo(question);
      if (found) answer(found);
    } catch (error) {
      const { code, message } = error as { code?: string; message: string };
      answer({ refused: code === "BAD_OPTION" ? { code, message } : String(error) });
    }
  });
}
