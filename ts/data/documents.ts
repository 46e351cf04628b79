import { ThalwegError } from "../base/errors.ts";

/** One text to learn from. */
export class Document {
  /** Stable name, relative to the input: "books/emma.txt", "part-00.jsonl:17", "packages/zod/README.md". */
  readonly id: string;
  /** The text in UTF-8. */
  readonly utf8: Buffer;
  /** See `documentKey`; null where duplicates are kept. */
  readonly key: bigint | null;
  /** The file it came from. */
  readonly source: string;
  /** What must not be torn apart by a split: the package of a file; otherwise the id. */
  readonly group: string;

  constructor(id: string, utf8: Buffer, key: bigint | null, source: string, group: string) {
    this.id = id;
    this.utf8 = utf8;
    this.key = key;
    this.source = source;
    this.group = group;
  }

  /** Decoded at each call. */
  get text(): string {
    return this.utf8.toString("utf8");
  }
}

/** A file to read documents from. */
export interface InputFile {
  /** `standardInput` for standard input. */
  readonly path: string;
  /** Path relative to the input, with "/" on every system; ids are made of it. */
  readonly name: string;
  /** Size on disk; 0 when it is not known (standard input). */
  readonly bytes: number;
  readonly group?: string;
}

export const standardInput = "-";

/** Where reading stands between two records: the next one is record `record` + 1 of file `file`. */
export interface Place {
  /** Index in the list of files. */
  readonly file: number;
  /** Lines, rows or parts of that file read so far. */
  readonly record: number;
  /** Bytes of the (unpacked) file before the next record, for files read by lines; otherwise 0. */
  readonly offset: number;
}

/** Something that could not be used: for the rejects file and for error messages. */
export interface Reject {
  readonly file: string;
  /** Line, row or part, from 1; null for a whole file. */
  readonly record: number | null;
  readonly reason: string;
  /** Its beginning, where it is text. */
  readonly text: string | null;
}

const countNames = ["files", "documents", "duplicates", "empty", "bad"] as const;
export type ReadCounts = Record<(typeof countNames)[number], number>;

/** What reading met; filled in as documents are read. */
export class ReadReport implements ReadCounts {
  files = 0;
  /** Bytes read, as they lie on disk. */
  bytesDone = 0;
  documents = 0;
  duplicates = 0;
  empty = 0;
  /** Lines or files that could not be used. */
  bad = 0;
  /** The first few of them, as file:line, reason and quotation. */
  readonly badExamples: string[] = [];
  private readonly maxBadShare: number;
  private readonly onReject: (reject: Reject) => void;

  constructor(maxBadShare: number, onReject: (reject: Reject) => void = () => undefined) {
    this.maxBadShare = maxBadShare;
    this.onReject = onReject;
  }

  addBad(file: string, record: number | null, reason: string, text: string | null = null): void {
    this.bad++;
    const where = record === null ? file : `${file}:${record}`;
    if (this.badExamples.length < 5)
      this.badExamples.push(`${where}: ${reason}${text === null ? "" : `: ${quote(text)}`}`);
    this.onReject({ file, record, reason, text });
  }

  /** A wrong field name spoils every line: to be said early, not after an hour. */
  checkEarly(): void {
    if (this.bad >= 1000) this.checkBadShare();
  }

  /** @throws ThalwegError BAD_INPUT when more than the stated share was bad */
  checkBadShare(): void {
    const seen = this.bad + this.documents + this.duplicates + this.empty;
    if (this.bad === 0 || this.bad <= this.maxBadShare * seen) return;
    const share = ((100 * this.bad) / seen).toPrecision(3);
    const examples = this.badExamples.map((example) => `\n  ${example}`).join("");
    throw new ThalwegError(
      "BAD_INPUT",
      `${this.bad} of ${seen} documents (${share}%) cannot be read, more than the ${100 * this.maxBadShare}% allowed:${examples}`,
    );
  }

  /** Everything counted so far, to go on from later with `restore`. */
  counts(): ReadCounts & { badExamples: string[] } {
    const { files, documents, duplicates, empty, bad } = this;
    return { files, documents, duplicates, empty, bad, badExamples: [...this.badExamples] };
  }

  restore(saved: ReturnType<ReadReport["counts"]>): void {
    for (const name of countNames) this[name] = saved[name];
    this.badExamples.splice(0, this.badExamples.length, ...saved.badExamples);
  }
}

/** The beginning of something, on one line. */
export function quote(text: string): string {
  return text.length > 80 ? `${text.slice(0, 80)}...` : text;
}

const decoder = new TextDecoder("utf-8", { fatal: true });

/** The text of UTF-8 bytes, a byte-order mark dropped; null when they are not UTF-8. */
export function decodeUtf8(bytes: Uint8Array): string | null {
  try {
    return decoder.decode(bytes);
  } catch {
    return null;
  }
}
