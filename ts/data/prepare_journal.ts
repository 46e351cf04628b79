import { type FileHandle, mkdir, open, readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { writeAll, writeFileAtomic } from "../base/files.ts";
import type { Place, ReadReport } from "./documents.ts";
import type { Prefix } from "./readers/bytes.ts";
import { sha256 } from "./shard_format.ts";
import type { DatasetProgress } from "./shards.ts";
import type { Part } from "./split.ts";

/** Where preparing stands between two batches of documents. */
export interface Snapshot {
  readonly place: Place;
  readonly prefix: Prefix;
  readonly counts: ReturnType<ReadReport["counts"]>;
  /** Bytes of text met, validation included. */
  readonly textBytes: number;
  /** Lengths of the files that are only appended to. */
  readonly lengths: Readonly<Record<AppendedFile, number>>;
  /** Keys of documents that stay remembered for ever: the first ones of the keys. */
  readonly pinnedKeys: number;
}

interface JournalEntry {
  readonly version: 1;
  readonly fingerprint: string;
  readonly snapshot: Snapshot;
  readonly writers: Readonly<Record<Part, DatasetProgress>>;
}

/** inputs.jsonl: files read; rejects.jsonl: what could not be used; keys.bin: hashes of the documents so far. */
const appendedFiles = { inputs: "inputs.jsonl", rejects: "rejects.jsonl", keys: "keys.bin" } as const;
type AppendedFile = keyof typeof appendedFiles;
const journalFile = "journal.json";

/**
 * What `prepare` writes beside the shards so that it can go on after a kill: files that are appended to, and a journal
 * that says how far they and the shards are whole.
 */
export class PrepareJournal {
  /** Whether anything has been committed: a later run can go on from there. */
  committed = false;
  private readonly folder: string;
  private readonly fingerprint: string;
  private readonly files = new Map<AppendedFile, Appender>();

  /** @param content what decides the result: a journal of anything else is not taken up */
  constructor(folder: string, content: unknown) {
    this.folder = folder;
    this.fingerprint = sha256(JSON.stringify(content)).toString("hex");
  }

  /** The last commit of an interrupted run with the same content; null when there is none. */
  async load(): Promise<JournalEntry | null> {
    try {
      const entry = JSON.parse(await readFile(join(this.folder, journalFile), "utf8")) as JournalEntry;
      return entry.version === 1 && entry.fingerprint === this.fingerprint ? entry : null;
    } catch {
      return null;
    }
  }

  /** Opens the files, at these lengths or empty. False when they no longer hold that much. */
  async open(at: Snapshot | null): Promise<boolean> {
    await mkdir(this.folder, { recursive: true });
    for (const name of Object.keys(appendedFiles) as AppendedFile[]) {
      const file = await Appender.open(join(this.folder, appendedFiles[name]), at?.lengths[name] ?? 0);
      if (file === null) return false;
      this.files.set(name, file);
    }
    this.committed = at !== null;
    return true;
  }

  append(name: AppendedFile, content: string | Uint8Array): void {
    this.files.get(name)!.append(content);
  }

  lengths(): Snapshot["lengths"] {
    const of = (name: AppendedFile) => this.files.get(name)!.length;
    return { inputs: of("inputs"), rejects: of("rejects"), keys: of("keys") };
  }

  /** Keys of documents [from, to), in the order in which they were met. */
  async keys(from: number, to: number): Promise<BigUint64Array> {
    const keys = new BigUint64Array(to - from);
    await this.files.get("keys")!.read(new Uint8Array(keys.buffer), 8 * from);
    return keys;
  }

  /** The shards are safe on disk up to `writers`; makes the rest safe, then says so. */
  async commit(snapshot: Snapshot, writers: JournalEntry["writers"]): Promise<void> {
    for (const file of this.files.values()) await file.sync();
    const entry: JournalEntry = { version: 1, fingerprint: this.fingerprint, snapshot, writers };
    await writeFileAtomic(join(this.folder, journalFile), JSON.stringify(entry));
    this.committed = true;
  }

  /** SHA-256 (hex) of inputs.jsonl. */
  async inputsHash(): Promise<string> {
    await this.files.get("inputs")!.sync();
    return sha256(await readFile(join(this.folder, appendedFiles.inputs))).toString("hex");
  }

  /** All is written: what stays are inputs.jsonl, and rejects.jsonl where there were any. */
  async finish(): Promise<void> {
    const { rejects } = this.lengths();
    for (const file of this.files.values()) await file.sync();
    await this.close();
    for (const name of [journalFile, appendedFiles.keys, ...(rejects === 0 ? [appendedFiles.rejects] : [])])
      await rm(join(this.folder, name), { force: true });
  }

  async close(): Promise<void> {
    for (const file of this.files.values()) await file.close();
    this.files.clear();
  }
}

/** A file that only grows; what was appended waits in memory until `sync`, or until it is much. */
class Appender {
  /** With what still waits. */
  length: number;
  private readonly handle: FileHandle;
  private written: number;
  private waiting: Buffer[] = [];
  private writing: Promise<void> = Promise.resolve();

  private constructor(handle: FileHandle, length: number) {
    this.handle = handle;
    this.length = length;
    this.written = length;
  }

  static async open(path: string, length: number): Promise<Appender | null> {
    const handle = await open(path, length === 0 ? "w+" : "r+").catch(() => null);
    if (handle === null) return null;
    if ((await handle.stat()).size < length) {
      await handle.close();
      return null;
    }
    await handle.truncate(length);
    return new Appender(handle, length);
  }

  append(content: string | Uint8Array): void {
    const bytes = Buffer.from(content as string);
    this.waiting.push(bytes);
    this.length += bytes.length;
    if (this.waiting.length >= 4096) this.writing = this.writing.then(() => this.write());
  }

  async read(into: Uint8Array, position: number): Promise<void> {
    await this.handle.read(into, 0, into.length, position);
  }

  async sync(): Promise<void> {
    this.writing = this.writing.then(() => this.write());
    await this.writing;
    await this.handle.sync();
  }

  async close(): Promise<void> {
    await this.writing.catch(() => undefined);
    await this.handle.close();
  }

  private async write(): Promise<void> {
    const bytes = Buffer.concat(this.waiting);
    this.waiting = [];
    await writeAll(this.handle, bytes, this.written);
    this.written += bytes.length;
  }
}
