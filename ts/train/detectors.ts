import { mean } from "../base/statistics.ts";
import type { RunConfig } from "../config/schema.ts";
import type { EvaluationRecord, StepRecord, WarningRecord } from "./records.ts";

/**
 * The failure signatures of a WSD run, each by name: `loss-spike` (learning rate too high in the stable phase),
 * `weak-decay` (the decay is too late, too short or too mild), `plan-does-not-fit` (see plan.ts). A detector sees the
 * records of metrics.jsonl and nothing else, so a resumed run, fed the records it kept, warns exactly as an
 * uninterrupted one. A warning never changes the training.
 */
export interface Detector {
  readonly name: string;
  step?(record: StepRecord): WarningRecord | null;
  evaluation?(record: EvaluationRecord): WarningRecord | null;
}

const nats = (value: number): string => value.toFixed(4);

export interface LossSpikeOptions {
  /** Losses that form the baseline. */
  window: number;
  /** Standard deviations above the baseline's mean. */
  sigmas: number;
  /** Smallest rise in nats worth a word, against windows that hardly vary. */
  minimumRise: number;
}

/**
 * Warns when two losses in a row of the stable phase lie far above the window before them: one by `sigmas` standard
 * deviations, the other by half as many. One alone is an odd batch (a table, another language), not a spike. The window
 * starts anew with each phase (the jump back to the peak raises the loss by design), and after a warning, so that one
 * spike gives one warning.
 */
export class LossSpikeDetector implements Detector {
  readonly name = "loss-spike";
  readonly #options: LossSpikeOptions;
  #window: number[] = [];
  #phase = "";
  /** A high loss that waits for the next one. */
  #suspect: { loss: number; far: boolean } | null = null;

  constructor(options: Partial<LossSpikeOptions> = {}) {
    this.#options = { window: 128, sigmas: 6, minimumRise: 0.05, ...options };
  }

  step({ step, loss, phase, lr }: StepRecord): WarningRecord | null {
    if (phase !== this.#phase) this.#forget();
    this.#phase = phase;
    if (phase !== "stable") return null;
    const { window, sigmas, minimumRise } = this.#options;
    if (this.#window.length < window) {
      this.#window.push(loss);
      return null;
    }
    const center = mean(this.#window);
    const deviation = Math.sqrt(mean(this.#window.map((v) => (v - center) ** 2)));
    const above = (value: number, deviations: number) => value - center > Math.max(minimumRise, deviations * deviation);
    const far = above(loss, sigmas);
    const suspect = this.#suspect;
    if (!far && !above(loss, sigmas / 2)) {
      this.#suspect = null;
      this.#window = [...this.#window.slice(1), loss];
      return null;
    }
    this.#suspect = { loss, far };
    if (suspect === null || !(far || suspect.far)) return null;
    const highest = Math.max(loss, suspect.loss);
    this.#forget();
    return {
      type: "warning",
      step,
      detector: this.name,
      message: `losses of steps ${step - 1} and ${step} rose to ${nats(highest)}, ${((highest - center) / deviation).toFixed(1)} standard deviations above the mean ${nats(center)} of the ${window} before them, in the stable phase at learning rate ${lr.toPrecision(3)}`,
      suggestion:
        "If spikes return, lower the peak learning rate (try half), lengthen the warm-up, or lower optimizer.clip. A decay started now would take back most of the rise.",
    };
  }

  #forget(): void {
    this.#window = [];
    this.#suspect = null;
  }
}

export interface WeakDecayOptions {
  /** Smallest gain in nats that a decay should give on the validation set. */
  minimumDrop: number;
}

/**
 * Warns after a decay when the validation loss fell by less than `minimumDrop`, or by less than the stable phase was
 * surely about to give over as many steps: the slope of its training loss (least squares over twice the decay's length)
 * less two standard errors.
 */
export class WeakDecayDetector implements Detector {
  readonly name = "weak-decay";
  readonly #minimumDrop: number;
  #stable: { step: number; loss: number }[] = [];
  #before: EvaluationRecord | null = null;

  constructor(options: Partial<WeakDecayOptions> = {}) {
    this.#minimumDrop = options.minimumDrop ?? 0.02;
  }

  step({ step, loss, phase }: StepRecord): WarningRecord | null {
    if (phase === "stable") this.#stable.push({ step, loss });
    return null;
  }

  evaluation(record: EvaluationRecord): WarningRecord | null {
    if (record.occasion === "pre-decay") this.#before = record;
    if (record.occasion !== "post-decay" || this.#before === null) return null;
    const before = this.#before;
    this.#before = null;
    const steps = record.step - before.step;
    const gain = before.loss - record.loss;
    const recent = this.#stable.filter((s) => s.step > before.step - Math.max(64, 2 * steps));
    const drift = sureFall(recent) * steps;
    this.#stable = [];
    if (gain >= Math.max(this.#minimumDrop, drift)) return null;
    const expected =
      drift > this.#minimumDrop
        ? `the stable phase alone was about to give ${nats(drift)} or more over as many steps`
        : `at least ${nats(this.#minimumDrop)} was expected`;
    return {
      type: "warning",
      step: record.step,
      detector: this.name,
      message: `the decay of steps ${before.step} to ${record.step} lowered validation loss by ${nats(gain)} (${nats(before.loss)} to ${nats(record.loss)}); ${expected}`,
      suggestion:
        "The peak learning rate may be too low for a decay to matter (try twice the peak), the decay too short (try 10% of the budget) or its floor too high (try 0.1 of the peak).",
    };
  }
}

/** Loss that falls each step, at least: least-squares slope less two standard errors; 0 when it may not fall at all. */
function sureFall(points: readonly { step: number; loss: number }[]): number {
  if (points.length < 8) return 0;
  const x = mean(points.map((p) => p.step));
  const y = mean(points.map((p) => p.loss));
  const spread = mean(points.map((p) => (p.step - x) ** 2));
  const slope = mean(points.map((p) => (p.step - x) * (p.loss - y))) / spread;
  const residual = mean(points.map((p) => (p.loss - y - slope * (p.step - x)) ** 2));
  const error = Math.sqrt(residual / (spread * (points.length - 2)));
  return Math.max(0, -slope - 2 * error);
}

/** The detectors that a config asks for; 0 turns one off. */
export function detectorsOf({ spike, weakDecay }: RunConfig["detectors"]): Detector[] {
  return [
    ...(spike.sigmas > 0 ? [new LossSpikeDetector(spike)] : []),
    ...(weakDecay.minimumDrop > 0 ? [new WeakDecayDetector(weakDecay)] : []),
  ];
}

/** Feeds records to detectors; `replay` rebuilds their memory on resume without warning again. */
export class DetectorSet {
  readonly #detectors: readonly Detector[];

  constructor(detectors: readonly Detector[]) {
    this.#detectors = detectors;
  }

  observe(record: StepRecord | EvaluationRecord): WarningRecord[] {
    const warnings = this.#detectors.map((detector) =>
      record.type === "step" ? detector.step?.(record) : detector.evaluation?.(record),
    );
    return warnings.filter((w) => w !== null && w !== undefined);
  }

  replay(records: readonly { type: string }[]): void {
    for (const r of records) if (r.type === "step" || r.type === "evaluation") this.observe(r as StepRecord);
  }
}
