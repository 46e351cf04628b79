import { ThalwegError } from "../base/errors.ts";
import { formatBytes } from "./format.ts";

/** Tokens beyond which a larger micro-batch gains nothing: matrix products are long enough, memory would be wasted. */
const ENOUGH_TOKENS = 16384;

export interface MicroBatchQuestion {
  /** Sequences in a step; the micro-batch divides it. */
  sequences: number;
  length: number;
  /** Bytes that may be used. */
  limit: number;
  /** Bytes that a micro-batch of so many sequences needs in all. */
  needs: (microBatch: number) => number;
}

const divisors = (n: number): number[] => {
  const small = Array.from({ length: Math.floor(Math.sqrt(n)) }, (_, i) => i + 1).filter((d) => n % d === 0);
  return [...new Set([...small, ...small.map((d) => n / d)])].sort((a, b) => b - a);
};

/**
 * The largest micro-batch that divides the batch, is of use and fits. Depends on the limit and the model only, not on
 * what is free at the moment: the split decides the order of sums, hence the bits.
 * @throws OUT_OF_MEMORY with the bytes needed when not even one sequence fits.
 */
export function chooseMicroBatch({ sequences, length, limit, needs }: MicroBatchQuestion): number {
  const useful = divisors(sequences).filter((d) => d === 1 || d * length <= ENOUGH_TOKENS);
  const found = useful.find((d) => needs(d) <= limit);
  if (found !== undefined) return found;
  throw new ThalwegError(
    "OUT_OF_MEMORY",
    `one sequence of ${length} tokens needs ${formatBytes(needs(1))}, but ${formatBytes(limit)} may be used. Try memory.recompute: block, a shorter batch.length, precision: bf16 or a smaller model.`,
  );
}

/**
 * Checks a micro-batch that was asked for.
 * @throws BAD_CONFIG when it does not divide the batch; OUT_OF_MEMORY when it needs more than `limit`.
 */
export function checkMicroBatch(
  microBatch: number,
  { sequences, limit, needs }: Pick<MicroBatchQuestion, "sequences" | "limit" | "needs">,
): number {
  if (sequences % microBatch !== 0)
    throw new ThalwegError(
      "BAD_CONFIG",
      `batch.microBatch is ${microBatch}, which does not divide batch.sequences (${sequences}). Use one of ${divisors(sequences).join(", ")}, or auto.`,
    );
  const bytes = needs(microBatch);
  if (bytes <= limit) return microBatch;
  throw new ThalwegError(
    "OUT_OF_MEMORY",
    `a micro-batch of ${microBatch} needs ${formatBytes(bytes)}, but memory.limit is ${formatBytes(limit)}. Use a smaller batch.microBatch, auto, or memory.recompute: block.`,
  );
}
