import { existsSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { fileReason, ThalwegError } from "../base/errors.ts";
import { corrupt, otherVersion } from "./shard_format.ts";
import { OpenShard } from "./shard_reader.ts";
import { type DatasetManifest, datasetIdentity, manifestChecksum, manifestFile, manifestVersion } from "./shards.ts";
import { loadTokenizer, type Tokenizer } from "./tokenizers/index.ts";

export interface OpenOptions {
  /** Also checks every byte against the checksums (about 1 GB/s). Default false: sizes, headers and tables only. */
  readonly verify?: boolean;
  /** A dataset up to this size is checked whole at its first read and kept in memory. Default 64 MiB. */
  readonly cacheBytes?: number;
}

/** A stream of tokens over shards, with its documents. Reads leave the event loop free. */
export class Dataset {
  readonly folder: string;
  readonly manifest: DatasetManifest;
  private readonly shards: readonly OpenShard[];
  private readonly entropies: readonly OpenShard[];
  private readonly reading = new Set<Promise<unknown>>();

  /** Use `openDataset`. */
  constructor(
    folder: string,
    manifest: DatasetManifest,
    shards: readonly OpenShard[],
    entropies: readonly OpenShard[],
  ) {
    this.folder = folder;
    this.manifest = manifest;
    this.shards = shards;
    this.entropies = entropies;
  }

  get tokens(): number {
    return this.manifest.tokens;
  }

  get documents(): number {
    return this.manifest.documents;
  }

  /** Equal identities mean equal tokenizer and equal shards. */
  get identity(): string {
    return this.manifest.identity;
  }

  /** The tokenizer the shards were made with, from the files beside them. */
  tokenizer(): Tokenizer {
    const tokenizer = loadTokenizer(this.folder);
    if (tokenizer.hash !== this.manifest.tokenizer.hash)
      throw corrupt(join(this.folder, "tokenizer.json"), "is not the tokenizer that made the shards");
    return tokenizer;
  }

  /** Whether the true entropy of each token is known: generated data. */
  get hasEntropy(): boolean {
    return this.entropies.length > 0;
  }

  /** Whether every shard says where its documents end. */
  get hasDocuments(): boolean {
    return this.shards.every((shard) => shard.documents > 0);
  }

  /** Tokens [start, start + count) into `out` from `at`. */
  async read(start: number, count: number, out: Int32Array, at = 0): Promise<void> {
    await this.readFrom(this.shards, start, count, out, at);
  }

  /**
   * True entropy in nats of tokens [start, start + count), each given what stands before it, into `out` from `at`.
   * @throws RangeError when it is not known
   */
  async readEntropy(start: number, count: number, out: Float32Array, at = 0): Promise<void> {
    if (!this.hasEntropy) throw new RangeError(`${this.folder} knows no entropy of its tokens`);
    await this.readFrom(this.entropies, start, count, out, at);
  }

  /** Whether all of it is kept in memory once it has been read. */
  get cached(): boolean {
    return this.shards.every((shard) => shard.cached);
  }

  /** Where tokens [start, start + count) lie on disk, shard by shard: for reads that pass by this class. */
  runs(start: number, count: number): { shard: OpenShard; start: number; count: number; before: number }[] {
    this.checkRange(start, count);
    const found = [];
    for (const shard of this.shards) {
      const from = Math.max(start, shard.first);
      const to = Math.min(start + count, shard.first + shard.elements);
      if (from < to) found.push({ shard, start: from - shard.first, count: to - from, before: from - start });
    }
    return found;
  }

  /** Keeps the files open until `reading` has settled. */
  holdFor(reading: Promise<unknown>): void {
    this.reading.add(reading);
    const settle = () => this.reading.delete(reading);
    reading.then(settle, settle);
  }

  private checkRange(start: number, count: number): void {
    if (start < 0 || start + count > this.tokens)
      throw new RangeError(`tokens ${start}..${start + count} are not in 0..${this.tokens}`);
  }

  private async readFrom(
    shards: readonly OpenShard[],
    start: number,
    count: number,
    out: Int32Array | Float32Array,
    at: number,
  ): Promise<void> {
    this.checkRange(start, count);
    for (const shard of shards) {
      const from = Math.max(start, shard.first);
      const to = Math.min(start + count, shard.first + shard.elements);
      if (from < to) await shard.read(from - shard.first, to - from, out, at + from - start);
    }
  }

  /** Tokens of document `index`, its end token included. */
  async document(index: number): Promise<Int32Array> {
    let first = 0;
    for (const shard of this.shards) {
      if (index < first + shard.documents) return shard.document(index - first);
      first += shard.documents;
    }
    throw new RangeError(`document ${index} is not in 0..${this.documents - 1}`);
  }

  /** Tokens before document `index`. */
  async documentStart(index: number): Promise<number> {
    let first = 0;
    for (const shard of this.shards) {
      if (index < first + shard.documents) return shard.first + (await shard.documentStart(index - first));
      first += shard.documents;
    }
    return this.tokens;
  }

  /** Checks every byte. @throws ThalwegError CORRUPT_DATA naming the file and the damaged place */
  async verify(): Promise<void> {
    for (const shard of [...this.shards, ...this.entropies]) await shard.verify();
  }

  async close(): Promise<void> {
    await Promise.allSettled(this.reading);
    await Promise.all([...this.shards, ...this.entropies].map((shard) => shard.close()));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}

/** What `data prepare` makes of its output. */
const partNames = ["train", "validation"];

/** The datasets that a folder is or, as `data prepare` makes it, holds: train/ and validation/. */
export function datasetsIn(folder: string): string[] {
  const there = (path: string) => existsSync(join(path, manifestFile));
  if (there(folder)) return [folder];
  return partNames.map((part) => join(folder, part)).filter(there);
}

/**
 * Opens a prepared dataset (a folder with dataset.json).
 * @throws ThalwegError BAD_INPUT when there is none; CORRUPT_DATA naming the file that is torn, truncated, damaged, of
 * another dataset, tokenizer or version
 */
export async function openDataset(folder: string, options: OpenOptions = {}): Promise<Dataset> {
  const manifest = await readManifest(folder);
  const total = manifest.shards.reduce((sum, shard) => sum + shard.bytes, 0);
  const cached = total <= (options.cacheBytes ?? 64 * 2 ** 20);
  const shards: OpenShard[] = [];
  const entropies: OpenShard[] = [];
  const expected = { tokenizerHash: manifest.tokenizer.hash, cached };
  try {
    let first = 0;
    for (const { file, hash, tokens, entropy } of manifest.shards) {
      const type = manifest.tokenType;
      shards.push(await OpenShard.open(join(folder, file), { ...expected, type, hash, first }));
      if (entropy) {
        const path = join(folder, entropy.file);
        entropies.push(await OpenShard.open(path, { ...expected, type: "float32", hash: entropy.hash, first }));
      }
      first += tokens;
    }
    const dataset = new Dataset(folder, manifest, shards, entropies);
    if (options.verify) await dataset.verify();
    return dataset;
  } catch (error) {
    await Promise.all([...shards, ...entropies].map((shard) => shard.close()));
    throw error;
  }
}

/** Why no manifest could be read, and what to do. */
function whatIsThere(folder: string, cause: unknown): string {
  const parts = datasetsIn(folder).filter((part) => part !== folder);
  if (parts.length > 0) return `it holds ${parts.join(" and ")}; name one of them.`;
  const reason = existsSync(folder) ? `${manifestFile}: ${fileReason(cause) ?? cause}` : "there is no such folder";
  const whole = partNames.includes(basename(folder)) ? dirname(folder) : folder;
  return `${reason}. Make it with \`thalweg data prepare TEXT.. --out ${whole}\`, or name another.`;
}

async function readManifest(folder: string): Promise<DatasetManifest> {
  const path = join(folder, manifestFile);
  let text: string;
  try {
    text = await readFile(path, "utf8");
  } catch (cause) {
    throw new ThalwegError("BAD_INPUT", `${folder} is not a prepared dataset: ${whatIsThere(folder, cause)}`, {
      cause,
    });
  }
  let manifest: DatasetManifest;
  try {
    manifest = JSON.parse(text) as DatasetManifest;
  } catch (cause) {
    throw corrupt(path, "is torn or damaged: it is not JSON", cause);
  }
  if (manifest?.format !== "thalweg-dataset") throw corrupt(path, "is foreign: it does not describe a Thalweg dataset");
  const { checksum, ...body } = manifest;
  if (checksum !== manifestChecksum(body)) throw corrupt(path, "is damaged or was edited: its checksum does not match");
  if (manifest.version !== manifestVersion)
    throw otherVersion(path, `has version ${manifest.version}; this build reads version ${manifestVersion}`);
  if (manifest.identity !== datasetIdentity(manifest.tokenizer.hash, manifest.shards))
    throw corrupt(path, "names shards that do not make up its identity");
  return manifest;
}
