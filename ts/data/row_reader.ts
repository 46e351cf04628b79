import { addon, type NativeReader } from "../native/addon.ts";
import type { Dataset } from "./dataset.ts";
import { corrupt } from "./shard_format.ts";
import type { OpenShard } from "./shard_reader.ts";

/** Where a sequence begins in its dataset. */
export interface Row {
  readonly dataset: Dataset;
  readonly start: number;
}

/**
 * Reads sequences and their targets, both [rows, length], row-major; the target of a token is the one after it. Small
 * datasets come from memory, large ones from the system's page cache or disk, on a native thread.
 */
export class RowReader {
  private native: NativeReader | null = null;

  /** @throws ThalwegError CORRUPT_DATA when a shard was truncated since it was opened */
  async read(rows: readonly Row[], length: number, tokens: Int32Array, targets: Int32Array): Promise<void> {
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
    await Promise.all(fromMemory);
    if (shards.length === 0) return;
    this.native ??= new (addon().NativeReader)();
    const reading = this.native.read(Float64Array.from(runs), length, tokens, targets);
    for (const dataset of new Set(rows.map((row) => row.dataset))) dataset.holdFor(reading);
    const done = await reading;
    if (done < shards.length)
      throw corrupt(shards[done]!.path, "was truncated while in use, or its disk cannot be read");
  }
}

async function readRow({ dataset, start }: Row, length: number, tokens: Int32Array, targets: Int32Array, at: number) {
  const text = new Int32Array(length + 1);
  await dataset.read(start, length + 1, text);
  tokens.set(text.subarray(0, length), at);
  targets.set(text.subarray(1), at);
}
