import { type FileHandle, open } from "node:fs/promises";
import {
  blockBytes,
  corrupt,
  decodeHeader,
  digestBytes,
  type ElementType,
  headerBytes,
  layoutOf,
  type ShardHeader,
  type ShardLayout,
  sha256,
} from "./shard_format.ts";
import { manifestFile } from "./shards.ts";

/** What dataset.json says of a shard. */
export interface ExpectedShard {
  readonly tokenizerHash: string;
  readonly type: ElementType;
  readonly hash: string;
  /** Tokens of the dataset before this shard. */
  readonly first: number;
  /** Keep its elements in memory once they have been read. */
  readonly cached: boolean;
}

/** A shard that has been found to be the one its dataset names. */
export class OpenShard {
  readonly path: string;
  readonly first: number;
  /** Tokens, or values of tokens. */
  readonly elements: number;
  readonly documents: number;
  private readonly handle: FileHandle;
  private readonly type: ElementType;
  private readonly layout: ShardLayout;
  private readonly table: Buffer;
  /** Its elements are kept in memory once they have been read. */
  readonly cached: boolean;
  private payload: Promise<Buffer<ArrayBuffer>> | null = null;

  private constructor(path: string, handle: FileHandle, header: ShardHeader, table: Buffer, expected: ExpectedShard) {
    this.path = path;
    this.handle = handle;
    this.first = expected.first;
    this.elements = header.tokens;
    this.documents = header.documents;
    this.type = header.type;
    this.layout = layoutOf(header);
    this.table = table;
    this.cached = expected.cached;
  }

  /** @throws ThalwegError CORRUPT_DATA naming the file and what is wrong with it */
  static async open(path: string, expected: ExpectedShard): Promise<OpenShard> {
    const handle = await open(path, "r").catch((cause) => {
      throw corrupt(path, `cannot be opened (${cause.message})`, cause);
    });
    try {
      const { size } = await handle.stat();
      const head = await readBytes(handle, 0, Math.min(size, headerBytes));
      const header = decodeHeader(head, path);
      if (header.tokenizerHash !== expected.tokenizerHash)
        throw corrupt(
          path,
          `was made with another tokenizer (${header.tokenizerHash.slice(0, 12)}) than its dataset's`,
        );
      if (header.type !== expected.type) throw corrupt(path, `holds ${header.type}, its dataset ${expected.type}`);
      const layout = layoutOf(header);
      if (size < layout.fileBytes) throw corrupt(path, `is truncated: ${size} bytes, expected ${layout.fileBytes}`);
      if (size > layout.fileBytes)
        throw corrupt(path, `has ${size - layout.fileBytes} bytes too many: ${size}, expected ${layout.fileBytes}`);
      const table = await readBytes(handle, layout.tableOffset, layout.blocks * digestBytes);
      if (sha256(head, table).toString("hex") !== expected.hash)
        throw corrupt(path, `is not the shard that ${manifestFile} names, or its checksum table is damaged`);
      return new OpenShard(path, handle, header, table, expected);
    } catch (error) {
      await handle.close();
      throw error;
    }
  }

  /** Elements [start, start + count) into `out` from `at`. */
  async read(start: number, count: number, out: Int32Array | Float32Array, at: number): Promise<void> {
    const width = this.layout.bytesPerToken;
    let bytes: Buffer<ArrayBuffer>;
    if (this.cached) {
      // All of it is read anyway: a flipped bit is found here, before anything is learnt from it.
      this.payload ??= this.verify().then(() => this.bytes(headerBytes, this.elements * width));
      bytes = (await this.payload).subarray(start * width, (start + count) * width);
    } else bytes = await this.bytes(headerBytes + start * width, count * width);
    const { buffer, byteOffset } = bytes;
    const View = this.type === "uint16" ? Uint16Array : this.type === "uint32" ? Uint32Array : Float32Array;
    out.set(new View(buffer, byteOffset, count), at);
  }

  /**
   * Where tokens [start, start + count) lie: descriptor, byte offset, count and bytes of a token, as `NativeReader` takes
   * them. Not for shards that are kept in memory, which are checked before anything is learnt from them.
   */
  run(start: number, count: number): [number, number, number, number] {
    const width = this.layout.bytesPerToken;
    return [this.handle.fd, headerBytes + start * width, count, width];
  }

  /** The same for `NativeReader.readStarts`: descriptor, byte offset of the document index, documents, start, count. */
  documentRun(start: number, count: number): [number, number, number, number, number] {
    return [this.handle.fd, this.layout.indexOffset, this.documents, start, count];
  }

  /** Tokens of a document, its end token included. */
  async document(index: number): Promise<Int32Array> {
    const first = index === 0 ? 0 : 1;
    const ends = await this.bytes(this.layout.indexOffset + (index - first) * 8, (first + 1) * 8);
    const start = first === 0 ? 0 : Number(ends.readBigUInt64LE(0));
    const tokens = new Int32Array(Number(ends.readBigUInt64LE(first * 8)) - start);
    await this.read(start, tokens.length, tokens, 0);
    return tokens;
  }

  /** Tokens of this shard before a document. */
  async documentStart(index: number): Promise<number> {
    if (index === 0) return 0;
    return Number((await this.bytes(this.layout.indexOffset + (index - 1) * 8, 8)).readBigUInt64LE(0));
  }

  /** Checks every byte. @throws ThalwegError CORRUPT_DATA naming the damaged place */
  async verify(): Promise<void> {
    for (let block = 0; block < this.layout.blocks; block++) {
      const start = headerBytes + block * blockBytes;
      const end = Math.min(start + blockBytes, this.layout.tableOffset);
      const stated = this.table.subarray(block * digestBytes, (block + 1) * digestBytes);
      if (!sha256(await this.bytes(start, end - start)).equals(stated))
        throw corrupt(this.path, `is damaged: bytes ${start}..${end} do not match their checksum`);
    }
  }

  async close(): Promise<void> {
    await this.handle.close();
  }

  private async bytes(offset: number, count: number): Promise<Buffer<ArrayBuffer>> {
    const bytes = await readBytes(this.handle, offset, count);
    if (bytes.length !== count) throw corrupt(this.path, "was truncated while in use");
    return bytes;
  }
}

/** Up to `count` bytes at `offset`, fewer only at the end of the file, in memory of their own (aligned for elements). */
async function readBytes(handle: FileHandle, offset: number, count: number): Promise<Buffer<ArrayBuffer>> {
  const bytes = Buffer.from(new ArrayBuffer(count));
  let done = 0;
  while (done < count) {
    const { bytesRead } = await handle.read(bytes, done, Math.min(count - done, 2 ** 30), offset + done);
    if (bytesRead === 0) break;
    done += bytesRead;
  }
  return bytes.subarray(0, done);
}
