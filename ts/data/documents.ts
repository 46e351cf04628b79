import { createHash } from "node:crypto";
import { ThalwegError } from "../base/errors.ts";

/** One text to learn from. */
export interface Document {
  /** Stable name, relative to the input: "books/emma.txt", "part-00.jsonl:17", "packages/zod/README.md". */
  readonly id: string;
  readonly text: string;
  /** The file it came from. */
  readonly source: string;
  /** What must not be torn apart by a split: the package of a file; otherwise the id. */
  readonly group: string;
}

/** A file to read documents from. */
export interface InputFile {
  readonly path: string;
  /** Path relative to the input, with "/" on every system; ids are made of it. */
  readonly name: string;
  readonly bytes: number;
  readonly group?: string;
}

/** What reading met; filled in as documents are read. */
export class ReadReport {
  files = 0;
  bytesDone = 0;
  documents = 0;
  duplicates = 0;
  empty = 0;
  /** Lines or files that could not be used. */
  bad = 0;
  /** The first few of them, as file:line and reason. */
  readonly badExamples: string[] = [];
  private readonly maxBadShare: number;

  constructor(maxBadShare: number) {
    this.maxBadShare = maxBadShare;
  }

  addBad(where: string, reason: string): void {
    this.bad++;
    if (this.badExamples.length < 5) this.badExamples.push(`${where}: ${reason}`);
    // A wrong field name spoils every line: say so early, not after an hour.
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
}

/** Remembers documents by the first 16 bytes of their SHA-256: about 80 bytes of memory for each. */
export class Deduplicator {
  private readonly seen = new Set<string>();

  /** True the first time a text is met. */
  isNew(text: string): boolean {
    const digest = createHash("sha256").update(text).digest().toString("latin1", 0, 16);
    if (this.seen.has(digest)) return false;
    this.seen.add(digest);
    return true;
  }
}

const decoder = new TextDecoder("utf-8", { fatal: true });

/** The text of UTF-8 bytes, a byte-order mark dropped; null when they are not UTF-8. */
export function decodeUtf8(bytes: Buffer): string | null {
  try {
    return decoder.decode(bytes);
  } catch {
    return null;
  }
}
