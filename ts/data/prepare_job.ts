import { mkdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { ThalwegError } from "../base/errors.ts";
import { Deduplicator } from "./deduplicate.ts";
import { type Document, type InputFile, ReadReport } from "./documents.ts";
import { PrepareJournal, type Snapshot } from "./prepare_journal.ts";
import { type DocumentBatch, defaultMaxRecordBytes, type ReadOptions, readBatches } from "./readers/index.ts";
import { type DatasetManifest, DatasetWriter, type Provenance } from "./shards.ts";
import { isValidation, type Part, parts, splitTail } from "./split.ts";
import type { TokenBatch, Tokenizer } from "./tokenizers/index.ts";

export interface PrepareOptions extends ReadOptions {
  /** Files, folders, globs, `packages:node_modules`, `-` for standard input. */
  readonly inputs: readonly string[];
  /** Text for validation of its own; then nothing is split off `inputs`. */
  readonly validationInputs?: readonly string[];
  /** Folder to make: train/ and validation/ appear in it together, or not at all. */
  readonly output: string;
  /** A spec of `loadTokenizer` or a tokenizer. */
  readonly tokenizer: string | Tokenizer;
  /** Share of validation, 0 for none. Default 0.05. */
  readonly validationFraction?: number;
  /**
   * What is kept whole by the split: a document, a group (a package), or "tail": the end of every document is for
   * validation (for a few long texts). Default: group for packages, document otherwise.
   */
  readonly splitBy?: "document" | "group" | "tail";
  readonly seed?: number;
  /** Stop after so many documents, or bytes of text. */
  readonly maxDocuments?: number;
  readonly maxBytes?: number;
  /** End each document with <|endoftext|>. Default true. */
  readonly appendEos?: boolean;
  /** Tokens of a shard, about. Default 2^27. */
  readonly shardTokens?: number;
  /** Replace an existing output. Default false. */
  readonly overwrite?: boolean;
  /** Drop what an interrupted run left, instead of going on from there. Default false. */
  readonly restart?: boolean;
  /** Seconds between the points that a killed run can be taken up from. Default 15. */
  readonly commitSeconds?: number;
  /** Bytes of text encoded at once. Default 4 MiB. */
  readonly batchBytes?: number;
  /** Aborting it commits what has been done, so that the same command goes on from there. */
  readonly signal?: AbortSignal;
  readonly onProgress?: (progress: PrepareProgress) => void;
}

export interface PrepareProgress {
  readonly bytesDone: number;
  /** 0 when it is not known (standard input). */
  readonly bytesTotal: number;
  /** Where this run began: more than 0 when it went on from an interrupted one. */
  readonly bytesAtStart: number;
  readonly documents: number;
  readonly tokens: number;
  readonly seconds: number;
  readonly done: boolean;
}

export interface PrepareSummary {
  readonly output: string;
  readonly train: DatasetManifest;
  /** Null when no validation was asked for. */
  readonly validation: DatasetManifest | null;
  readonly report: ReadReport;
  /** Whether an interrupted run was taken up. */
  readonly resumed: boolean;
  readonly seconds: number;
}

const defaultBatchBytes = 4 * 2 ** 20;
/** Batches being encoded while the next one is read: two keep every thread of the tokenizer busy. */
const batchesAhead = 2;

interface Pending {
  readonly part: Part;
  readonly bytes: Buffer;
}

interface Submitted {
  readonly texts: readonly Pending[];
  readonly ids: Promise<TokenBatch>;
  /** Where reading stands after these texts; null after the last ones. */
  readonly snapshot: Snapshot | null;
}

/** One run of `prepare`: documents -> parts -> token ids -> shards, in the order of the inputs. */
export class PrepareJob {
  readonly report: ReadReport;
  /** Whether it went on from an interrupted run. */
  resumed = false;
  private readonly options: PrepareOptions;
  private readonly tokenizer: Tokenizer;
  private readonly files: readonly InputFile[];
  private readonly validationFiles: number;
  private readonly folder: string;
  private readonly journal: PrepareJournal;
  private readonly split: Provenance["split"];
  private readonly started = performance.now();
  private writers: Record<Part, DatasetWriter>;
  private seen: Deduplicator | null;
  private pending: Pending[] = [];
  private pendingBytes = 0;
  private submitted: Submitted[] = [];
  private textBytes = 0;
  private pinnedKeys = 0;
  private bytesAtStart = 0;
  private lastReport = 0;
  private lastCommit = performance.now();

  /** @param validationFiles so many of the first files are for validation alone */
  constructor(
    options: PrepareOptions,
    tokenizer: Tokenizer,
    files: readonly InputFile[],
    validationFiles: number,
    folder: string,
  ) {
    this.options = options;
    this.tokenizer = tokenizer;
    this.files = files;
    this.validationFiles = validationFiles;
    this.folder = folder;
    this.split = splitOf(options);
    const names = files.map((file) => file.path);
    const content = { ...this.settings(), names, validationFiles, tokenizer: tokenizer.hash, split: this.split };
    this.journal = new PrepareJournal(folder, content);
    this.report = new ReadReport(options.maxBadShare ?? 0.01, (reject) =>
      this.journal.append("rejects", `${JSON.stringify(reject)}\n`),
    );
    this.seen = this.newDeduplicator();
    this.writers = this.newWriters();
  }

  async run(): Promise<Pick<PrepareSummary, "train" | "validation">> {
    try {
      const from = await this.begin();
      await this.readAll(from);
      this.refuseEmpty();
      const train = await this.finish("train");
      const validation = this.writers.validation.documents > 0 ? await this.finish("validation") : null;
      if (validation === null) await rm(join(this.folder, "validation"), { recursive: true });
      await this.journal.finish();
      return { train, validation };
    } finally {
      for (const part of parts) await this.writers[part].close();
      await this.journal.close();
    }
  }

  /** Whether a later run can go on from what this one wrote. */
  get canResume(): boolean {
    return this.journal.committed && this.files.every((file) => file.path !== "-");
  }

  private newDeduplicator(): Deduplicator | null {
    return (this.options.deduplicate ?? true) ? new Deduplicator() : null;
  }

  private newWriters(): Record<Part, DatasetWriter> {
    const shardTokens = this.options.shardTokens ?? 2 ** 27;
    const writer = (part: Part) => new DatasetWriter(join(this.folder, part), part, this.tokenizer, { shardTokens });
    return { train: writer("train"), validation: writer("validation") };
  }

  /** Takes up an interrupted run, or clears what it left. */
  private async begin(): Promise<Snapshot | null> {
    const entry = await this.journal.load();
    if (entry && (await this.takeUp(entry))) {
      this.resumed = true;
      return entry.snapshot;
    }
    await this.journal.close();
    for (const part of parts) await this.writers[part].close();
    await rm(this.folder, { recursive: true, force: true });
    for (const part of parts) await mkdir(join(this.folder, part), { recursive: true });
    this.writers = this.newWriters();
    this.seen = this.newDeduplicator();
    await this.journal.open(null);
    return null;
  }

  private async takeUp(entry: NonNullable<Awaited<ReturnType<PrepareJournal["load"]>>>): Promise<boolean> {
    const { snapshot, writers } = entry;
    if (!(await this.journal.open(snapshot))) return false;
    for (const part of parts) if (!(await this.writers[part].resume(writers[part]))) return false;
    this.report.restore(snapshot.counts);
    this.report.bytesDone = this.files.slice(0, snapshot.place.file).reduce((sum, file) => sum + file.bytes, 0);
    this.bytesAtStart = this.report.bytesDone + snapshot.prefix.bytes;
    this.textBytes = snapshot.textBytes;
    this.pinnedKeys = snapshot.pinnedKeys;
    const keys = (from: number, to: number) => this.journal.keys(from, to);
    await this.seen?.replay(keys, snapshot.lengths.keys / 8, snapshot.pinnedKeys);
    return true;
  }

  private async readAll(from: Snapshot | null): Promise<void> {
    const { options, report, seen, files } = this;
    const onFile = (file: object) => this.journal.append("inputs", `${JSON.stringify(file)}\n`);
    const state = { report, seen, pinned: this.validationFiles, onFile, ...(from ? { from } : {}) };
    for await (const batch of readBatches(files, options, state)) {
      if (options.signal?.aborted) await this.interrupt();
      if (this.take(batch)) {
        const { path: file, bytes } = files[batch.after.file]!;
        onFile({ file, bytes, sha256: null });
        break;
      }
      if (this.pendingBytes >= (options.batchBytes ?? defaultBatchBytes)) await this.submit(batch);
      this.progress(false);
    }
    await this.submit(null);
    while (this.submitted.length > 0) await this.writeOldest();
    report.checkBadShare();
    this.progress(true);
  }

  private enough(): boolean {
    const { maxDocuments = Number.POSITIVE_INFINITY, maxBytes = Number.POSITIVE_INFINITY } = this.options;
    return this.report.documents >= maxDocuments || this.textBytes >= maxBytes;
  }

  /** Puts documents in line to be encoded; true when no more are wanted. */
  private take({ documents, after }: DocumentBatch): boolean {
    const { report, options } = this;
    const forced = after.file < this.validationFiles ? ("validation" as const) : null;
    // All of them were counted when they were read; a limit may leave some out.
    report.documents -= documents.length;
    for (const document of documents) {
      report.documents++;
      if (document.key !== null) this.journal.append("keys", keyBytes(document.key));
      if (forced) this.pinnedKeys++;
      for (const piece of this.assign(document, forced)) {
        this.pending.push(piece);
        this.pendingBytes += piece.bytes.length;
        this.textBytes += piece.bytes.length;
      }
      if ((options.maxDocuments !== undefined || options.maxBytes !== undefined) && this.enough()) return true;
    }
    return false;
  }

  private assign(document: Document, forced: Part | null): Pending[] {
    const { by, fraction, seed } = this.split;
    if (forced !== null || fraction === 0) return [{ part: forced ?? "train", bytes: document.utf8 }];
    if (by === "tail")
      return splitTail(document.text, fraction).map(([part, text]) => ({ part, bytes: Buffer.from(text) }));
    const key = by === "group" ? document.group : document.id;
    return [{ part: isValidation(key, fraction, seed) ? "validation" : "train", bytes: document.utf8 }];
  }

  /** Starts encoding what is pending; waits while enough is under way. */
  private async submit(batch: DocumentBatch | null): Promise<void> {
    if (this.pending.length === 0) return;
    const ids = this.tokenizer.encodeBatch(this.pending.map((text) => text.bytes));
    ids.catch(() => undefined); // awaited in its turn: until then a failure must not count as unhandled
    this.submitted.push({ texts: this.pending, ids, snapshot: batch && this.snapshot(batch) });
    this.pending = [];
    this.pendingBytes = 0;
    while (this.submitted.length > batchesAhead) {
      const written = await this.writeOldest();
      const due = performance.now() - this.lastCommit >= 1000 * (this.options.commitSeconds ?? 15);
      if (due && written) await this.commit(written);
    }
  }

  private snapshot({ after, prefix }: DocumentBatch): Snapshot {
    const { textBytes, pinnedKeys } = this;
    const lengths = this.journal.lengths();
    return { place: after, prefix, counts: this.report.counts(), textBytes, lengths, pinnedKeys };
  }

  private async writeOldest(): Promise<Snapshot | null> {
    const { texts, ids, snapshot } = this.submitted.shift()!;
    const { ids: tokens, offsets } = await ids;
    const end = (this.options.appendEos ?? true) ? this.tokenizer.eos : null;
    for (const [i, { part, bytes }] of texts.entries())
      await this.writers[part].add(tokens.subarray(offsets[i], offsets[i + 1]), end, bytes.length);
    return snapshot;
  }

  private async commit(snapshot: Snapshot): Promise<void> {
    const [train, validation] = [await this.writers.train.commit(), await this.writers.validation.commit()];
    await this.journal.commit(snapshot, { train, validation });
    this.lastCommit = performance.now();
  }

  /** A signal: what has been encoded is kept, so that the same command goes on from there. */
  private async interrupt(): Promise<void> {
    let last: Snapshot | null = null;
    while (this.submitted.length > 0) last = await this.writeOldest();
    if (last) await this.commit(last);
    this.options.signal!.throwIfAborted();
  }

  private refuseEmpty(): void {
    const { train, validation } = this.writers;
    const { by, fraction } = this.split;
    const documents = train.documents + validation.documents;
    if (documents === 0) throw new ThalwegError("BAD_INPUT", "the inputs hold no text");
    if (train.documents > 0 && (fraction === 0 || validation.documents > 0)) return;
    const empty = train.documents === 0 ? "training" : "validation";
    throw new ThalwegError(
      "BAD_INPUT",
      `the split by ${by} left no ${empty} text: ${documents} documents at a validation fraction of ${fraction}. Split the text into more documents (text split blank-line or endoftext), split by tail, name validation inputs, or choose another fraction or seed.`,
    );
  }

  private async finish(part: Part): Promise<DatasetManifest> {
    const { options, report } = this;
    const { files, documents, duplicates, empty, bad } = report;
    return this.writers[part].finish({
      inputs: part === "validation" && options.validationInputs ? options.validationInputs : options.inputs,
      options: this.settings(),
      counts: { files, documents, duplicates, empty, bad },
      split: this.split,
      inputsHash: await this.journal.inputsHash(),
    });
  }

  /** Options that decide what the shards hold, with their defaults. */
  private settings(): Record<string, unknown> {
    const { options } = this;
    return {
      field: options.field ?? "text",
      textSplit: options.textSplit ?? "file",
      deduplicate: options.deduplicate ?? true,
      appendEos: options.appendEos ?? true,
      maxRecordBytes: options.maxRecordBytes ?? defaultMaxRecordBytes,
      shardTokens: options.shardTokens ?? 2 ** 27,
      maxDocuments: options.maxDocuments ?? null,
      maxBytes: options.maxBytes ?? null,
    };
  }

  private progress(last: boolean): void {
    const now = performance.now();
    if (!this.options.onProgress || (!last && now - this.lastReport < 100)) return;
    this.lastReport = now;
    const { train, validation } = this.writers;
    const bytesTotal = this.files.reduce((sum, file) => sum + file.bytes, 0);
    this.options.onProgress({
      bytesDone: last ? bytesTotal : this.report.bytesDone,
      bytesTotal,
      bytesAtStart: this.bytesAtStart,
      documents: train.documents + validation.documents,
      tokens: train.tokens + validation.tokens,
      seconds: (now - this.started) / 1000,
      done: last,
    });
  }
}

function splitOf(options: PrepareOptions): Provenance["split"] {
  const packages = options.inputs.every((input) => input.startsWith("packages:"));
  return {
    by: options.validationInputs ? "inputs" : (options.splitBy ?? (packages ? "group" : "document")),
    fraction: options.validationInputs ? 0 : (options.validationFraction ?? 0.05),
    seed: options.seed ?? 0,
  };
}

function keyBytes(key: bigint): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(key);
  return bytes;
}
