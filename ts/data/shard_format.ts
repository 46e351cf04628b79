import { createHash } from "node:crypto";
import { ThalwegError } from "../base/errors.ts";

/**
 * A shard file, little-endian:
 *
 *   [0, 4096)      header, its last 32 bytes the SHA-256 of those before
 *   [4096, ...)    elements: tokens as uint16 or uint32, or what is known of each token as float32
 *   8-aligned      document index: for each document its end, in tokens from the shard's start, u64
 *   then           checksum table: SHA-256 of every MiB of [4096, table), 32 bytes each
 *
 * The shard's hash is the SHA-256 of header and table: a few KiB tell whether a file is the one a dataset names, and
 * they vouch for every byte of it.
 */
export const headerBytes = 4096;
export const blockBytes = 1 << 20;
export const digestBytes = 32;
/** 2: a shard says what its elements are. */
export const shardVersion = 2;
const magic = Buffer.from("THWGSHRD", "latin1");

export type TokenType = "uint16" | "uint32";
/** float32: entropy in nats, one for each token of the shard of tokens beside it. */
export type ElementType = TokenType | "float32";
const elementTypes: readonly ElementType[] = ["uint16", "uint32", "float32"];

export interface ShardHeader {
  readonly type: ElementType;
  /** Elements: tokens, or values of tokens. */
  readonly tokens: number;
  /** 0 in a shard of values. */
  readonly documents: number;
  readonly vocabSize: number;
  /** SHA-256 (hex) of the tokenizer. */
  readonly tokenizerHash: string;
}

export interface ShardLayout {
  readonly bytesPerToken: number;
  readonly indexOffset: number;
  readonly tableOffset: number;
  readonly blocks: number;
  readonly fileBytes: number;
}

export function tokenTypeFor(vocabSize: number): TokenType {
  return vocabSize <= 1 << 16 ? "uint16" : "uint32";
}

export function layoutOf(header: Pick<ShardHeader, "type" | "tokens" | "documents">): ShardLayout {
  const bytesPerToken = header.type === "uint16" ? 2 : 4;
  const indexOffset = Math.ceil((headerBytes + header.tokens * bytesPerToken) / 8) * 8;
  const tableOffset = indexOffset + header.documents * 8;
  const blocks = Math.ceil((tableOffset - headerBytes) / blockBytes);
  return { bytesPerToken, indexOffset, tableOffset, blocks, fileBytes: tableOffset + blocks * digestBytes };
}

export function encodeHeader(header: ShardHeader): Buffer {
  const out = Buffer.alloc(headerBytes);
  magic.copy(out, 0);
  out.writeUInt32LE(shardVersion, 8);
  out.writeUInt32LE(layoutOf(header).bytesPerToken, 12);
  out.writeBigUInt64LE(BigInt(header.tokens), 16);
  out.writeBigUInt64LE(BigInt(header.documents), 24);
  out.writeUInt32LE(header.vocabSize, 32);
  out.writeUInt32LE(blockBytes, 36);
  Buffer.from(header.tokenizerHash, "hex").copy(out, 40);
  out.writeUInt32LE(elementTypes.indexOf(header.type), 72);
  sha256(out.subarray(0, headerBytes - digestBytes)).copy(out, headerBytes - digestBytes);
  return out;
}

/** @throws ThalwegError CORRUPT_DATA naming the file and what is wrong with its header */
export function decodeHeader(bytes: Buffer, file: string): ShardHeader {
  if (bytes.length < headerBytes)
    throw corrupt(file, `is truncated: ${bytes.length} bytes, less than the header of ${headerBytes}`);
  if (!bytes.subarray(0, 8).equals(magic)) throw corrupt(file, "is foreign: it does not start as a Thalweg shard");
  const version = bytes.readUInt32LE(8);
  const stated = bytes.subarray(headerBytes - digestBytes, headerBytes);
  if (!sha256(bytes.subarray(0, headerBytes - digestBytes)).equals(stated))
    throw corrupt(file, "has a damaged header: its checksum does not match");
  if (version !== shardVersion)
    throw otherVersion(file, `has shard version ${version}; this build reads version ${shardVersion}`);
  const type = elementTypes[bytes.readUInt32LE(72)];
  if (type === undefined) throw corrupt(file, "holds elements of an unknown type");
  return {
    type,
    tokens: Number(bytes.readBigUInt64LE(16)),
    documents: Number(bytes.readBigUInt64LE(24)),
    vocabSize: bytes.readUInt32LE(32),
    tokenizerHash: bytes.subarray(40, 72).toString("hex"),
  };
}

export function sha256(...parts: (string | NodeJS.ArrayBufferView)[]): Buffer {
  const hash = createHash("sha256");
  for (const part of parts) hash.update(part);
  return hash.digest();
}

/** Nothing is damaged, but this build cannot read it. */
export function otherVersion(file: string, what: string): ThalwegError {
  const message = `${file} ${what}. Prepare the text again with \`thalweg data prepare\`, or use the Thalweg that wrote it.`;
  return new ThalwegError("CORRUPT_DATA", message);
}

export function corrupt(file: string, what: string, cause?: unknown): ThalwegError {
  return new ThalwegError("CORRUPT_DATA", `${file} ${what}. Prepare the data again, or restore the file.`, { cause });
}
