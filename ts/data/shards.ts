import { open } from "node:fs/promises";
import { join } from "node:path";
import { writeFileAtomic } from "../base/files.ts";
import { sha256, type TokenType, tokenTypeFor } from "./shard_format.ts";
import { removeCommits, type ShardProgress, ShardWriter, type WrittenShard } from "./shard_writer.ts";
import type { Tokenizer } from "./tokenizers/index.ts";

/** One line of dataset.json's list of shards. */
export interface ShardEntry extends WrittenShard {
  readonly file: string;
  /** A shard of float32 beside it: the true entropy of each token given what came before, in nats. */
  readonly entropy?: { readonly file: string; readonly bytes: number; readonly hash: string };
}

/** Where the text came from and how it was split; for people and for `data inspect`. */
export interface Provenance {
  readonly inputs: readonly string[];
  readonly options: Readonly<Record<string, unknown>>;
  readonly counts: Readonly<Record<string, number>>;
  readonly split: { readonly by: string; readonly fraction: number; readonly seed: number };
  /** SHA-256 (hex) of inputs.jsonl, which names every file read with its size and SHA-256; null for generated data. */
  readonly inputsHash: string | null;
}

/** Token ids, of whatever width. */
export type TokenArray = Int32Array | Uint16Array | Uint32Array;

/** What a dataset's tokens mean. */
export type TokenizerFacts = Pick<Tokenizer, "name" | "hash" | "vocabSize" | "eos">;

/** dataset.json. */
export interface DatasetManifest extends Provenance {
  readonly format: "thalweg-dataset";
  readonly version: typeof manifestVersion;
  readonly name: string;
  readonly tokenizer: TokenizerFacts;
  readonly tokenType: TokenType;
  readonly tokens: number;
  readonly documents: number;
  readonly textBytes: number;
  readonly shards: readonly ShardEntry[];
  /** SHA-256 (hex) of the tokenizer's hash and the shards' hashes: equal means the same tokens in the same order. */
  readonly identity: string;
  /** SHA-256 (hex) of this object without this field. */
  readonly checksum: string;
}

export const manifestFile = "dataset.json";
/** 2: hashes of the inputs, streams beside the tokens. */
export const manifestVersion = 2;
/** Bounds the memory of a shard's document index; the shard is closed at so many. */
const shardDocuments = 2 ** 22;

/** The checksum a manifest must carry. */
export function manifestChecksum(manifest: Omit<DatasetManifest, "checksum">): string {
  return sha256(JSON.stringify(manifest)).toString("hex");
}

export function datasetIdentity(tokenizerHash: string, shards: readonly ShardEntry[]): string {
  return sha256(["thalweg dataset 1", tokenizerHash, ...shards.map((shard) => shard.hash)].join("\n")).toString("hex");
}

export const shardName = (index: number): string => `shard-${String(index).padStart(5, "0")}.bin`;
export const entropyName = (shard: string): string => shard.replace(/\.bin$/, ".entropy.bin");

/** Where a DatasetWriter stands after a commit; plain JSON. */
export interface DatasetProgress {
  readonly shards: readonly ShardEntry[];
  readonly tokens: number;
  readonly documents: number;
  readonly textBytes: number;
  readonly current: ShardProgress | null;
}

export interface DatasetWriterOptions {
  /** Tokens of a shard, about: a document is never cut. */
  readonly shardTokens: number;
  /** Also keep the entropy of each token. Default false. */
  readonly entropy?: boolean;
}

/**
 * Writes documents of tokens into shards and dataset.json last. Each file is written under a temporary name, synced and
 * renamed.
 */
export class DatasetWriter {
  private readonly folder: string;
  private readonly name: string;
  private readonly tokenizer: Tokenizer;
  private readonly options: DatasetWriterOptions;
  private readonly shards: ShardEntry[] = [];
  private cleaned = 0;
  private current: { tokens: ShardWriter; entropy: ShardWriter | null } | null = null;
  tokens = 0;
  documents = 0;
  textBytes = 0;

  constructor(folder: string, name: string, tokenizer: Tokenizer, options: DatasetWriterOptions) {
    this.folder = folder;
    this.name = name;
    this.tokenizer = tokenizer;
    this.options = options;
  }

  /**
   * Adds one document, `end` (if not null) after its tokens. `entropy` has one value for each token, without the end:
   * the end's is 0.
   */
  async add(tokens: TokenArray, end: number | null, textBytes: number, entropy?: Float32Array): Promise<void> {
    const shard = (this.current ??= await this.newShard());
    await shard.tokens.add(tokens, end);
    shard.tokens.endDocument();
    if (shard.entropy) await shard.entropy.add(entropy!, end === null ? null : 0);
    this.tokens += tokens.length + (end === null ? 0 : 1);
    this.documents++;
    this.textBytes += textBytes;
    if (shard.tokens.tokens >= this.options.shardTokens || shard.tokens.documents >= shardDocuments)
      await this.closeShard();
  }

