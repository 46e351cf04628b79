import type { DeviceChoice } from "../base/device.ts";
import { ThalwegError } from "../base/errors.ts";
import { defaultEntropyBounds } from "../config/schema.ts";
import type { LoaderSource } from "../data/loader.ts";
import { adamDefaults } from "../optim/adamw.ts";
import { closeAll, openAll, sequencesIn, validationFolders } from "./datasets.ts";
import { evaluateSets, validationSet } from "./evaluate.ts";
import { enginePrecision } from "./model_config.ts";
import { ModuleMachine } from "./module_machine.ts";
import { loadPretrained, openPretrained } from "./pretrained.ts";
import type { SetLoss } from "./records.ts";

export interface EvaluateOptions {
  /** A checkpoint, a run directory (its newest checkpoint) or a transformers folder. */
  path: string;
  /** Evaluate the moving average of the weights that lies beside them. */
  average?: boolean | undefined;
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
  /** Each validation set by itself. */
  sets: Record<string, SetLoss>;
  precision: "fp32" | "bf16";
}

/** Validation loss of a saved model. @throws BAD_OPTION when data or length do not fit the model. */
export async function evaluateCheckpoint(options: EvaluateOptions): Promise<Evaluation> {
  const pretrained = await openPretrained(options.path, options.average);
  const config = pretrained.checkpoint?.state.config ?? null;
  const folders: [string, string][] = options.data
    ? [["validation", options.data]]
    : config === null
      ? []
      : validationFolders(config.data);
  if (folders.length === 0)
    throw new ThalwegError("BAD_OPTION", `${options.path} names no validation data: give a dataset with --data.`);
  const opened = await openAll(folders);
  try {
    for (const source of opened) checkTokenizer(pretrained.tokenizer?.hash ?? null, source);
    const length = options.length ?? config?.batch.length ?? Math.min(pretrained.model.maxLength, 1024);
    // A part of its own validation data that was kept for something else stays kept.
    const skip = options.data === undefined && options.sequences !== "all" ? (config?.evaluation.skip ?? 0) : 0;
    const wanted = options.sequences ?? config?.evaluation.sequences ?? 64;
    const available = opened.map(({ dataset }) => sequencesIn(dataset, length) - skip);
    const most = wanted === "all" ? Math.max(...available) : Math.min(wanted, Math.max(...available));
    // As the run read its own validation data; a folder of another origin says nothing.
    const attention = config?.data.attention ?? "sequence";
    const precision = options.precision ?? config?.precision ?? "fp32";
    const batch = Math.max(1, Math.min(options.batch ?? Math.ceil(8192 / length), most));
    await using loaded = await loadPretrained(pretrained, {
      precision: enginePrecision(precision),
      microBatch: batch,
      length,
      kinds: ["evaluate"],
      attention,
      device: options.device,
      threads: options.threads,
    });
    const machine = new ModuleMachine(loaded.module, loaded.built, adamDefaults);
    const sets = opened.map((source) => ({
      ...source,
      batches: validationSet(source.dataset, { sequences: most, length, batch, skip, attention }),
    }));
    const bounds = config?.evaluation.entropyBounds ?? defaultEntropyBounds;
    const measured = await evaluateSets(machine, sets, options.signal, bounds);
    return {
      path: pretrained.folder,
      data: folders.map(([, folder]) => folder).join(" "),
      step: pretrained.checkpoint?.state.step ?? null,
      ...measured,
      perplexity: Math.exp(measured.loss),
      precision,
    };
  } finally {
    await closeAll(opened);
  }
}

function checkTokenizer(hash: string | null, { dataset }: LoaderSource): void {
  if (hash === null || hash === dataset.manifest.tokenizer.hash) return;
  throw new ThalwegError(
    "BAD_OPTION",
    `${dataset.folder} was made with another tokenizer (${dataset.manifest.tokenizer.name}) than the checkpoint's: its token numbers mean other text.`,
  );
}
