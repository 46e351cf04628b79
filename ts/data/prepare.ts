import { createHash } from "node:crypto";
import { mkdir, readdir, rename, rm, stat } from "node:fs/promises";
import { basename, dirname, join, resolve } from "node:path";
import { ThalwegError } from "../base/errors.ts";
import { type Document, type InputFile, ReadReport } from "./documents.ts";
import { listFiles, type ReadOptions, readDocuments } from "./readers.ts";
import { type DatasetManifest, DatasetWriter, type Provenance, syncFolder } from "./shards.ts";
import { loadTokenizer, type Tokenizer } from "./tokenizers/index.ts";

export interface PrepareOptions extends ReadOptions {
  /** Files, folders, globs, `packages:node_modules`. */
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
  readonly signal?: AbortSignal;
  readonly onProgress?: (progress: PrepareProgress) => void;
}

export interface PrepareProgress {
  readonly bytesDone: number;
  readonly bytesTotal: number;
  readonly documents: number;
  readonly tokens: number;
  readonly seconds: number;
}

export interface PrepareSummary {
  readonly output: string;
  readonly train: DatasetManifest;
  /** Null when no validation was asked for. */
  readonly validation: DatasetManifest | null;
  readonly report: ReadReport;
  readonly seconds: number;
}

const parts = ["train", "validation"] as const;
type Part = (typeof parts)[number];

/**
 * Turns text into token shards: output/train and output/validation. The same inputs and options give the same bytes. All
 * is written in a folder beside `output` that takes its name at the end, so a run killed at any moment leaves no half
 * dataset; the next run clears what it left.
 * @throws ThalwegError BAD_OPTION, BAD_INPUT
 */
export async function prepare(options: PrepareOptions): Promise<PrepareSummary> {
  const started = performance.now();
  const output = resolve(options.output);
  checkOptions(options);
  if (!options.overwrite && (await exists(output)))
    throw new ThalwegError(
      "BAD_OPTION",
      `output ${options.output} exists: choose another, remove it, or allow overwriting`,
    );
  const tokenizer = typeof options.tokenizer === "string" ? loadTokenizer(options.tokenizer) : options.tokenizer;
  await removeLeftovers(output);
  const partial = `${output}.partial-${process.pid}`;
  try {
    const job = new PrepareJob(options, tokenizer, partial, started);
    const made = await job.run();
    const replaced = options.overwrite && (await exists(output));
    if (replaced) await rename(output, `${partial}-replaced`);
    await rename(partial, output);
    await syncFolder(dirname(output));
    if (replaced) await rm(`${partial}-replaced`, { recursive: true, force: true });
    return { output, ...made, report: job.report, seconds: (performance.now() - started) / 1000 };
  } catch (error) {
    await rm(partial, { recursive: true, force: true });
    throw error;
  }
}

class PrepareJob {
  readonly report: ReadReport;
  private readonly options: PrepareOptions;
  private readonly tokenizer: Tokenizer;
  private readonly folder: string;
  private readonly started: number;
  private readonly writers: Record<Part, DatasetWriter>;
  private readonly split: Provenance["split"];
  private lastReport = 0;

  constructor(options: PrepareOptions, tokenizer: Tokenizer, folder: string, started: number) {
    this.options = options;
    this.tokenizer = tokenizer;
    this.folder = folder;
    this.started = started;
    this.report = new ReadReport(options.maxBadShare ?? 0.01);
    const writer = (part: Part) =>
      new DatasetWriter(join(folder, part), part, tokenizer, options.shardTokens ?? 2 ** 27);
    this.writers = { train: writer("train"), validation: writer("validation") };
    const packages = options.inputs.every((input) => input.startsWith("packages:"));
    this.split = {
      by: options.validationInputs ? "inputs" : (options.splitBy ?? (packages ? "group" : "document")),
      fraction: options.validationInputs ? 0 : (options.validationFraction ?? 0.05),
      seed: options.seed ?? 0,
    };
  }

  async run(): Promise<Pick<PrepareSummary, "train" | "validation">> {
    const { options } = this;
    // Validation is read first, so that a text in both is a duplicate in train and not the other way round.
    const validationFiles = await listFiles(options.validationInputs ?? [], options);
    const files = [...validationFiles, ...(await listFiles(options.inputs, options))];
    for (const part of parts) await mkdir(join(this.folder, part), { recursive: true });
    try {
      await this.readAll(files, validationFiles.length);
      this.refuseEmpty();
      const train = await this.finish("train");
      if (this.writers.validation.documents > 0) return { train, validation: await this.finish("validation") };
      await rm(join(this.folder, "validation"), { recursive: true });
      return { train, validation: null };
    } finally {
      for (const part of parts) await this.writers[part].close();
    }
  }

