/**
 * What a run writes to metrics.jsonl: one JSON object a line. The first line is the header; readers refuse another
 * version. A step number counts finished updates: the record of step 1 describes the first update, made at
 * schedule.valueAt(0). Losses keep full precision (JSON numbers round-trip doubles).
 */
export const METRICS_VERSION = 1;

/** Why a checkpoint or an evaluation exists. */
export type Occasion = "pre-decay" | "post-decay" | "periodic" | "final" | "signal" | "merged";

export interface HeaderRecord {
  type: "header";
  version: number;
  run: string;
  /** Milliseconds since 1970, UTC. */
  startedAt: number;
  parameters: number;
  /** Of whole sequences of batch.length, an upper bound inside documents. Shares count what each step really does. */
  flopsPerToken: number;
  deviceClass: string;
}

export interface StepRecord {
  type: "step";
  step: number;
  /** Tokens trained on since the first step of the lineage. */
  tokens: number;
  /** Mean cross-entropy in nats per valid target of the step's batch, before the update. */
  loss: number;
  lr: number;
  /** Global norm of the gradient before clipping. */
  gradNorm: number;
  tokensPerSecond: number;
  /** Model FLOP/s over the device's measured matrix-multiply peak, 0..1; null when the peak is not known. */
  share: number | null;
  phase: string;
  epoch: number;
}

/** Loss on one validation set. */
/** Tokens whose true entropy lies in one class. */
export interface EntropyLoss {
  /** Bounds of the class in nats: above the first, up to and with the second; null for none. */
  above: number | null;
  upTo: number | null;
  tokens: number;
  /** Mean cross-entropy of these tokens and their mean true entropy, which no model can beat; nats. */
  loss: number;
  entropy: number;
}

export interface SetLoss {
  /** Nats per token. */
  loss: number;
  tokens: number;
  /** Null where the data know no bytes of text. */
  bitsPerByte: number | null;
  /** The loss split by the true uncertainty of the tokens, where the data know it (`data synthesize`). */
  byEntropy?: EntropyLoss[];
}

export interface EvaluationRecord {
  type: "evaluation";
  step: number;
  tokens: number;
  /** Mean cross-entropy in nats per token over the fixed validation batches. */
  loss: number;
  evaluatedTokens: number;
  /** The same under the moving average of the weights, where one is kept. */
  averageLoss?: number;
  /** Each validation set by its name; absent in records of older versions. */
  sets?: Record<string, SetLoss>;
  occasion: Occasion;
  /** Index of the budget whose decay starts or ends here; null otherwise. */
  budget: number | null;
  lr: number;
}

export interface CheckpointRecord {
  type: "checkpoint";
  step: number;
  tokens: number;
  /** Relative to the run directory. */
  path: string;
  occasion: Occasion;
  budget: number | null;
  bytes: number;
}

export interface WarningRecord {
  type: "warning";
  step: number;
  detector: string;
  message: string;
  suggestion: string;
}

/** A later start of the same run; everything after `step` was dropped before it. */
export interface ResumeRecord {
  type: "resume";
  step: number;
  from: string;
  startedAt: number;
}

export type MetricsRecord =
  | HeaderRecord
  | StepRecord
  | EvaluationRecord
  | CheckpointRecord
  | WarningRecord
  | ResumeRecord;
