import { type FileHandle, open, readFile, rename, rm } from "node:fs/promises";
import { writeAll } from "../base/files.ts";
import {
  blockBytes,
  type ElementType,
  encodeHeader,
  headerBytes,
  layoutOf,
  type ShardHeader,
  sha256,
} from "./shard_format.ts";

/** A shard written and named. */
export interface WrittenShard {
  readonly bytes: number;
  readonly tokens: number;
  readonly documents: number;
  /** SHA-256 (hex) of header and checksum table, see shard_format.ts. */
  readonly hash: string;
}

/** What a shard under way holds that is safe on disk. */
export interface ShardProgress {
  readonly tokens: number;
  readonly documents: number;
}

type Elements = Uint16Array | Uint32Array | Float32Array;

function elementsOf(type: ElementType, bytes: Buffer): Elements {
  const { buffer, byteOffset, byteLength } = bytes;
  if (type === "uint16") return new Uint16Array(buffer, byteOffset, byteLength / 2);
  return type === "uint32"
    ? new Uint32Array(buffer, byteOffset, byteLength / 4)
    : new Float32Array(buffer, byteOffset, byteLength / 4);
}

/**
 * One shard being written, under a temporary name until it is whole; memory is one block, the document ends and the
 * checksum table. `commit` makes what was added survive a crash; `resume` goes on from there.
 */
export class ShardWriter {
  tokens = 0;
  private readonly path: string;
  private readonly handle: FileHandle;
  private readonly header: Pick<ShardHeader, "type" | "vocabSize" | "tokenizerHash">;
  private readonly width: number;
  private readonly block = Buffer.from(new ArrayBuffer(blockBytes));
  private readonly elements: Elements;
  private filled = 0;
  private position = headerBytes;
  private readonly ends: number[] = [];
  private committedEnds = 0;
  private readonly digests: Buffer[] = [];

  private constructor(path: string, handle: FileHandle, header: ShardWriter["header"]) {
    this.path = path;
    this.handle = handle;
    this.header = header;
    this.width = header.type === "uint16" ? 2 : 4;
    this.elements = elementsOf(header.type, this.block);
  }

  static async create(path: string, header: ShardWriter["header"]): Promise<ShardWriter> {
    return new ShardWriter(path, await open(temporary(path), "w+"), header);
  }

  /** Goes on from the last commit. Null when the files no longer hold that much. */
  static async resume(
    path: string,
    header: ShardWriter["header"],
    progress: ShardProgress,
  ): Promise<ShardWriter | null> {
    // It may have been finished since: its elements lie at the same places.
    await rename(path, temporary(path)).catch(() => undefined);
    const handle = await open(temporary(path), "r+").catch(() => null);
    if (handle === null) return null;
    const writer = new ShardWriter(path, handle, header);
    const ends = await readFile(endsPath(path)).catch(() => Buffer.alloc(0));
    const bytes = progress.tokens * writer.width;
    if ((await handle.stat()).size < headerBytes + bytes || ends.length < progress.documents * 8) {
      await writer.close();
      return null;
    }
    for (let i = 0; i < progress.documents; i++) writer.ends.push(Number(ends.readBigUInt64LE(8 * i)));
    writer.committedEnds = progress.documents;
    writer.tokens = progress.tokens;
    for (let done = 0; done < bytes; done += blockBytes) {
      writer.filled = Math.min(bytes - done, blockBytes);
      await handle.read(writer.block, 0, writer.filled, writer.position);
      if (writer.filled === blockBytes) writer.pass();
    }
    return writer;
  }

  /** Documents added. */
  get documents(): number {
    return this.ends.length;
  }

  /** Adds elements; with `end`, one more after them. */
  async add(values: Elements | Int32Array, end: number | null): Promise<void> {
    const capacity = blockBytes / this.width;
    for (let done = 0; done < values.length; ) {
      const at = this.filled / this.width;
      const take = Math.min(values.length - done, capacity - at);
      this.elements.set(take === values.length ? values : values.subarray(done, done + take), at);
      this.filled += take * this.width;
      done += take;
      if (this.filled === blockBytes) await this.flush();
    }
    if (end !== null) {
      this.elements[this.filled / this.width] = end;
      this.filled += this.width;
      if (this.filled === blockBytes) await this.flush();
    }
    this.tokens += values.length + (end === null ? 0 : 1);
  }

  /** A document ends here. */
  endDocument(): void {
    this.ends.push(this.tokens);
  }

  /** Makes everything added so far survive a crash. */
  async commit(): Promise<ShardProgress> {
    await writeAll(this.handle, this.block.subarray(0, this.filled), this.position);
    await this.handle.sync();
    const ends = await open(endsPath(this.path), this.committedEnds === 0 ? "w" : "r+");
    try {
      const fresh = packedEnds(this.ends.slice(this.committedEnds));
      await writeAll(ends, fresh, 8 * this.committedEnds);
      await ends.sync();
    } finally {
      await ends.close();
    }
    this.committedEnds = this.ends.length;
    return { tokens: this.tokens, documents: this.documents };
  }

  /** Writes what follows the elements, then the header, and gives the file its name. */
  async finish(): Promise<WrittenShard> {
    const { tokens, documents } = this;
    const header: ShardHeader = { ...this.header, tokens, documents };
    const layout = layoutOf(header);
    await this.append(Buffer.alloc(layout.indexOffset - this.position - this.filled));
    await this.append(packedEnds(this.ends));
    await this.flush();
    const head = encodeHeader(header);
    const table = Buffer.concat(this.digests);
    await writeAll(this.handle, table, this.position);
    await writeAll(this.handle, head, 0);
    await this.handle.truncate(layout.fileBytes);
    await this.handle.sync();
    await rename(temporary(this.path), this.path);
    return { bytes: layout.fileBytes, tokens, documents, hash: sha256(head, table).toString("hex") };
  }

  async close(): Promise<void> {
    await this.handle.close();
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
    await writeAll(this.handle, this.block.subarray(0, this.filled), this.position);
    this.pass();
  }

  /** The block is on disk: on to the next one. */
  private pass(): void {
    this.digests.push(sha256(this.block.subarray(0, this.filled)));
    this.position += this.filled;
    this.filled = 0;
  }
}

/** Removes what commits left beside a shard that is finished. */
export async function removeCommits(path: string): Promise<void> {
  await rm(endsPath(path), { force: true });
}

const temporary = (path: string): string => `${path}.tmp`;
const endsPath = (path: string): string => `${path}.ends.tmp`;

function packedEnds(ends: readonly number[]): Buffer {
  return Buffer.from(BigUint64Array.from(ends, (end) => BigInt(end)).buffer);
}
