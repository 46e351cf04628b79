import { join, relative } from "node:path";
import { ThalwegError } from "../base/errors.ts";
import { type CheckpointFile, publishCheckpoint } from "./checkpoint.ts";
import { rotateCheckpoints } from "./checkpoint_folder.ts";
import { type CheckpointState, checkpointName } from "./checkpoint_state.ts";
import type { StateSnapshot } from "./machine.ts";
import type { CheckpointRecord, WarningRecord } from "./records.ts";

export const MODEL_FILE = "model.safetensors";
export const OPTIMIZER_FILE = "optimizer.safetensors";
/** The moving average of the weights, where the run keeps one. */
export const AVERAGE_FILE = "ema.safetensors";

/** An error's message to be followed by a full stop. */
const reason = (error: Error): string => error.message.replace(/\.$/, "");

export interface SaverOptions {
  runDir: string;
  keep: number;
  /** config.json, tokenizer files and the like, the same in every checkpoint. */
  companions: Readonly<Record<string, string | Uint8Array>>;
  onSaved: (record: CheckpointRecord) => void;
  onWarning: (record: WarningRecord) => void;
  /** Runs before a checkpoint is published: what it stands for must be on disk too. */
  beforePublish: () => Promise<void>;
}

/**
 * Writes checkpoints beside the training: the device's state is copied when `save` is called, the files are written
 * while the next steps run. At most one is being written; the next `save` waits for it. A failed save (a full disk) is a
 * warning, since the run is worth more than one checkpoint; only a required one fails the run.
 */
export class CheckpointSaver {
  readonly #options: SaverOptions;
  readonly directory: string;
  #inFlight: Promise<void> = Promise.resolve();
  /** Step of the newest checkpoint of this run that is whole; -1 when there is none. */
  #lastSavedStep = -1;

  constructor(options: SaverOptions) {
    this.#options = options;
    this.directory = join(options.runDir, "checkpoints");
  }

  /** Tells which checkpoint the run went on from. */
  startedFrom(step: number): void {
    this.#lastSavedStep = step;
  }

  /** Starts to write a checkpoint and returns once its state is copied; failures become warnings. */
  async save(state: CheckpointState, snapshot: () => Promise<StateSnapshot>): Promise<void> {
    await this.#inFlight;
    const copied = await snapshot();
    this.#inFlight = this.#publish(state, copied).catch((error: Error) => {
      const message = `the checkpoint of step ${state.step} was not written: ${reason(error)}. ${this.newest()}`;
      this.#warn(state.step, "checkpoint-failed", message);
    });
  }

  /**
   * Writes a checkpoint that the run must have (its last one), and waits for it.
   * @throws CHECKPOINT_FAILED when it cannot be written, naming the checkpoint that is still whole.
   */
  async saveRequired(state: CheckpointState, snapshot: () => Promise<StateSnapshot>): Promise<void> {
    await this.#inFlight;
    if (this.#lastSavedStep === state.step) return;
    try {
      await this.#publish(state, await snapshot());
    } catch (cause) {
      throw new ThalwegError(
        "CHECKPOINT_FAILED",
        `the checkpoint of step ${state.step} could not be written in ${this.directory}: ${reason(cause as Error)}. ${this.newest()} Make room and resume.`,
        { cause },
      );
    }
  }

  /** Waits for the checkpoint being written. */
  async drain(): Promise<void> {
    await this.#inFlight;
  }

  /** A sentence that names the newest checkpoint that is whole. */
  newest(): string {
    if (this.#lastSavedStep < 0) return "No earlier checkpoint of this run exists.";
    return `The last good checkpoint is ${join(this.directory, checkpointName(this.#lastSavedStep))}.`;
  }

  async #publish(state: CheckpointState, snapshot: StateSnapshot): Promise<void> {
    const { runDir, companions, keep, beforePublish, onSaved } = this.#options;
    try {
      await beforePublish();
      const files: Record<string, CheckpointFile> = {
        ...companions,
        [MODEL_FILE]: (path) => snapshot.writeModel(path),
        [OPTIMIZER_FILE]: (path) => snapshot.writeOptimizer(path),
        ...(snapshot.writeAverage ? { [AVERAGE_FILE]: snapshot.writeAverage } : {}),
      };
      const { path, bytes } = await publishCheckpoint(this.directory, state, files);
      this.#lastSavedStep = state.step;
      const { step, tokens, occasion, budget } = state;
      onSaved({ type: "checkpoint", step, tokens, path: relative(runDir, path), occasion, budget, bytes });
    } finally {
      snapshot.dispose();
    }
    await rotateCheckpoints(this.directory, keep).catch((error: Error) => {
      this.#warn(state.step, "rotation-failed", `old checkpoints could not be removed: ${error.message}`);
    });
  }

  #warn(step: number, detector: string, message: string): void {
    const suggestion = "Training goes on. Look at the disk before the next checkpoint.";
    this.#options.onWarning({ type: "warning", step, detector, message, suggestion });
  }
}
