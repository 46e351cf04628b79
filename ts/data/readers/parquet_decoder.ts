/**
 * The program of a child process: decodes one parquet file and answers each request for rows. A damaged file can keep the
 * decoder busy for ever or make it ask for any amount of memory; a process can be ended without harm.
 */
import { type FileHandle, open } from "node:fs/promises";
import { optionalPackage } from "../optional.ts";
import { fieldOf } from "./lines.ts";

/** What it is started with, as JSON in its only argument. */
export interface ParquetTask {
  readonly path: string;
  readonly field: string;
}

/** One row group's text column. */
export interface ParquetGroup {
  readonly rows: number;
  /** Values of the column; at least `rows`, unless the file is damaged. */
  readonly values: number;
  /** Bytes of the column, unpacked. */
  readonly bytes: number;
}

export interface ParquetFacts {
  /** Rows of the file, as its footer says. */
  readonly rows: number;
  readonly columns: readonly string[];
  readonly groups: readonly ParquetGroup[];
}

export type ParquetRequest = { readonly rowStart: number; readonly rowEnd: number };
/** Texts: null where a row has none. */
export type ParquetAnswer =
  | { facts: ParquetFacts }
  | { texts: (string | null)[] }
  | { error: string | { code: string; message: string } };

interface Metadata {
  readonly num_rows: bigint;
  readonly row_groups: readonly {
    readonly num_rows: bigint;
    readonly columns: readonly {
      readonly meta_data?: {
        readonly path_in_schema: readonly string[];
        readonly num_values: bigint;
        readonly total_uncompressed_size: bigint;
      };
    }[];
  }[];
}
interface AsyncBuffer {
  byteLength: number;
  slice(start: number, end?: number): Promise<ArrayBuffer>;
}
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
    return {
      rows: group.rows,
      values: Math.min(...own.map((c) => Number(c.num_values))),
      bytes: own.reduce((sum, c) => sum + Number(c.total_uncompressed_size), 0),
    };
  });
  return { rows: Number(metadata.num_rows), columns, groups };
}

async function serve({ path, field }: ParquetTask): Promise<void> {
  const { parquetMetadataAsync, parquetReadObjects } = await optionalPackage<Hyparquet>(
    "hyparquet",
    "reading .parquet",
  );
  const { compressors } = await optionalPackage<{ compressors: object }>("hyparquet-compressors", "reading .parquet");
  const source = await asyncBuffer(await open(path, "r"));
  const metadata = await parquetMetadataAsync(source);
  const facts = factsOf(metadata, field);
  const columns = [columnOf(field, facts.columns)];
  process.on("message", async (rows: ParquetRequest) => {
    try {
      const found = await parquetReadObjects({ file: source, metadata, columns, compressors, ...rows });
      const texts = found.map((row) => {
        const text = fieldOf(row, field);
        return typeof text === "string" ? text : null;
      });
      answer({ texts });
    } catch (error) {
      answer({ error: String(error) });
    }
  });
  answer({ facts });
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

const answer = (message: ParquetAnswer): void => void process.send!(message);

if (process.send) {
  process.on("disconnect", () => process.exit());
  serve(JSON.parse(process.argv[2]!) as ParquetTask).catch((error: unknown) => {
    const { code, message } = error as { code?: string; message: string };
    answer({ error: code === "BAD_OPTION" ? { code, message } : String(error) });
  });
}
