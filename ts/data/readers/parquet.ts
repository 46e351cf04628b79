import { type ChildProcess, fork } from "node:child_process";
import { join } from "node:path";
import { ThalwegError } from "../../base/errors.ts";
import type { InputFile } from "../documents.ts";
import { loaderArguments, nextAnswer } from "./answers.ts";
import type { ParquetAnswer, ParquetFacts, ParquetRequest } from "./parquet_decoder.ts";

/** A column of a row group larger than this (unpacked) would not fit the memory that reading is allowed. */
const largestColumn = 2 ** 28;
/** Heap of the decoder: a row group's column as text takes at most half a gigabyte. */
const decoderMegabytes = 1024;

export interface ParquetOptions {
  readonly field: string;
  /** Rows to pass over. */
  readonly from: number;
  /** Seconds after which a silent decoder is given up. */
  readonly patience: number;
}

/** Rows of one group (null where a row has no text), and the share of the file's rows up to their end. */
export interface ParquetRows {
  readonly texts: (string | null)[];
  readonly share: number;
}

/**
 * The texts of a parquet file, one row group at a time, decoded in a process of its own; memory holds one group's column.
 * @throws ThalwegError BAD_INPUT when the column is missing or too large, CORRUPT_DATA when the file is damaged
 */
export async function* parquetRows(file: InputFile, options: ParquetOptions): AsyncGenerator<ParquetRows> {
  const { field, from } = options;
  const decoder = new Decoder(file, field, options.patience);
  try {
    const facts = await decoder.facts();
    checkFacts(facts, field, file);
    let first = 0;
    for (const [index, { rows, bytes }] of facts.groups.entries()) {
      const rowStart = Math.max(first, from);
      const rowEnd = first + rows;
      first = rowEnd;
      if (rowStart >= rowEnd) continue;
      if (bytes > largestColumn) throw tooLarge(file, field, index, bytes);
      const texts = await decoder.texts({ rowStart, rowEnd }, index);
      yield { texts, share: rowEnd / facts.rows };
    }
  } finally {
    decoder.close();
  }
}

/** The process that decodes, one question at a time. */
class Decoder {
  private readonly file: InputFile;
  private readonly patience: number;
  private readonly child: ChildProcess;

  constructor(file: InputFile, field: string, patience: number) {
    this.file = file;
    this.patience = patience;
    const program = join(
      import.meta.dirname,
      import.meta.filename.endsWith(".ts") ? "parquet_decoder.ts" : "parquet_decoder.js",
    );
    this.child = fork(program, [JSON.stringify({ path: file.path, field })], {
      execArgv: [...loaderArguments(process.execArgv), `--max-old-space-size=${decoderMegabytes}`],
      serialization: "advanced",
      stdio: ["ignore", "ignore", "ignore", "ipc"],
    });
    this.child.on("error", () => undefined); // told where its answer is waited for
  }

  async facts(): Promise<ParquetFacts> {
    const answer = await this.answer("its footer");
    return (answer as { facts: ParquetFacts }).facts;
  }

  async texts(rows: ParquetRequest, group: number): Promise<(string | null)[]> {
    this.child.send(rows);
    const { texts } = (await this.answer(`row group ${group}`)) as { texts: (string | null)[] };
    const expected = rows.rowEnd - rows.rowStart;
    if (texts.length === expected) return texts;
    throw damaged(this.file, `row group ${group}`, `${texts.length} rows instead of ${expected}`);
  }

  private async answer(part: string): Promise<ParquetAnswer> {
    const answer = await nextAnswer<ParquetAnswer>(this.child, this.patience);
    if (!("error" in answer)) return answer;
    const { error } = answer;
    throw typeof error === "string" ? damaged(this.file, part, error) : new ThalwegError(error.code, error.message);
  }

  close(): void {
    this.child.kill("SIGKILL");
  }
}

function checkFacts({ rows, columns, groups }: ParquetFacts, field: string, file: InputFile): void {
  const column = field.split(".")[0]!;
  if (groups.length > 0 && !columns.includes(field) && !columns.includes(column))
    throw new ThalwegError(
      "BAD_INPUT",
      `${file.path} has no column "${column}"; its columns are ${columns.join(", ")}: name the one with the text by --field.`,
    );
  const inGroups = groups.reduce((sum, group) => sum + group.rows, 0);
  if (inGroups !== rows) throw damaged(file, "its footer", `${rows} rows, ${inGroups} in its row groups`);
  for (const [index, group] of groups.entries())
    if (group.values < group.rows)
      throw damaged(file, `row group ${index}`, `${group.rows} rows, ${group.values} values`);
}

function tooLarge(file: InputFile, field: string, group: number, bytes: number): ThalwegError {
  const mebibytes = (n: number) => `${Math.round(n / 2 ** 20)} MiB`;
  return new ThalwegError(
    "BAD_INPUT",
    `${file.path} has ${mebibytes(bytes)} of "${field}" in row group ${group}, more than ${mebibytes(largestColumn)}: write it again with smaller row groups.`,
  );
}

function damaged(file: InputFile, part: string, reason: string): ThalwegError {
  return new ThalwegError(
    "CORRUPT_DATA",
    `${file.path} is truncated or damaged: ${part} cannot be read (${reason}). Fetch it again, then repeat the command: it goes on from where it was.`,
  );
}
