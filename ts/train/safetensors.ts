import { type FileHandle, open } from "node:fs/promises";
import { ThalwegError } from "../base/errors.ts";

/** Where a tensor stands in a file. */
export interface TensorPlace {
  readonly name: string;
  readonly shape: readonly number[];
  /** First byte in the file, and how many. */
  readonly start: number;
  readonly bytes: number;
}

const corrupt = (path: string, reason: string): ThalwegError =>
  new ThalwegError("CORRUPT_CHECKPOINT", `${path}: ${reason}.`);

/** A safetensors file of float32 tensors, read piece by piece. */
export class SafetensorsFile implements AsyncDisposable {
  readonly path: string;
  /** In the order of the file. */
  readonly tensors: readonly TensorPlace[];
  readonly #file: FileHandle;

  private constructor(path: string, file: FileHandle, tensors: readonly TensorPlace[]) {
    this.path = path;
    this.#file = file;
    this.tensors = tensors;
  }

  /** @throws CORRUPT_CHECKPOINT when the header cannot be read; BAD_INPUT for tensors of another data type. */
  static async open(path: string): Promise<SafetensorsFile> {
    const file = await open(path, "r");
    try {
      return new SafetensorsFile(path, file, await readHeader(path, file));
    } catch (error) {
      await file.close();
      throw error;
    }
  }

  /** Elements [from, from + count) of a tensor. */
  async read(tensor: TensorPlace, from: number, count: number): Promise<Float32Array> {
    const data = new Float32Array(count);
    const bytes = new Uint8Array(data.buffer);
    const { bytesRead } = await this.#file.read(bytes, 0, bytes.length, tensor.start + 4 * from);
    if (bytesRead < bytes.length) throw corrupt(this.path, `${tensor.name} is cut short`);
    return data;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#file.close();
  }
}

async function readHeader(path: string, file: FileHandle): Promise<TensorPlace[]> {
  const size = Buffer.alloc(8);
  const { size: fileBytes } = await file.stat();
  await file.read(size, 0, 8, 0);
  const length = Number(size.readBigUInt64LE(0));
  if (fileBytes < 8 || length > fileBytes - 8) throw corrupt(path, "has no safetensors header");
  const text = Buffer.alloc(length);
  await file.read(text, 0, length, 8);
  type Entry = { dtype: string; shape: number[]; data_offsets: [number, number] };
  let header: Record<string, Entry>;
  try {
    header = JSON.parse(text.toString("utf8"));
  } catch {
    throw corrupt(path, "its header is not JSON");
  }
  const { __metadata__: _, ...entries } = header;
  const places = Object.entries(entries).map(
    ([
      name,
      {
        dtype,
        shape,
        data_offsets: [from, to],
      },
    ]) => {
      if (dtype !== "F32")
        throw new ThalwegError("BAD_INPUT", `${path}: ${name} is ${dtype}; expected F32, as checkpoints have it.`);
      if (8 + length + to > fileBytes) throw corrupt(path, `${name} reaches beyond the file`);
      return { name, shape, start: 8 + length + from, bytes: to - from };
    },
  );
  return places.sort((a, b) => a.start - b.start);
}

/** Writes a file of float32 tensors like `like`'s, the values of each piece as `values` gives them. */
export async function writeLike(
  path: string,
  like: SafetensorsFile,
  values: (tensor: TensorPlace, from: number, count: number) => Promise<Float32Array>,
  piece = 1 << 20,
): Promise<void> {
  let at = 0;
  const entries = like.tensors.map(({ name, shape, bytes }) => {
    const entry = { dtype: "F32", shape, data_offsets: [at, at + bytes] };
    at += bytes;
    return [name, entry] as const;
  });
  const header = JSON.stringify({ __metadata__: { format: "pt" }, ...Object.fromEntries(entries) });
  const padded = Buffer.from(header.padEnd(Math.ceil(header.length / 8) * 8), "utf8");
  const size = Buffer.alloc(8);
  size.writeBigUInt64LE(BigInt(padded.length));
  const file = await open(path, "w");
  try {
    await file.write(Buffer.concat([size, padded]));
    for (const tensor of like.tensors)
      for (let from = 0; from < tensor.bytes / 4; from += piece) {
        const count = Math.min(piece, tensor.bytes / 4 - from);
        const data = await values(tensor, from, count);
        await file.write(Buffer.from(data.buffer, data.byteOffset, data.byteLength));
      }
  } finally {
    await file.close();
  }
}
