import type { DeviceChoice } from "../base/device.ts";
import { ThalwegError } from "../base/errors.ts";
import { type Dataset, openDataset } from "../data/dataset.ts";
import { adamDefaults } from "../optim/adamw.ts";
import { sequencesIn, validationFolder } from "./datasets.ts";
import { evaluateLoss, validationSet } from "./evaluate.ts";
import { enginePrecision } from "./model_config.ts";
import { ModuleMachine } from "./module_machine.ts";
import { loadPretrained, openPretrained } from "./pretrained.ts";

export interface EvaluateOptions {
  /** A checkpoint, a run directory (its newest checkpoint) or a transformers folder. */
  path: string;
  /** A prepared dataset. Default: the validation data of the checkpoint's run. */
  data?: string | undefined;
  /** Sequences to evaluate on, "all" for the whole data. Default: as the run did, or 64. */
  sequences?: number | "all" | undefined;
  length?: number | undefined;
  batch?: number | undefined;
  precision?: "fp32" | "bf16" | undefined;
  device?: DeviceChoice | undefined;
  threads?: number | undefined;
  signal?: AbortSignal | undefined;
}

export interface Evaluation {
  path: string;
  data: string;
  step: number | null;
  /** Mean cross-entropy, nats per token; its exponential; and per byte of text, in bits, where the data knows its bytes. */
  loss: number;
  perplexity: number;
  bitsPerByte: number | null;
  tokens: number;
  precision: "fp32" | "bf16";
}

/** Validation loss of a saved model. @throws BAD_OPTION when data or length do not fit the model. */
export async function evaluateCheckpoint(options: EvaluateOptions): Promise<Evaluation> {
  const pretrained = await openPretrained(options.path);
  const config = pretrained.checkpoint?.state.config ?? null;
  const folder = options.data ?? (config === null ? null : validationFolder(config.data));
  if (folder === null)
    throw new ThalwegError("BAD_OPTION", `${options.path} names no validation data: give a dataset with --data.`);
  const dataset = await openDataset(folder);
  try {
    checkTokenizer(pretrained.tokenizer?.hash ?? null, dataset);
    const length = options.length ?? config?.batch.length ?? Math.min(pretrained.model.maxLength, 1024);
    // A part of its own validation data that was kept for something else stays kept.
    const skip = options.data === undefined && options.sequences !== "all" ? (config?.evaluation.skip ?? 0) : 0;
    const available = sequencesIn(dataset, length) - skip;
    const wanted = options.sequences ?? config?.evaluation.sequences ?? 64;
    const sequences = wanted === "all" ? available : Math.min(wanted, available);
    const precision = options.precision ?? config?.precision ?? "fp32";
    const batch = Math.max(1, Math.min(options.batch ?? Math.ceil(8192 / length), sequences));
    await using loaded = await loadPretrained(pretrained, {
      precision: enginePrecision(precision),
      microBatch: batch,
      length,
      kinds: ["evaluate"],
      device: options.device,
      threads: options.threads,
    });
    const machine = new ModuleMachine(loaded.module, loaded.built, adamDefaults);
    const set = validationSet(dataset, sequences, length, batch, skip);
    const { loss, tokens } = await evaluateLoss(machine, set, options.signal);
    const step = pretrained.checkpoint?.state.step ?? null;
    const bytes = dataset.manifest.textBytes;
    const bitsPerByte = bytes > 0 ? ((loss / Math.LN2) * dataset.tokens) / bytes : null;
    return {
      path: pretrained.folder,
      data: folder,
      step,
      loss,
      perplexity: Math.exp(loss),
      bitsPerByte,
      tokens,
      precision,
    };
  } finally {
    await dataset.close();
  }
}

function checkTokenizer(hash: string | null, dataset: Dataset): void {
  if (hash === null || hash === dataset.manifest.tokenizer.hash) return;
  throw new ThalwegError(
    "BAD_OPTION",
    `${dataset.folder} was made with another tokenizer (${dataset.manifest.tokenizer.name}) than the checkpoint's: its token numbers mean other text.`,
  );
}
