import { addon, type NativeReader } from "../native/addon.ts";
import type { Dataset } from "./dataset.ts";
import { corrupt } from "./shard_format.ts";
import type { OpenShard } from "./shard_reader.ts";

/** Where a sequence begins in its dataset. */
export interface Row {
  readonly dataset: Dataset;
  readonly start: number;
}

/** One thread for all loaders of this process: it waits for nothing but memory and disk. */
let native: NativeReader | null = null;

/**
 * Reads sequences and their targets, both [rows, length], row-major; the target of a token is the one after it. Small
 * datasets come from memory, large ones from the system's page cache or disk, on a native thread.
 * @throws ThalwegError CORRUPT_DATA when a shard was truncated since it was opened
 */
export async function readRows(
  rows: readonly Row[],
  length: number,
  tokens: Int32Array,
  targets: Int32Array,
): Promise<void> {
  const runs: number[] = [];
  const shards: OpenShard[] = [];
  const fromMemory: Promise<void>[] = [];
  for (const [row, { dataset, start }] of rows.entries()) {
    if (dataset.cached) {
      fromMemory.push(readRow({ dataset, start }, length, tokens, targets, row * length));
      continue;
    }
    for (const run of dataset.runs(start, length + 1)) {
      runs.push(...run.shard.run(run.start, run.count), row * (length + 1) + run.before);
      shards.push(run.shard);
    }
  }
  if (shards.length === 0) {
    await Promise.all(fromMemory);
    return;
  }
  native ??= new (addon().NativeReader)();
  const reading = native.read(Float64Array.from(runs), length, tokens, targets);
  // From here on, so that closing a dataset waits for its files to have been read.
  for (const dataset of new Set(rows.map((row) => row.dataset))) dataset.holdFor(reading);
  const [done] = await Promise.all([reading, ...fromMemory]);
  if (done < shards.length) throw corrupt(shards[done]!.path, "was truncated while in use, or its disk cannot be read");
}

/**
 * For each token of the sequences the position in its sequence, [rows, length], where its document begins: 0 for one that
 * began before. Read from the shards' document indices, on the native thread.
 * @returns the mean, over the tokens, of the length of the piece of a document in which each lies
 * @throws ThalwegError CORRUPT_DATA when an index is out of order or cannot be read
 */
export async function readStarts(rows: readonly Row[], length: number, starts: Int32Array): Promise<number> {
  const runs: number[] = [];
  const shards: OpenShard[] = [];
  for (const [row, { dataset, start }] of rows.entries())
    for (const run of dataset.runs(start, length)) {
      runs.push(...run.shard.documentRun(run.start, run.count), row * length + run.before);
      shards.push(run.shard);
    }
  native ??= new (addon().NativeReader)();
  const reading = native.readStarts(Float64Array.from(runs), length, starts);
  for (const dataset of new Set(rows.map((row) => row.dataset))) dataset.holdFor(reading);
  const { runs: done, squares } = await reading;
  if (done < shards.length) throw corrupt(shards[done]!.path, "has a damaged document index, or it cannot be read");
  return squares / (rows.length * length);
}

async function readRow({ dataset, start }: Row, length: number, tokens: Int32Array, targets: Int32Array, at: number) {
  const text = new Int32Array(length + 1);
  await dataset.read(start, length + 1, text);
  tokens.set(text.subarray(0, length), at);
  targets.set(text.subarray(1), at);
}
