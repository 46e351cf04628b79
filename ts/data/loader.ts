import { ThalwegError } from "../base/errors.ts";
import type { Dataset } from "./dataset.ts";
import { MixtureOrder, type MixtureStage } from "./mixture.ts";
import { Permutation } from "./order.ts";
import { type Row, readRows, readStarts } from "./row_reader.ts";

/** Targets of rows that count for nothing: the classifier ignores negative targets. */
export const ignoredTarget = -1;

/** Sequences side by side, row-major [sequences, length]; targets are tokens one further. */
export interface Batch {
  readonly tokens: Int32Array;
  readonly targets: Int32Array;
  /** For each token the position in its sequence where its document begins, where that was asked for. */
  readonly starts?: Int32Array;
  /** With `starts`: mean, over its tokens, of the length of the piece of a document in which each lies; what its FLOPs depend on. */
  readonly context?: number;
  readonly sequences: number;
  readonly length: number;
  /** Targets that are not `ignoredTarget`; fewer than all only in the last batch of data that stops. */
  readonly validTokens: number;
  /** Epoch of the first sequence in its source, from 0. */
  readonly epoch: number;
  /** Blocks consumed once this batch has been used, all epochs counted: `seek` goes on from here. */
  readonly position: number;
  /** Tokens consumed of the block after those; 0 unless blocks are sliced. */
  readonly offset: number;
  /** True entropy in nats of each target, in validation sets of data that know it. */
  readonly entropies?: Float32Array;
}

export interface LoaderOptions {
  /** Tokens of a sequence. */
  readonly length: number;
  /** Tokens of a block, the unit that is permuted; shorter sequences are slices of it. Default `length`. */
  readonly maxLength?: number;
  readonly seed?: number;
  /** Also say where each token's document begins (`Batch.starts`). Default false. */
  readonly documents?: boolean;
  /** Shares of the sources, from block 0 on. Default: in proportion to their blocks. */
  readonly stages?: readonly MixtureStage[];
  /** At the end of the data (with several sources: of the first one to end): begin a new epoch in another order, or stop. Default repeat. */
  readonly onEnd?: "repeat" | "stop";
}

/** A dataset and its name in a mixture. */
export interface LoaderSource {
  readonly name: string;
  readonly dataset: Dataset;
}

/**
 * Batches of one dataset, or of several mixed in stated shares, in the order of the seed. Block i of a source is tokens
 * [i L, i L + L] (its last token is only a target), a last partial block is dropped, and epoch e visits blocks in the order
 * Permutation(blocks, seed, e); see MixtureOrder for several. What comes next depends on the position alone, never on how
 * many sequences were asked for at a time. The next batch is read while the present one is used.
 */
export class TokenLoader {
  readonly sources: readonly LoaderSource[];
  /** Tokens of a block. */
  readonly blockLength: number;
  /** Blocks of all sources, each read once. */
  readonly blocks: number;
  private readonly order: MixtureOrder;
  private length: number;
  private readonly documents: boolean;
  private readonly end: number;
  private place: Place = { position: 0, offset: 0 };
  private ahead: { key: string; batch: Promise<Batch | null> } | null = null;

  /**
   * @throws ThalwegError BAD_CONFIG for lengths or weights that do not fit, or documents asked of data that do not know
   * them; BAD_INPUT when a source is shorter than one block
   */
  constructor(data: Dataset | readonly LoaderSource[], options: LoaderOptions) {
    this.sources = "tokens" in data ? [{ name: "data", dataset: data }] : data;
    this.blockLength = options.maxLength ?? options.length;
    this.length = options.length;
    this.documents = options.documents ?? false;
    if (this.documents) requireDocuments(this.sources);
    const counted = this.sources.map(({ name, dataset }) => ({ name, blocks: countBlocks(dataset, this.blockLength) }));
    this.blocks = counted.reduce((sum, source) => sum + source.blocks, 0);
    const natural = Object.fromEntries(counted.map(({ name, blocks }) => [name, blocks]));
    this.order = new MixtureOrder(counted, options.stages ?? [{ from: 0, weights: natural }], options.seed ?? 0);
    this.end = (options.onEnd ?? "repeat") === "stop" ? this.order.end() : Number.POSITIVE_INFINITY;
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
    return this.order.at(this.place.position).epoch;
  }

  /** Blocks of each source, in their order, consumed so far. */
  counts(): number[] {
    return this.order.countsBefore(this.place.position);
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
    const rows: Row[] = [];
    let { position, offset } = from;
    if (position >= this.end) return Promise.resolve(null);
    const { epoch } = this.order.at(position);
    while (rows.length < sequences && position < this.end) {
      const { source, block } = this.order.at(position);
      rows.push({ dataset: this.sources[source]!.dataset, start: block * this.blockLength + offset });
      offset += this.length;
      if (offset + this.length > this.blockLength) {
        position++;
        offset = 0;
      }
    }
    return readSequences(rows, sequences, this.length, { epoch, position, offset }, this.documents);
  }
}

/** @throws ThalwegError BAD_CONFIG naming data that do not say where their documents end */
export function requireDocuments(sources: readonly LoaderSource[]): void {
  const without = sources.find(({ dataset }) => !dataset.hasDocuments);
  if (!without) return;
  throw new ThalwegError(
    "BAD_CONFIG",
    `data.attention is documents, but ${without.dataset.folder} has a shard without a document index. Prepare the text again with \`thalweg data prepare\`, or use data.attention: sequence.`,
  );
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
  documents = false,
): AsyncGenerator<Batch> {
  if (documents) requireDocuments([{ name: "data", dataset }]);
  const blocks = countBlocks(dataset, length);
  const permutation = new Permutation(blocks, 0, 0);
  const end = Math.min(skip + sequences, blocks);
  for (let first = skip; first < end; first += batch) {
    const count = Math.min(batch, end - first);
    const rows = Array.from({ length: count }, (_, i) => ({ dataset, start: permutation.permute(first + i) * length }));
    const place = { epoch: 0, position: first + count, offset: 0 };
    const read = await readSequences(rows, batch, length, place, documents);
    yield dataset.hasEntropy ? { ...read, entropies: await readEntropies(rows, batch, length) } : read;
  }
}

interface Place {
  readonly position: number;
  readonly offset: number;
}

async function readSequences(
  rows: readonly Row[],
  sequences: number,
  length: number,
  after: Place & { readonly epoch: number },
  documents: boolean,
): Promise<Batch> {
  const tokens = new Int32Array(sequences * length);
  const targets = new Int32Array(sequences * length).fill(ignoredTarget, rows.length * length);
  const batch = { tokens, targets, sequences, length, validTokens: rows.length * length, ...after };
  if (!documents) {
    await readRows(rows, length, tokens, targets);
    return batch;
  }
  const starts = new Int32Array(sequences * length);
  const [context] = await Promise.all([readStarts(rows, length, starts), readRows(rows, length, tokens, targets)]);
  return { ...batch, starts, context };
}

async function readEntropies(rows: readonly Row[], sequences: number, length: number): Promise<Float32Array> {
  const entropies = new Float32Array(sequences * length);
  for (const [row, { dataset, start }] of rows.entries())
    await dataset.readEntropy(start + 1, length, entropies, row * length);
  return entropies;
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
