import type { Batch } from "../../../ts/data/loader.ts";
import type { Machine, StateSnapshot, StepNumbers, UpdateScalars } from "../../../ts/train/machine.ts";

/** A machine of arithmetic: one weight that each step moves by lr, a loss that falls with it. Steps take a tick. */
export class FakeMachine implements Machine {
  weight: number;
  readonly log: string[] = [];
  /** From this update on (counted from 0) the loss is not finite. */
  poisonAt = Number.POSITIVE_INFINITY;
  #queue: Promise<unknown> = Promise.resolve();
  #status = 0;

  constructor(weight = 0) {
    this.weight = weight;
  }

  step(_: Batch, step: number, { lr }: UpdateScalars, signal: AbortSignal): Promise<StepNumbers | null> {
    this.log.push(`queue ${step}`);
    const done = this.#queue.then(async () => {
      await new Promise((resolve) => setImmediate(resolve));
      if (signal.aborted) return null;
      if (step >= this.poisonAt) this.#status = 1;
      const loss = this.#status ? Number.NaN : 5 - this.weight;
      if (!this.#status) this.weight += lr;
      this.log.push(`update ${step}`);
      return { loss, norm: 1, status: this.#status };
    });
    this.#queue = done.catch(() => undefined);
    return done;
  }

  async evaluate(batch: Batch) {
    await this.#queue;
    return { sum: (5 - this.weight) * batch.validTokens, count: batch.validTokens };
  }

  async snapshot(): Promise<StateSnapshot> {
    const nothing = async () => undefined;
    return { writeModel: nothing, writeOptimizer: nothing, writeAverage: null, dispose: () => undefined };
  }
}

/** Batch number `index` of two sequences of four tokens. */
export const fakeBatch = (index: number): Batch => ({
  tokens: new Int32Array(8),
  targets: new Int32Array(8),
  sequences: 2,
  length: 4,
  validTokens: 8,
  epoch: 0,
  position: 2 * (index + 1),
  offset: 0,
});
