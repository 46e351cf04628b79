import { readFileSync, rmSync, statSync } from "node:fs";
import { join } from "node:path";
import { writeFileAtomic } from "../base/files.ts";
import type { DecayRequest } from "../config/schedule_parts.ts";
import { parseDecayRequest } from "./live_decay.ts";

export const CONTROL_FILE = "control.json";

/** Milliseconds between looks at the file: a step is not worth a system call. */
const LOOK_EVERY = 250;

/** Orders a decay of the run that trains into `runDir` now. Its next look finds it. */
export async function orderDecay(runDir: string, request: Partial<DecayRequest>): Promise<void> {
  parseDecayRequest(request);
  await writeFileAtomic(join(runDir, CONTROL_FILE), `${JSON.stringify({ decay: request })}\n`);
}

/** The control file of a run under way: what it says is taken once. */
export class ControlFile {
  readonly #path: string;
  readonly #onBad: (message: string) => void;
  #looked = Number.NEGATIVE_INFINITY;

  /** `onBad` hears of a file that cannot be read: a run is not ended by it. */
  constructor(runDir: string, onBad: (message: string) => void) {
    this.#path = join(runDir, CONTROL_FILE);
    this.#onBad = onBad;
  }

  /** The decay asked for since the last look; null when none was. */
  take(now = performance.now()): DecayRequest | null {
    if (now - this.#looked < LOOK_EVERY) return null;
    this.#looked = now;
    if (statSync(this.#path, { throwIfNoEntry: false }) === undefined) return null;
    try {
      const { decay } = JSON.parse(readFileSync(this.#path, "utf8")) as { decay?: unknown };
      return parseDecayRequest(decay);
    } catch (error) {
      this.#onBad((error as Error).message);
      return null;
    } finally {
      rmSync(this.#path, { force: true });
    }
  }
}
