import { type FileHandle, open, readFile } from "node:fs/promises";
import { join } from "node:path";
import { ThalwegError } from "../base/errors.ts";
import { blockBytes, corrupt, decodeHeader, digestBytes, headerBytes, layoutOf, sha256 } from "./shard_format.ts";
import { type DatasetManifest, datasetIdentity, manifestChecksum, manifestFile, type ShardEntry } from "./shards.ts";
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

  /** Use `openDataset`. */
  constructor(folder: string, manifest: DatasetManifest, shards: readonly OpenShard[]) {
    this.folder = folder;
    this.manifest = manifest;
    this.shards = shards;
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

  /** Tokens [start, start + count) into `out` from `at`. */
  async read(start: number, count: number, out: Int32Array, at = 0): Promise<void> {
    if (start < 0 || start + count > this.tokens)
      throw new RangeError(`tokens ${start}..${start + count} are not in 0..${this.tokens}`);
    for (const shard of this.shards) {
      const from = Math.max(start, shard.firstToken);
      const to = Math.min(start + count, shard.firstToken + shard.entry.tokens);
      if (from < to) await shard.read(from - shard.firstToken, to - from, out, at + from - start);
    }
  }

  /** Tokens of document `index`, its end token included. */
  async document(index: number): Promise<Int32Array> {
    let first = 0;
    for (const shard of this.shards) {
      if (index < first + shard.entry.documents) return shard.document(index - first);
      first += shard.entry.documents;
    }
    throw new RangeError(`document ${index} is not in 0..${this.documents - 1}`);
  }

  /** Checks every byte. @throws ThalwegError CORRUPT_DATA naming the file and the damaged place */
  async verify(): Promise<void> {
    for (const shard of this.shards) await shard.verify();
  }

  async close(): Promise<void> {
    await Promise.all(this.shards.map((shard) => shard.handle.close()));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
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
  try {
    let firstToken = 0;
    for (const entry of manifest.shards) {
      shards.push(await openShard(folder, entry, manifest, firstToken, cached));
      firstToken += entry.tokens;
    }
    const dataset = new Dataset(folder, manifest, shards);
    if (options.verify) await dataset.verify();
    return dataset;
  } catch (error) {
    await Promise.all(shards.map((shard) => shard.handle.close()));
    throw error;
  }
}

async function readManifest(folder: string): Promise<DatasetManifest> {
  const path = join(folder, manifestFile);
  let text: string;
  try {
    text = await readFile(path, "utf8");
  } catch (cause) {
    const message = `${folder} is not a prepared dataset: no ${manifestFile} can be read there (${(cause as Error).message}). Run \`thalweg data prepare\` and name its train or validation folder.`;
    throw new ThalwegError("BAD_INPUT", message, { cause });
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
  if (manifest.version !== 1) throw corrupt(path, `has version ${manifest.version}; this build reads version 1`);
  if (manifest.identity !== datasetIdentity(manifest.tokenizer.hash, manifest.shards))
    throw corrupt(path, "names shards that do not make up its identity");
  return manifest;
}

async function openShard(
  folder: string,
  entry: ShardEntry,
  manifest: DatasetManifest,
  firstToken: number,
  cached: boolean,
): Promise<OpenShard> {
  const path = join(folder, entry.file);
  const handle = await open(path, "r").catch((cause) => {
    throw corrupt(path, `cannot be opened (${cause.message})`, cause);
  });
  try {
    const { size } = await handle.stat();
    const headerPart = await readBytes(handle, 0, Math.min(size, headerBytes));
    const header = decodeHeader(headerPart, path);
    if (header.tokenizerHash !== manifest.tokenizer.hash)
      throw corrupt(path, `was made with another tokenizer (${header.tokenizerHash.slice(0, 12)}) than its dataset's`);
    if (header.tokenType !== manifest.tokenType)
      throw corrupt(path, `holds ${header.tokenType} tokens, its dataset ${manifest.tokenType}`);
    const layout = layoutOf(header);
    if (size < layout.fileBytes) throw corrupt(path, `is truncated: ${size} bytes, expected ${layout.fileBytes}`);
    if (size > layout.fileBytes)
      throw corrupt(path, `has ${size - layout.fileBytes} bytes too many: ${size}, expected ${layout.fileBytes}`);
    const table = await readBytes(handle, layout.tableOffset, layout.blocks * digestBytes);
    if (sha256(headerPart, table).toString("hex") !== entry.hash)
      throw corrupt(path, `is not the shard that ${manifestFile} names, or its checksum table is damaged`);
    return new OpenShard(path, entry, handle, firstToken, layout, table, cached);
  } catch (error) {
    await handle.close();
    throw error;
  }
}

class OpenShard {
  readonly path: string;
  readonly entry: ShardEntry;
  readonly handle: FileHandle;
  readonly firstToken: number;
  private readonly layout: ReturnType<typeof layoutOf>;
  private readonly table: Buffer;
  private readonly cached: boolean;
  private payload: Promise<Buffer> | null = null;

  constructor(
    path: string,
    entry: ShardEntry,
    handle: FileHandle,
    firstToken: number,
    layout: ReturnType<typeof layoutOf>,
    table: Buffer,
    cached: boolean,
  ) {
    this.path = path;
    this.entry = entry;
    this.handle = handle;
    this.firstToken = firstToken;
    this.layout = layout;
    this.table = table;
    this.cached = cached;
  }

  async read(start: number, count: number, out: Int32Array, at: number): Promise<void> {
    const width = this.layout.bytesPerToken;
    let bytes: Buffer;
    if (this.cached) {
      // All of it is read anyway: a flipped bit is found here, before anything is learnt from it.
      this.payload ??= this.verify().then(() => this.bytes(headerBytes, this.entry.tokens * width));
      bytes = (await this.payload).subarray(start * width, (start + count) * width);
    } else bytes = await this.bytes(headerBytes + start * width, count * width);
    const { buffer, byteOffset } = bytes;
    out.set(width === 2 ? new Uint16Array(buffer, byteOffset, count) : new Uint32Array(buffer, byteOffset, count), at);
  }

  async document(index: number): Promise<Int32Array> {
    const first = index === 0 ? 0 : 1;
    const ends = await this.bytes(this.layout.indexOffset + (index - first) * 8, (first + 1) * 8);
    const start = first === 0 ? 0 : Number(ends.readBigUInt64LE(0));
    const tokens = new Int32Array(Number(ends.readBigUInt64LE(first * 8)) - start);
    await this.read(start, tokens.length, tokens, 0);
    return tokens;
  }

  async verify(): Promise<void> {
    for (let block = 0; block < this.layout.blocks; block++) {
      const start = headerBytes + block * blockBytes;
      const end = Math.min(start + blockBytes, this.layout.tableOffset);
      const stated = this.table.subarray(block * digestBytes, (block + 1) * digestBytes);
      if (!sha256(await this.bytes(start, end - start)).equals(stated))
        throw corrupt(this.path, `is damaged: bytes ${start}..${end} do not match their checksum`);
    }
  }

  private async bytes(offset: number, count: number): Promise<Buffer> {
    const bytes = await readBytes(this.handle, offset, count);
    if (bytes.length !== count) throw corrupt(this.path, "was truncated while in use");
    return bytes;
  }
}

/** Up to `count` bytes at `offset`, fewer only at the end of the file, in memory of their own (aligned for tokens). */
async function readBytes(handle: FileHandle, offset: number, count: number): Promise<Buffer> {
  const bytes = Buffer.from(new ArrayBuffer(count));
  let done = 0;
  while (done < count) {
    const { bytesRead } = await handle.read(bytes, done, Math.min(count - done, 2 ** 30), offset + done);
    if (bytesRead === 0) break;
    done += bytesRead;
  }
  return bytes.subarray(0, done);
}
