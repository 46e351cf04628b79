import { type ChildProcess, fork } from "node:child_process";
import { join } from "node:path";
import { ThalwegError } from "../../base/errors.ts";
import type { InputFile } from "../documents.ts";
import { loaderArguments, nextAnswer } from "./answers.ts";
import type { ParquetAnswer, ParquetFacts, ParquetQuestion, ParquetRows } from "./parquet_decoder.ts";

/** A row group whose text column has more bytes, packed, unpacked or as text, would not fit the memory that reading is allowed. */
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
export interface ParquetTexts {
  readonly texts: (string | null)[];
  readonly share: number;
}

/**
 * The texts of a parquet file, one row group at a time, decoded in a process of its own; memory holds one group's column.
 * @throws ThalwegError BAD_INPUT when the column is missing or too large, CORRUPT_DATA when the file is damaged
 */
export async function* parquetRows(file: InputFile, options: ParquetOptions): AsyncGenerator<ParquetTexts> {
  const { field, from } = options;
  const reader = new Reader(file, field, options.patience);
  try {
    const facts = await reader.facts();
    checkFacts(facts, field, file);
    let first = 0;
    for (const [index, { rows, bytes }] of facts.groups.entries()) {
      const rowStart = Math.max(first, from);
      const rowEnd = first + rows;
      first = rowEnd;
      if (rowStart >= rowEnd) continue;
      if (bytes > largestColumn) throw tooLarge(file, field, index, bytes);
      const texts = await reader.texts({ rowStart, rowEnd }, index);
      yield { texts, share: rowEnd / facts.rows };
    }
  } finally {
    reader.close();
  }
}

/** The process that decodes, one question at a time. */
class Decoder {
  private readonly child: ChildProcess;
  /** It owes no answer: another file may be read. */
  private free = true;

  constructor() {
    const program = join(
      import.meta.dirname,
      import.meta.filename.endsWith(".ts") ? "parquet_decoder.ts" : "parquet_decoder.js",
    );
    this.child = fork(program, [], {
      execArgv: [...loaderArguments(process.execArgv), `--max-old-space-size=${decoderMegabytes}`],
      serialization: "advanced",
      stdio: ["ignore", "ignore", "ignore", "ipc"],
    });
    this.child.on("error", () => undefined); // told where its answer is waited for
    // While it is waited for, that keeps this process alive.
    this.child.unref();
    this.child.channel?.unref();
  }

  async ask(question: ParquetQuestion, patience: number): Promise<ParquetAnswer | { error: string }> {
    this.free = false;
    this.child.send(question, () => undefined); // one that has ended is told of by its silence
    const answer = await nextAnswer<ParquetAnswer>(this.child, patience);
    this.free = !("error" in answer);
    return answer;
  }

  /** Puts the file away; false when no other can be read. */
  rest(): boolean {
    if (!this.free || !this.child.connected) return false;
    this.child.send({ close: true } satisfies ParquetQuestion, () => undefined);
    return true;
  }

  get alive(): boolean {
    return this.child.connected;
  }

  end(): void {
    this.child.kill("SIGKILL");
  }
}

/** A process that waits for the next file. */
let idle: Decoder | null = null;

/** One file, and what is asked of its decoder. */
class Reader {
  private readonly file: InputFile;
  private readonly field: string;
  private readonly patience: number;
  private readonly decoder: Decoder;

  constructor(file: InputFile, field: string, patience: number) {
    this.file = file;
    this.field = field;
    this.patience = patience;
    this.decoder = idle?.alive ? idle : new Decoder();
    idle = null;
  }

  async facts(): Promise<ParquetFacts> {
    const { path } = this.file;
    const answer = await this.answer({ open: { path, field: this.field, largest: largestColumn } }, "its footer");
    return (answer as { facts: ParquetFacts }).facts;
  }

  async texts(rows: ParquetRows, group: number): Promise<(string | null)[]> {
    const answer = await this.answer({ rows }, `row group ${group}`);
    if ("tooLarge" in answer) throw tooLarge(this.file, this.field, group, answer.tooLarge);
    const { texts } = answer as { texts: (string | null)[] };
    const expected = rows.rowEnd - rows.rowStart;
    if (texts.length === expected) return texts;
    throw damaged(this.file, `row group ${group}`, `${texts.length} rows instead of ${expected}`);
  }

  private async answer(question: ParquetQuestion, part: string): Promise<ParquetAnswer> {
    const answer = await this.decoder.ask(question, this.patience);
    if ("error" in answer) throw damaged(this.file, part, answer.error);
    if (!("refused" in answer)) return answer;
    const { refused } = answer;
    throw typeof refused === "string"
      ? damaged(this.file, part, refused)
      : new ThalwegError(refused.code, refused.message);
  }

  close(): void {
    if (idle === null && this.decoder.rest()) idle = this.decoder;
    else this.decoder.end();
  }
}

function checkFacts({ rows, columns, groups }: ParquetFacts, field: string, file: InputFile): void {
  const column = field.split(".")[0]!;
  if (groups.length > 0 && !columns.includes(field) && !columns.includes(column))
    throw new ThalwegError(
      "BAD_INPUT",
      `${file.path} has no column "${column}"; its columns are ${columns.join(", ")}: name the one with the text by --field.`,
    );
  for (const [index, group] of groups.entries())
    if (!(group.rows >= 0 && group.values >= group.rows && group.bytes >= 0))
      throw damaged(file, `row group ${index}`, `${group.rows} rows, ${group.values} values, ${group.bytes} bytes`);
  const inGroups = groups.reduce((sum, group) => sum + group.rows, 0);
  if (inGroups !== rows) throw damaged(file, "its footer", `${rows} rows, ${inGroups} in its row groups`);
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
