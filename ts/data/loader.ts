import { ThalwegError } from "../base/errors.ts";
import type { Dataset } from "./dataset.ts";
import { Permutation } from "./order.ts";

/** Targets of rows that count for nothing: the classifier ignores negative targets. */
export const ignoredTarget = -1;

/** Sequences side by side, row-major [sequences, length]; targets are tokens one further. */
export interface Batch {
  readonly tokens: Int32Array;
  readonly targets: Int32Array;
  readonly sequences: number;
  readonly length: number;
  /** Targets that are not `ignoredTarget`; fewer than all only in the last batch of data that stops. */
  readonly validTokens: number;
  /** Epoch of the first sequence, from 0. */
  readonly epoch: number;
  /** Blocks consumed once this batch has been used, all epochs counted: `seek` goes on from here. */
  readonly position: number;
  /** Tokens consumed of the block after those; 0 unless blocks are sliced. */
  readonly offset: number;
}

export interface LoaderOptions {
  /** Tokens of a sequence. */
  readonly length: number;
  /** Tokens of a block, the unit that is permuted; shorter sequences are slices of it. Default `length`. */
  readonly maxLength?: number;
  readonly seed?: number;
  /** At the end of the data: begin a new epoch in another order, or stop. Default repeat. */
  readonly onEnd?: "repeat" | "stop";
}

/**
 * Batches of a dataset in the order of the seed. Block i is tokens [i L, i L + L] (its last token is only a target), a
 * last partial block is dropped, and epoch e visits blocks in the order Permutation(blocks, seed, e). What comes next
 * depends on the position alone, never on how many sequences were asked for at a time. The next batch is read while the
 * present one is used.
 */
export class TokenLoader {
  readonly dataset: Dataset;
  /** Tokens of a block. */
  readonly blockLength: number;
  /** Blocks of one epoch. */
  readonly blocks: number;
  private length: number;
  private readonly seed: number;
  private readonly onEnd: "repeat" | "stop";
  private place: Place = { position: 0, offset: 0 };
  private ahead: { key: string; batch: Promise<Batch | null> } | null = null;
  private order: { epoch: number; permutation: Permutation } | null = null;

  /** @throws ThalwegError BAD_CONFIG for lengths that do not fit, BAD_INPUT when the data is shorter than one block */
  constructor(dataset: Dataset, options: LoaderOptions) {
    this.dataset = dataset;
    this.blockLength = options.maxLength ?? options.length;
    this.length = options.length;
    this.blocks = countBlocks(dataset, this.blockLength);
    this.seed = options.seed ?? 0;
    this.onEnd = options.onEnd ?? "repeat";
    this.setLength(options.length);
  }

  /** Blocks consumed so far, all epochs counted. */
  get position(): number {
    return this.place.position;
  }

  /** Tokens consumed of the present block. */
  get offset(): number {
    return this.place.offset;
  }

  /** Epoch of the next sequence, from 0. */
  get epoch(): number {
    return Math.floor(this.place.position / this.blocks);
  }

  /** Goes on from a batch's position (and offset, when blocks are sliced). O(1). */
  seek(position: number, offset = 0): void {
    if (!Number.isSafeInteger(position) || position < 0)
      throw new RangeError(`position ${position} is not a block count`);
    if (!Number.isSafeInteger(offset) || offset < 0 || offset >= this.blockLength)
      throw new RangeError(`offset ${offset} is not in 0..${this.blockLength - 1}`);
    this.place = { position, offset };
  }

  /** Tokens of a sequence from now on; what is left of a block too short for one is skipped. */
  setLength(length: number): void {
    if (!Number.isSafeInteger(length) || length < 1 || length > this.blockLength)
      throw new ThalwegError(
        "BAD_CONFIG",
        `sequence length ${length} is not in 1..${this.blockLength}, the block length`,
      );
    this.length = length;
  }

