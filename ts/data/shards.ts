import { type FileHandle, open, rename } from "node:fs/promises";
import { join } from "node:path";
import { writeAll, writeFileAtomic } from "../base/files.ts";
import {
  blockBytes,
  encodeHeader,
  headerBytes,
  layoutOf,
  type ShardHeader,
  sha256,
  type TokenType,
  tokenTypeFor,
} from "./shard_format.ts";
import type { Tokenizer } from "./tokenizers/index.ts";

/** One line of dataset.json's list of shards. */
export interface ShardEntry {
  readonly file: string;
  readonly bytes: number;
  readonly tokens: number;
  readonly documents: number;
  /** SHA-256 (hex) of header and checksum table, see shard_format.ts. */
  readonly hash: string;
}

/** Where the text came from and how it was split; for people and for `data inspect`. */
export interface Provenance {
  readonly inputs: readonly string[];
  readonly options: Readonly<Record<string, unknown>>;
  readonly counts: Readonly<Record<string, number>>;
  readonly split: { readonly by: string; readonly fraction: number; readonly seed: number };
}

/** dataset.json. */
export interface DatasetManifest extends Provenance {
  readonly format: "thalweg-dataset";
  readonly version: 1;
  readonly name: string;
  readonly tokenizer: {
    readonly name: string;
    readonly hash: string;
    readonly vocabSize: number;
    readonly eos: number | null;
  };
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

/** The checksum a manifest must carry. */
export function manifestChecksum(manifest: Omit<DatasetManifest, "checksum">): string {
  return sha256(JSON.stringify(manifest)).toString("hex");
}

export function datasetIdentity(tokenizerHash: string, shards: readonly ShardEntry[]): string {
  return sha256(["thalweg dataset 1", tokenizerHash, ...shards.map((shard) => shard.hash)].join("\n")).toString("hex");
}

/**
 * Writes documents of tokens into shards of about `shardTokens` tokens (a document is never cut) and dataset.json last.
 * Each file is written under a temporary name, synced and renamed.
 */
export class DatasetWriter {
  private readonly folder: string;
  private readonly name: string;
  private readonly tokenizer: Tokenizer;
  private readonly shardTokens: number;
  private readonly shards: ShardEntry[] = [];
  private current: ShardWriter | null = null;
  tokens = 0;
  documents = 0;
  textBytes = 0;

  constructor(folder: string, name: string, tokenizer: Tokenizer, shardTokens: number) {
    this.folder = folder;
    this.name = name;
    this.tokenizer = tokenizer;
    this.shardTokens = shardTokens;
  }

  /** Adds one document, `end` (if not null) after its tokens. */
  async add(tokens: Int32Array, end: number | null, textBytes: number): Promise<void> {
    this.current ??= await this.newShard();
    await this.current.add(tokens, end);
    this.tokens += tokens.length + (end === null ? 0 : 1);
    this.documents++;
    this.textBytes += textBytes;
    if (this.current.tokens >= this.shardTokens) await this.closeShard();
  }

  /** Closes the last shard and writes dataset.json and the tokenizer's files. */
  async finish(provenance: Provenance): Promise<DatasetManifest> {
    if (this.current) await this.closeShard();
    for (const [file, content] of Object.entries(this.tokenizer.files()))
      await writeFileAtomic(join(this.folder, file), content);
    const { name, hash, vocabSize, eos } = this.tokenizer;
    const body: Omit<DatasetManifest, "checksum"> = {
      format: "thalweg-dataset",
      version: 1,
      name: this.name,
      tokenizer: { name, hash, vocabSize, eos },
      tokenType: tokenTypeFor(vocabSize),
      tokens: this.tokens,
      documents: this.documents,
      textBytes: this.textBytes,
      ...provenance,
      shards: this.shards,
      identity: datasetIdentity(hash, this.shards),
    };
    const manifest = { ...body, checksum: manifestChecksum(body) };
    await writeFileAtomic(join(this.folder, manifestFile), `${JSON.stringify(manifest, null, 2)}\n`);
    await syncFolder(this.folder);
    return manifest;
  }

