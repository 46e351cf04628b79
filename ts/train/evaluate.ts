import { ThalwegError } from "../base/errors.ts";
import type { Dataset } from "../data/dataset.ts";
import { type Batch, fixedBatches } from "../data/loader.ts";
import type { AttentionScope } from "../model/layout.ts";
import { sequencesIn } from "./datasets.ts";
import { EntropyClasses } from "./entropy_classes.ts";
import type { Machine } from "./machine.ts";
import type { EntropyLoss, SetLoss } from "./records.ts";

/** A fixed set of sequences; the same at every call. */
export type ValidationSet = () => AsyncIterable<Batch>;

export interface ValidationShape {
  sequences: number;
  length: number;
  /** Sequences at a time. */
  batch: number;
  /** Sequences passed over first: another part of the same text. */
  skip: number;
  attention: AttentionScope;
}

export function validationSet(
  dataset: Dataset,
  { sequences, length, batch, skip, attention }: ValidationShape,
): ValidationSet {
  if (skip > 0 && skip >= sequencesIn(dataset, length))
    throw new ThalwegError(
      "BAD_CONFIG",
      `evaluation.skip is ${skip}, but ${dataset.folder} has only ${sequencesIn(dataset, length)} sequences of ${length}: none is left to evaluate on.`,
    );
  return () => fixedBatches(dataset, sequences, length, batch, skip, attention === "documents");
}

/**
 * Mean loss in nats per token over a set, summed in float64 in the set's order. Stops between batches when `signal`
 * aborts, with the signal's reason as error. With `entropyBounds`, data that know the entropy of their tokens have their
 * loss split by it.
 */
export async function evaluateLoss(
  machine: Pick<Machine, "evaluate">,
  set: ValidationSet,
  signal?: AbortSignal,
  entropyBounds?: readonly number[],
): Promise<{ loss: number; tokens: number; byEntropy?: EntropyLoss[] }> {
  let sum = 0;
  let tokens = 0;
  const classes = entropyBounds && new EntropyClasses(entropyBounds);
  for await (const batch of set()) {
    signal?.throwIfAborted();
    const known = classes && batch.entropies;
    const part = await machine.evaluate(batch, "live", known !== undefined);
    if (known && part.losses) classes.add(part.losses, known, batch.targets);
    sum += part.sum;
    tokens += part.count;
  }
  const byEntropy = classes?.result() ?? [];
  return { loss: sum / Math.max(1, tokens), tokens, ...(byEntropy.length > 0 ? { byEntropy } : {}) };
}

/** A validation set with its name. */
export interface NamedSet {
  readonly name: string;
  readonly dataset: Dataset;
  readonly batches: ValidationSet;
}

export interface SetsLoss {
  /** Mean over all tokens evaluated, in nats per token. */
  readonly loss: number;
  readonly tokens: number;
  /** Over all of them; null where a set knows no bytes of text. */
  readonly bitsPerByte: number | null;
  /** Each set by itself. */
  readonly sets: Record<string, SetLoss>;
}

/** Mean losses of several sets, one after the other; `entropyBounds` as for `evaluateLoss`. */
export async function evaluateSets(
  machine: Pick<Machine, "evaluate">,
  sets: readonly NamedSet[],
  signal?: AbortSignal,
  entropyBounds?: readonly number[],
): Promise<SetsLoss> {
  const found: Record<string, SetLoss> = {};
  let sum = 0;
  let tokens = 0;
  let bytes = 0;
  for (const { name, dataset, batches } of sets) {
    const measured = await evaluateLoss(machine, batches, signal, entropyBounds);
    const { byEntropy, ...mean } = measured;
    found[name] = { ...mean, bitsPerByte: bitsPerByte(dataset, mean.loss), ...(byEntropy ? { byEntropy } : {}) };
    sum += measured.loss * measured.tokens;
    tokens += measured.tokens;
    bytes += (measured.tokens * dataset.manifest.textBytes) / dataset.tokens || Number.NaN;
  }
  const [only] = sets.length === 1 ? Object.values(found) : [];
  const loss = only?.loss ?? sum / Math.max(1, tokens);
  return { loss, tokens, bitsPerByte: Number.isNaN(bytes) ? null : sum / Math.LN2 / bytes, sets: found };
}

/** A loss in nats per token as bits per byte of text, by the tokens a byte of the whole dataset; null where it knows no bytes. */
export function bitsPerByte(dataset: Dataset, loss: number): number | null {
  const { textBytes } = dataset.manifest;
  return textBytes > 0 ? ((loss / Math.LN2) * dataset.tokens) / textBytes : null;
}
