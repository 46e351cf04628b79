import type { Batch } from "../data/loader.ts";
import type { StepScalars } from "../schedule/scalars.ts";

/** What an update uses: its learning rate, and whatever else is not as the optimizer has it. */
export type UpdateScalars = Pick<StepScalars, "lr"> & Partial<StepScalars>;

/** What the device reports of a step. */
export interface StepNumbers {
  /** Mean loss in nats per valid target. */
  loss: number;
  /** Global gradient norm before clipping. */
  norm: number;
  /** 0 while everything was finite; sticks at 1 afterwards. */
  status: number;
}

export type EvaluatedWeights = "live" | "average";

export interface LossSum {
  /** Sum of token losses, nats. */
  sum: number;
  /** Valid targets. */
  count: number;
  /** Loss of each token in nats, where they were asked for. */
  losses?: Float32Array;
}

/** Writes the state of one moment, while training goes on with the next. */
export interface StateSnapshot {
  /** Weights in float32 under Hugging Face names, as safetensors. */
  writeModel(path: string): Promise<void>;
  /** Both moments of AdamW under `adam_m/` and `adam_v/` + Hugging Face name. */
  writeOptimizer(path: string): Promise<void>;
  /** The moving average of the weights, as writeModel; null when none is kept. */
  writeAverage: ((path: string) => Promise<void>) | null;
  dispose(): void;
}

/**
 * A loaded model as the training loop sees it: steps in, numbers out. The engine's Module stands behind it (see
 * module_machine.ts); tests of the loop put arithmetic there.
 */
export interface Machine {
  /**
   * Queues update number `step` (counted from 0): accumulate over the micro-batches, then update. Steps are made in the
   * order of the calls. Resolves with the step's numbers once the update was made; null when `signal` stopped the step
   * at a micro-batch, in which case nothing of it counts.
   */
  step(batch: Batch, step: number, scalars: UpdateScalars, signal: AbortSignal): Promise<StepNumbers | null>;
  /** Losses of a batch without a gradient, under the weights or their moving average; token by token with `each`. */
  evaluate(batch: Batch, weights?: EvaluatedWeights, each?: boolean): Promise<LossSum>;
  /** Copies weights and optimizer state aside, after everything queued before. */
  snapshot(): Promise<StateSnapshot>;
}