  /** Closes what a failure left open; what was written stays incomplete. */
  async close(): Promise<void> {
    await this.current?.close();
    this.current = null;
  }

  private newShard(): Promise<ShardWriter> {
    const file = `shard-${String(this.shards.length).padStart(5, "0")}.bin`;
    return ShardWriter.create(join(this.folder, file), file, this.tokenizer);
  }

  private async closeShard(): Promise<void> {
    const entry = await this.current!.finish();
    await this.current!.close();
    this.current = null;
    this.shards.push(entry);
  }
}

/** One shard being written; memory is one block, the document ends and the checksum table. */
class ShardWriter {
  tokens = 0;
  private readonly path: string;
  private readonly file: string;
  private readonly handle: FileHandle;
  private readonly tokenizer: Tokenizer;
  private readonly tokenType: TokenType;
  private readonly block = Buffer.alloc(blockBytes);
  private filled = 0;
  private position = headerBytes;
  private readonly ends: number[] = [];
  private readonly digests: Buffer[] = [];

  private constructor(path: string, file: string, handle: FileHandle, tokenizer: Tokenizer) {
    this.path = path;
    this.file = file;
    this.handle = handle;
    this.tokenizer = tokenizer;
    this.tokenType = tokenTypeFor(tokenizer.vocabSize);
  }

  static async create(path: string, file: string, tokenizer: Tokenizer): Promise<ShardWriter> {
    return new ShardWriter(path, file, await open(`${path}.tmp`, "w"), tokenizer);
  }

  async add(tokens: Int32Array, end: number | null): Promise<void> {
    await this.append(this.packed(tokens));
    if (end !== null) await this.append(this.packed([end]));
    this.tokens += tokens.length + (end === null ? 0 : 1);
    this.ends.push(this.tokens);
  }

  /** Writes what follows the tokens, then the header, and gives the file its name. */
  async finish(): Promise<ShardEntry> {
    const documents = this.ends.length;
    const { tokenType, tokens } = this;
    const layout = layoutOf({ tokenType, tokens, documents });
    await this.append(Buffer.alloc(layout.indexOffset - this.position - this.filled));
    const index = Buffer.from(BigUint64Array.from(this.ends, (end) => BigInt(end)).buffer);
    await this.append(index);
    await this.flush();
    const header: ShardHeader = {
      tokenType,
      tokens,
      documents,
      vocabSize: this.tokenizer.vocabSize,
      tokenizerHash: this.tokenizer.hash,
    };
    const headerBytes_ = encodeHeader(header);
    const table = Buffer.concat(this.digests);
    await writeAll(this.handle, table, this.position);
    await writeAll(this.handle, headerBytes_, 0);
    await this.handle.sync();
    await rename(`${this.path}.tmp`, this.path);
    const hash = sha256(headerBytes_, table).toString("hex");
    return { file: this.file, bytes: layout.fileBytes, tokens, documents, hash };
  }

  async close(): Promise<void> {
    await this.handle.close();
  }

  private packed(tokens: Int32Array | number[]): Buffer {
    const typed = this.tokenType === "uint16" ? new Uint16Array(tokens) : new Uint32Array(tokens);
    return Buffer.from(typed.buffer);
  }

  private async append(bytes: Buffer): Promise<void> {
    for (let done = 0; done < bytes.length; ) {
      const take = Math.min(bytes.length - done, blockBytes - this.filled);
      bytes.copy(this.block, this.filled, done, done + take);
      this.filled += take;
      done += take;
      if (this.filled === blockBytes) await this.flush();
    }
  }

  private async flush(): Promise<void> {
    if (this.filled === 0) return;
    this.digests.push(sha256(this.block.subarray(0, this.filled)));
    await writeAll(this.handle, this.block.subarray(0, this.filled), this.position);
    this.position += this.filled;
    this.filled = 0;
  }
}

/** Makes renames in a folder durable; not every system can sync a folder. */
export async function syncFolder(folder: string): Promise<void> {
  const handle = await open(folder, "r").catch(() => null);
  await handle?.sync().catch(() => undefined);
  await handle?.close();
}
