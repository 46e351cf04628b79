/** One optimizer step's tokens and next-token targets, row-major [sequences, length]; targets < 0 are ignored. */
export interface Batch {
  tokens: Int32Array;
  targets: Int32Array;
  sequences: number;
}

/** What the device reports of a step. */
export interface StepNumbers {
  /** Mean loss in nats per valid target. */
  loss: number;
  /** Global gradient norm before clipping. */
  norm: number;
  /** 0 while everything was finite; sticks at 1 afterwards. */
  status: number;
}

export interface LossSum {
  /** Sum of token losses, nats. */
  sum: number;
  /** Valid targets. */
  count: number;
}

/** Writes the state of one moment, while training goes on with the next. */
export interface StateSnapshot {
  /** Weights in float32 under Hugging Face names, as safetensors. */
  writeModel(path: string): Promise<void>;
  /** Both moments of AdamW under `adam_m/` and `adam_v/` + Hugging Face name. */
  writeOptimizer(path: string): Promise<void>;
  dispose(): void;
}

/**
 * A loaded model as the training loop sees it: steps in, numbers out. The engine's Module stands behind it (see
 * module_machine.ts); tests of the loop put arithmetic there.
 */
export interface Machine {
  /**
   * Queues update number `step` (counted from 0): accumulate over the micro-batches, then update. `finished` resolves
   * when the update was made, and rejects when `signal` stopped the step at a micro-batch, in which case nothing of it
   * counts. `numbers` follows `finished`.
   */
  step(
    batch: Batch,
    step: number,
    lr: number,
    signal: AbortSignal,
  ): { finished: Promise<void>; numbers: Promise<StepNumbers> };
  /** Losses of a batch without a gradient. */
  evaluate(batch: Batch): Promise<LossSum>;
  /** Copies weights and optimizer state aside, after everything queued before. */
  snapshot(): Promise<StateSnapshot>;
  /** Reads weights, and the optimizer's state unless `optimizer` is null. */
  load(files: { model: string; optimizer: string | null }): Promise<void>;
}