  private async readAll(files: readonly InputFile[], validationFiles: number): Promise<void> {
    const { options, report } = this;
    const bytesTotal = files.reduce((sum, file) => sum + file.bytes, 0);
    let textBytes = 0;
    for await (const document of readDocuments(files, options, report)) {
      options.signal?.throwIfAborted();
      const forced: Part | null = report.files <= validationFiles ? "validation" : null;
      for (const [part, text] of this.assign(document, forced)) textBytes += await this.add(part, text);
      this.progress(bytesTotal, false);
      if (report.documents >= (options.maxDocuments ?? Number.POSITIVE_INFINITY)) break;
      if (textBytes >= (options.maxBytes ?? Number.POSITIVE_INFINITY)) break;
    }
    report.checkBadShare();
    this.progress(bytesTotal, true);
  }

  private assign(document: Document, forced: Part | null): [Part, string][] {
    const { by, fraction, seed } = this.split;
    if (forced !== null || fraction === 0) return [[forced ?? "train", document.text]];
    if (by === "tail") return splitTail(document.text, fraction);
    const key = by === "group" ? document.group : document.id;
    return [[isValidation(key, fraction, seed) ? "validation" : "train", document.text]];
  }

  private async add(part: Part, text: string): Promise<number> {
    const bytes = Buffer.byteLength(text);
    const end = (this.options.appendEos ?? true) ? this.tokenizer.eos : null;
    await this.writers[part].add(this.tokenizer.encode(text), end, bytes);
    return bytes;
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

  private finish(part: Part): Promise<DatasetManifest> {
    const { options, report } = this;
    const { files, documents, duplicates, empty, bad } = report;
    return this.writers[part].finish({
      inputs: part === "validation" && options.validationInputs ? options.validationInputs : options.inputs,
      options: {
        field: options.field ?? "text",
        textSplit: options.textSplit ?? "file",
        deduplicate: options.deduplicate ?? true,
        appendEos: options.appendEos ?? true,
        maxDocuments: options.maxDocuments ?? null,
        maxBytes: options.maxBytes ?? null,
      },
      counts: { files, documents, duplicates, empty, bad },
      split: this.split,
    });
  }

  private progress(bytesTotal: number, last: boolean): void {
    const now = performance.now();
    if (!this.options.onProgress || (!last && now - this.lastReport < 100)) return;
    this.lastReport = now;
    const { train, validation } = this.writers;
    this.options.onProgress({
      bytesDone: last ? bytesTotal : this.report.bytesDone,
      bytesTotal,
      documents: train.documents + validation.documents,
      tokens: train.tokens + validation.tokens,
      seconds: (now - this.started) / 1000,
    });
  }
}

/**
 * Whether a key belongs to validation: its hash with the seed, as a number in [0, 1), is below the fraction. It depends
 * on nothing else, so adding documents moves none.
 */
export function isValidation(key: string, fraction: number, seed: number): boolean {
  const digest = createHash("sha256").update(`thalweg split 1 seed ${seed}\n${key}`).digest();
  return digest.readUIntBE(0, 6) / 2 ** 48 < fraction;
}

/** The last `fraction` of a text, from the next line on (or from there, when there is no further line). */
function splitTail(text: string, fraction: number): [Part, string][] {
  const from = Math.floor(text.length * (1 - fraction));
  const line = text.indexOf("\n", from) + 1;
  let cut = line > 0 && line < text.length ? line : from;
  // Never between the halves of a surrogate pair.
  if ((text.charCodeAt(cut) & 0xfc00) === 0xdc00) cut++;
  const pieces: [Part, string][] = [
    ["train", text.slice(0, cut)],
    ["validation", text.slice(cut)],
  ];
  return pieces.filter(([, piece]) => piece !== "");
}

function checkOptions(options: PrepareOptions): void {
  const bad = (what: string): never => {
    throw new ThalwegError("BAD_OPTION", what);
  };
  if (options.inputs.length === 0) bad("no inputs: name files, folders, globs or packages:node_modules");
  const fraction = options.validationFraction ?? 0;
  if (!(fraction >= 0 && fraction < 1)) bad(`validation fraction ${fraction} is not in [0, 1)`);
  for (const name of ["maxDocuments", "maxBytes", "shardTokens"] as const) {
    const value = options[name] ?? 1;
    if (!(value >= 1)) bad(`${name} is ${value}, expected at least 1`);
  }
}

/** Clears the partial folders of runs that are no more. */
async function removeLeftovers(output: string): Promise<void> {
  const parent = dirname(output);
  await mkdir(parent, { recursive: true });
  const prefix = `${basename(output)}.partial-`;
  for (const entry of await readdir(parent)) {
    if (!entry.startsWith(prefix)) continue;
    const pid = Number.parseInt(entry.slice(prefix.length), 10);
    if (pid !== process.pid && isAlive(pid)) continue;
    await rm(join(parent, entry), { recursive: true, force: true });
  }
}

function isAlive(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "EPERM";
  }
}

async function exists(path: string): Promise<boolean> {
  return (await stat(path).catch(() => null)) !== null;
}
