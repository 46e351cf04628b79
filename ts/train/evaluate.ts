import { ThalwegError } from "../base/errors.ts";
import type { Dataset } from "../data/dataset.ts";
import { type Batch, fixedBatches } from "../data/loader.ts";
import { sequencesIn } from "./datasets.ts";
import type { Machine } from "./machine.ts";

/** A fixed set of sequences; the same at every call. */
export type ValidationSet = () => AsyncIterable<Batch>;

/** `skip` sequences are passed over first: another part of the same text. */
export function validationSet(
  dataset: Dataset,
  sequences: number,
  length: number,
  batch: number,
  skip = 0,
): ValidationSet {
  if (skip > 0 && skip >= sequencesIn(dataset, length))
    throw new ThalwegError(
      "BAD_CONFIG",
      `evaluation.skip is ${skip}, but ${dataset.folder} has only ${sequencesIn(dataset, length)} sequences of ${length}: none is left to evaluate on.`,
    );
  return () => fixedBatches(dataset, sequences, length, batch, skip);
}

/**
 * Mean loss in nats per token over a set, summed in float64 in the set's order. Stops between batches when `signal`
 * aborts, with the signal's reason as error.
 */
export async function evaluateLoss(
  machine: Pick<Machine, "evaluate">,
  set: ValidationSet,
  signal?: AbortSignal,
): Promise<{ loss: number; tokens: number }> {
  let sum = 0;
  let tokens = 0;
  for await (const batch of set()) {
    signal?.throwIfAborted();
    const part = await machine.evaluate(batch);
    sum += part.sum;
    tokens += part.count;
  }
  return { loss: sum / Math.max(1, tokens), tokens };
}