  /** Makes everything added so far survive a crash; only for datasets without entropies. */
  async commit(): Promise<DatasetProgress> {
    const { shards, tokens, documents, textBytes } = this;
    const current = (await this.current?.tokens.commit()) ?? null;
    await this.removeCommits();
    return { shards: [...shards], tokens, documents, textBytes, current };
  }

  /** Goes on from a commit. False when the files no longer hold that much; the writer is of no use then. */
  async resume(progress: DatasetProgress): Promise<boolean> {
    this.shards.push(...progress.shards);
    this.tokens = progress.tokens;
    this.documents = progress.documents;
    this.textBytes = progress.textBytes;
    if (progress.current === null) return true;
    const path = join(this.folder, shardName(this.shards.length));
    const tokens = await ShardWriter.resume(
      path,
      this.headerOf(tokenTypeFor(this.tokenizer.vocabSize)),
      progress.current,
    );
    if (tokens) this.current = { tokens, entropy: null };
    return tokens !== null;
  }

  /** Closes the last shard and writes dataset.json and the tokenizer's files. */
  async finish(provenance: Provenance): Promise<DatasetManifest> {
    if (this.current) await this.closeShard();
    await this.removeCommits();
    const { name, tokenizer, tokens, documents, textBytes, shards } = this;
    const totals = { tokens, documents, textBytes };
    return writeManifest(this.folder, { name, tokenizer, ...totals, ...provenance, shards }, tokenizer.files());
  }

  /** Closes what a failure left open; what was written stays incomplete. */
  async close(): Promise<void> {
    await this.current?.tokens.close();
    await this.current?.entropy?.close();
    this.current = null;
  }

  /** Files of commits of shards that were finished: an earlier journal may need them until now. */
  private async removeCommits(): Promise<void> {
    for (; this.cleaned < this.shards.length; this.cleaned++)
      await removeCommits(join(this.folder, shardName(this.cleaned)));
  }

  private headerOf<T extends TokenType | "float32">(type: T) {
    return { type, vocabSize: this.tokenizer.vocabSize, tokenizerHash: this.tokenizer.hash };
  }

  private async newShard() {
    const file = shardName(this.shards.length);
    const type = tokenTypeFor(this.tokenizer.vocabSize);
    const tokens = await ShardWriter.create(join(this.folder, file), this.headerOf(type));
    const path = join(this.folder, entropyName(file));
    return { tokens, entropy: this.options.entropy ? await ShardWriter.create(path, this.headerOf("float32")) : null };
  }

  private async closeShard(): Promise<void> {
    const { tokens, entropy } = this.current!;
    const file = shardName(this.shards.length);
    const written = await tokens.finish();
    const beside = await entropy?.finish();
    await this.close();
    this.shards.push({
      file,
      ...written,
      ...(beside ? { entropy: { file: entropyName(file), bytes: beside.bytes, hash: beside.hash } } : {}),
    });
  }
}

/** Writes dataset.json over shards that lie in the folder, and the files of the tokenizer. */
export async function writeManifest(
  folder: string,
  content: Omit<DatasetManifest, "format" | "version" | "tokenType" | "identity" | "checksum">,
  tokenizerFiles: Readonly<Record<string, string>>,
): Promise<DatasetManifest> {
  for (const [file, text] of Object.entries(tokenizerFiles)) await writeFileAtomic(join(folder, file), text);
  const { name, tokenizer, tokens, documents, textBytes, shards, ...provenance } = content;
  const { hash, vocabSize, eos } = tokenizer;
  const body: Omit<DatasetManifest, "checksum"> = {
    format: "thalweg-dataset",
    version: manifestVersion,
    name,
    tokenizer: { name: tokenizer.name, hash, vocabSize, eos },
    tokenType: tokenTypeFor(vocabSize),
    tokens,
    documents,
    textBytes,
    ...provenance,
    shards,
    identity: datasetIdentity(hash, shards),
  };
  const manifest = { ...body, checksum: manifestChecksum(body) };
  await writeFileAtomic(join(folder, manifestFile), `${JSON.stringify(manifest, null, 2)}\n`);
  await syncFolder(folder);
  return manifest;
}

/** Makes renames in a folder durable; not every system can sync a folder. */
export async function syncFolder(folder: string): Promise<void> {
  const handle = await open(folder, "r").catch(() => null);
  await handle?.sync().catch(() => undefined);
  await handle?.close();
}