  /**
   * The next `sequences` sequences. With onEnd "stop", the last batch is filled up with ignored targets and then null
   * comes.
   */
  async next(sequences: number): Promise<Batch | null> {
    const key = this.keyOf(sequences);
    const pending = this.ahead?.key === key ? this.ahead.batch : this.load(this.place, sequences);
    this.ahead = null;
    const batch = await pending;
    if (batch === null) return null;
    this.place = { position: batch.position, offset: batch.offset };
    const following = this.load(this.place, sequences);
    // An error of the batch ahead belongs to the call that asks for it.
    following.catch(() => undefined);
    this.ahead = { key: this.keyOf(sequences), batch: following };
    return batch;
  }

  /** All that decides a batch: a batch read ahead for anything else is of no use. */
  private keyOf(sequences: number): string {
    return `${this.place.position}:${this.place.offset}:${this.length}:${sequences}`;
  }

  private load(from: Place, sequences: number): Promise<Batch | null> {
    const starts: number[] = [];
    let { position, offset } = from;
    const epoch = Math.floor(position / this.blocks);
    while (starts.length < sequences) {
      if (this.onEnd === "stop" && position >= this.blocks) break;
      starts.push(this.blockAt(position) * this.blockLength + offset);
      offset += this.length;
      if (offset + this.length > this.blockLength) {
        position++;
        offset = 0;
      }
    }
    if (starts.length === 0) return Promise.resolve(null);
    return readSequences(this.dataset, starts, sequences, this.length, { epoch, position, offset });
  }

  private blockAt(position: number): number {
    const epoch = Math.floor(position / this.blocks);
    if (this.order?.epoch !== epoch)
      this.order = { epoch, permutation: new Permutation(this.blocks, this.seed, epoch) };
    return this.order.permutation.permute(position % this.blocks);
  }
}

/**
 * A fixed set for validation: the first `sequences` blocks of one permutation after `skip` others (all, when there are
 * fewer), the same whatever the seed and position of training. They come `batch` at a time (default all at once), the last batch filled
 * up with ignored targets.
 */
export async function* fixedBatches(
  dataset: Dataset,
  sequences: number,
  length: number,
  batch = sequences,
  skip = 0,
): AsyncGenerator<Batch> {
  const blocks = countBlocks(dataset, length);
  const permutation = new Permutation(blocks, 0, 0);
  const end = Math.min(skip + sequences, blocks);
  for (let first = skip; first < end; first += batch) {
    const count = Math.min(batch, end - first);
    const starts = Array.from({ length: count }, (_, i) => permutation.permute(first + i) * length);
    yield await readSequences(dataset, starts, batch, length, { epoch: 0, position: first + count, offset: 0 });
  }
}

interface Place {
  readonly position: number;
  readonly offset: number;
}

async function readSequences(
  dataset: Dataset,
  starts: readonly number[],
  sequences: number,
  length: number,
  after: Place & { readonly epoch: number },
): Promise<Batch> {
  const tokens = new Int32Array(sequences * length);
  const targets = new Int32Array(sequences * length).fill(ignoredTarget);
  const rows = starts.map(async (start, row) => {
    const text = new Int32Array(length + 1);
    await dataset.read(start, length + 1, text);
    tokens.set(text.subarray(0, length), row * length);
    targets.set(text.subarray(1), row * length);
  });
  await Promise.all(rows);
  return { tokens, targets, sequences, length, validTokens: starts.length * length, ...after };
}

function countBlocks(dataset: Dataset, length: number): number {
  if (!Number.isSafeInteger(length) || length < 1)
    throw new ThalwegError("BAD_CONFIG", `block length ${length} is not a positive integer`);
  // The last token of a block's targets lies in the next block.
  const blocks = Math.floor((dataset.tokens - 1) / length);
  if (blocks >= 1) return blocks;
  throw new ThalwegError(
    "BAD_INPUT",
    `${dataset.folder} has ${dataset.tokens} tokens, less than one sequence of ${length} and its last target: prepare more text or shorten the sequences`,
  );
}
