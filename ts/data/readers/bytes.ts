import { createHash, type Hash } from "node:crypto";
import { createReadStream } from "node:fs";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import * as zlib from "node:zlib";
import { ThalwegError } from "../../base/errors.ts";
import { type InputFile, type ReadReport, standardInput } from "../documents.ts";
import { unpackedZstd } from "./zstd.ts";
import { ZstdFrames } from "./zstd_frames.ts";

const defaultChunk = 1 << 20;

export interface BytesOptions {
  /** Bytes read at once. Default 1 MiB. */
  readonly chunkBytes?: number | undefined;
  /** Seconds after which a decoder that is silent is given up. */
  readonly patience: number;
}

/** The beginning of a file as far as it was read: enough to tell later whether it is still the same. */
export interface Prefix {
  readonly bytes: number;
  /** SHA-256 (hex). */
  readonly sha256: string;
}

/** Counts and hashes the bytes of a file as they lie on disk. */
export class RawMeter {
  bytes = 0;
  private digest: string | null = null;
  private readonly hash: Hash = createHash("sha256");
  private readonly file: string;
  private readonly report: ReadReport;
  private readonly expected: Prefix | null;

  /** @param expected what the file began with when it was read the last time */
  constructor(file: string, report: ReadReport, expected: Prefix | null = null) {
    this.file = file;
    this.report = report;
    this.expected = expected;
  }

  /** @throws ThalwegError BAD_INPUT when the file no longer begins as it did */
  add(chunk: Uint8Array): void {
    const left = (this.expected?.bytes ?? 0) - this.bytes;
    if (left > 0 && left <= chunk.length) {
      this.hash.update(chunk.subarray(0, left));
      this.bytes += left;
      if (this.prefix().sha256 !== this.expected!.sha256) throw changed(this.file);
      this.hash.update(chunk.subarray(left));
      this.bytes += chunk.length - left;
    } else {
      this.hash.update(chunk);
      this.bytes += chunk.length;
    }
    this.report.bytesDone += chunk.length;
  }

  /** A file that is not read from its beginning to its end has been hashed on its own. */
  whole(digest: Prefix): void {
    if (this.expected && digest.sha256 !== this.expected.sha256) throw changed(this.file);
    this.bytes = digest.bytes;
    this.digest = digest.sha256;
  }

  prefix(): Prefix {
    return { bytes: this.bytes, sha256: this.digest ?? this.hash.copy().digest("hex") };
  }

  /** The whole file has been read. @throws ThalwegError BAD_INPUT when it has become shorter */
  end(): void {
    if (this.bytes < (this.expected?.bytes ?? 0)) throw changed(this.file);
  }
}

function changed(file: string): ThalwegError {
  return new ThalwegError(
    "BAD_INPUT",
    `${file} is not the file that was read before the interruption: start over with --restart.`,
  );
}

type Packing = "gz" | "zst";

/** How a file is packed, by its name; standard input is told by its first bytes. */
export function packingOf(name: string): Packing | null {
  return name.endsWith(".gz") ? "gz" : name.endsWith(".zst") ? "zst" : null;
}

/**
 * The unpacked bytes of a file, a chunk at a time (.gz, .zst by name).
 * @throws ThalwegError CORRUPT_DATA when a packed file is truncated or damaged
 */
export async function* fileBytes(file: InputFile, meter: RawMeter, options: BytesOptions): AsyncGenerator<Buffer> {
  const { chunkBytes = defaultChunk } = options;
  const fromStandardInput = file.path === standardInput;
  const source = fromStandardInput ? process.stdin : createReadStream(file.path, { highWaterMark: chunkBytes });
  let packing: Packing | null = null;
  try {
    const raw = metered(source as AsyncIterable<Buffer>, meter);
    const first = fromStandardInput ? await raw.next() : null;
    if (first?.done) return;
    const chunks = first ? prepend(first.value, raw) : raw;
    packing = first ? packingOfBytes(first.value) : packingOf(file.name);
    yield* packing === null ? chunks : unpacked(chunks, packing, file.path, options);
  } catch (cause) {
    if (packing === null || cause instanceof ThalwegError) throw cause;
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new ThalwegError(
      "CORRUPT_DATA",
      `${file.path} is truncated or damaged near byte ${meter.bytes} (${reason}). Fetch it again, then repeat the command: it goes on from where it was.`,
      { cause },
    );
  } finally {
    source.destroy(); // a consumer that has enough waits for nothing: standard input may never say another word
  }
}

/** Newer versions of Node unpack zstd themselves; the package fzstd does otherwise. */
function unpacked(
  chunks: AsyncIterable<Buffer>,
  packing: Packing,
  file: string,
  options: BytesOptions,
): AsyncGenerator<Buffer> {
  const { chunkBytes = defaultChunk, patience } = options;
  if (packing === "gz") return inflated(chunks, zlib.createGunzip({ chunkSize: Math.min(chunkBytes, 1 << 18) }));
  const { createZstdDecompress } = zlib as { createZstdDecompress?: () => NodeJS.ReadWriteStream };
  const seen = looked(chunks, new ZstdFrames(file));
  return createZstdDecompress ? inflated(seen, createZstdDecompress()) : unpackedZstd(seen, patience);
}

/** Each chunk once its headers have been found fit to be unpacked. */
async function* looked(chunks: AsyncIterable<Buffer>, frames: ZstdFrames): AsyncGenerator<Buffer> {
  for await (const chunk of chunks) {
    frames.see(chunk);
    yield chunk;
  }
}

async function* metered(source: AsyncIterable<Buffer>, meter: RawMeter): AsyncGenerator<Buffer> {
  for await (const chunk of source) {
    meter.add(chunk);
    yield chunk;
  }
  meter.end();
}

async function* prepend(first: Buffer, rest: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  yield first;
  yield* rest;
}

function packingOfBytes(bytes: Buffer): Packing | null {
  if (bytes.length >= 2 && bytes.readUInt16BE(0) === 0x1f8b) return "gz";
  return bytes.length >= 4 && bytes.readUInt32LE(0) === 0xfd2fb528 ? "zst" : null;
}

async function* inflated(chunks: AsyncIterable<Buffer>, unpacker: NodeJS.ReadWriteStream): AsyncGenerator<Buffer> {
  let failure: unknown = null;
  const feeding = pipeline(Readable.from(chunks), unpacker).catch((error: unknown) => {
    failure = error;
  });
  try {
    yield* unpacker as unknown as AsyncIterable<Buffer>;
  } finally {
    (unpacker as unknown as Readable).destroy();
  }
  await feeding;
  if (failure !== null) throw failure;
}
