import { ThalwegError } from "../base/errors.ts";
import type { Batch } from "../data/loader.ts";
import type { StepScalars } from "../schedule/scalars.ts";
import type { Schedule } from "../schedule/schedule.ts";
import type { DetectorSet } from "./detectors.ts";
import type { Machine, StepNumbers } from "./machine.ts";
import type { Milestone, MilestonePlan } from "./milestones.ts";
import type { EvaluationRecord, MetricsRecord, Occasion, StepRecord } from "./records.ts";
import type { Reporter } from "./reporter.ts";

/** Where the data order stands between two steps, independent of batches and their split; what a checkpoint keeps. */
export interface DataCursor {
  /** Blocks consumed, all epochs counted. */
  position: number;
  /** Tokens consumed of the block after those. */
  offset: number;
}

/** What a run does at each step, as far as it can change under way. */
export interface LoopPlan {
  schedule: Schedule;
  /** What each update uses, the schedule's value among it. */
  scalarsAt: (step: number) => StepScalars;
  milestones: MilestonePlan;
  /** Last step; null for an open run. */
  end: number | null;
}

export interface LoopOptions {
  machine: Machine;
  /** The next step's batch; null when the data has ended and the policy is to stop. */
  nextBatch: (step: number) => Promise<Batch | null>;
  plan: LoopPlan;
  /** Asked before each step: another plan from there on, or null. What came before stays as it was. */
  redirect?: ((step: number) => Promise<LoopPlan | null>) | undefined;
  /** Finished updates when the loop starts, their tokens, and what was done after them already. */
  from: { step: number; tokens: number; cursor: DataCursor; evaluated: boolean };
  /** Steps between calls of reporter.step; slow steps are reported every few seconds all the same. */
  logEvery: number;
  /** FLOPs per second that count as 100%; null when not known. */
  peakFlops: number | null;
  /** FLOPs of a token that sees, with its sequence or document, so many: flopsPerToken of ts/model/presets.ts. */
  flopsPerToken: (length: number) => number;
  detectors: DetectorSet;
  reporter: Reporter;
  /** Writes a record, and tells the reporter of everything but steps. */
  record: (record: MetricsRecord) => void;
  /** null when there is nothing to evaluate on. */
  evaluate:
    | ((
        signal: AbortSignal,
      ) => Promise<{ loss: number; tokens: number } & Pick<EvaluationRecord, "sets" | "averageLoss">>)
    | null;
  save: (at: SavePoint, required: boolean) => Promise<void>;
  /** For the message of a diverged run: the newest checkpoint that is whole. */
  lastGood: () => Promise<string>;
  signal: AbortSignal;
}

/** The moment a checkpoint stands for. */
export interface SavePoint {
  step: number;
  tokens: number;
  cursor: DataCursor;
  occasion: Occasion;
  budget: number | null;
}

export interface LoopResult {
  step: number;
  tokens: number;
  stoppedBy: "end" | "signal" | "data";
  /** Training loss of the last finished step; null when no step was made. */
  finalLoss: number | null;
}

interface IssuedStep {
  step: number;
  tokens: number;
  lr: number;
  cursor: DataCursor;
  epoch: number;
  flopsPerToken: number;
  numbers: Promise<StepNumbers | null>;
}

/** Milliseconds after which a step is reported whatever `logEvery` says. */
const longestSilence = 5000;

const ignore = (): void => undefined;

/**
 * Runs steps until the end, a signal or the end of the data. Step n+1 is queued on the device before the numbers of
 * step n are awaited: the update is predicated by the device's sticky status, so nothing is lost when step n turns out
 * not to be finite. Before an evaluation or a checkpoint the queue is drained.
 */
export class TrainingLoop {
  readonly #o: LoopOptions;
  #plan: LoopPlan;
  #issued: number;
  #issuedTokens: number;
  #done: { step: number; tokens: number; cursor: DataCursor };
  #inFlight: IssuedStep | null = null;
  #finalLoss: number | null = null;
  /** A signal kept an evaluation from being made: the run is not done, even at its last step. */
  #unevaluated = false;
  #clock = performance.now();
  #reported = Number.NEGATIVE_INFINITY;
  #secondsPerStep: number | null = null;

  constructor(options: LoopOptions) {
    this.#o = options;
    this.#plan = options.plan;
    const { step, tokens, cursor } = options.from;
    this.#issued = step;
    this.#issuedTokens = tokens;
    this.#done = { step, tokens, cursor };
  }

  async run(): Promise<LoopResult> {
    const { signal, from } = this.#o;
    let stoppedBy: LoopResult["stoppedBy"] = "end";
    const unfinished = from.evaluated ? null : this.#plan.milestones.at(from.step);
    if (unfinished?.evaluate) await this.#evaluate(unfinished);
    while (this.#plan.end === null || this.#issued < this.#plan.end) {
      if (signal.aborted) break;
      await this.#turn();
      const batch = await this.#o.nextBatch(this.#issued);
      if (batch === null) {
        stoppedBy = "data";
        break;
      }
      const previous = this.#inFlight;
      this.#inFlight = this.#issue(batch);
      if (previous) await this.#settle(previous);
      const milestone = this.#plan.milestones.at(this.#issued);
      if (milestone) await this.#reach(milestone);
    }
    await this.#drain();
    if (signal.aborted && (this.#done.step !== this.#plan.end || this.#unevaluated)) stoppedBy = "signal";
    await this.#finish(stoppedBy);
    return { step: this.#done.step, tokens: this.#done.tokens, stoppedBy, finalLoss: this.#finalLoss };
  }

  /** Takes another plan, if there is one, and does what that plan does at this step; never at a step that saved already. */
  async #turn(): Promise<void> {
    if (this.#issued === 0 || this.#plan.milestones.at(this.#issued)?.save) return;
    const plan = (await this.#o.redirect?.(this.#issued)) ?? null;
    if (plan === null) return;
    await this.#drain();
    this.#plan = plan;
    const milestone = plan.milestones.at(this.#issued);
    if (milestone) await this.#reach(milestone);
  }

  #issue(batch: Batch): IssuedStep {
    const { machine, signal } = this.#o;
    const scalars = this.#plan.scalarsAt(this.#issued);
    const { lr } = scalars;
    const numbers = machine.step(batch, this.#issued, scalars, signal);
    numbers.catch(ignore); // awaited one step later: until then a failure must not count as unhandled
    this.#issued += 1;
    this.#issuedTokens += batch.validTokens;
    const { position, offset, epoch } = batch;
    const flopsPerToken = this.#o.flopsPerToken(batch.context ?? batch.length);
    const [step, tokens, cursor] = [this.#issued, this.#issuedTokens, { position, offset }];
    return { step, tokens, lr, cursor, epoch, flopsPerToken, numbers };
  }

  /** Waits for a step and records it. A step that a signal cut short never happened. */
  async #settle(issued: IssuedStep): Promise<void> {
    const numbers = await issued.numbers;
    if (numbers === null) return;
    if (numbers.status !== 0 || !Number.isFinite(numbers.loss) || !Number.isFinite(numbers.norm))
      await this.#diverged(issued, numbers);
    const { step, tokens, cursor } = issued;
    const record = this.#measure(issued, numbers);
    this.#done = { step, tokens, cursor };
    this.#finalLoss = numbers.loss;
    this.#observe(record);
    this.#report(record);
  }

  #report(record: StepRecord): void {
    const { logEvery, reporter } = this.#o;
    const { end } = this.#plan;
    const due = record.step % logEvery === 0 || record.step === end || this.#clock - this.#reported > longestSilence;
    if (!due) return;
    this.#reported = this.#clock;
    const known = end !== null && this.#secondsPerStep !== null;
    reporter.step({ record, end, secondsLeft: known ? (end - record.step) * this.#secondsPerStep! : null });
  }

  #measure({ step, tokens, lr, epoch, flopsPerToken }: IssuedStep, { loss, norm }: StepNumbers): StepRecord {
    const now = performance.now();
    const seconds = Math.max(1e-9, (now - this.#clock) / 1000);
    this.#clock = now;
    this.#secondsPerStep = this.#secondsPerStep === null ? seconds : 0.95 * this.#secondsPerStep + 0.05 * seconds;
    const tokensPerSecond = (tokens - this.#done.tokens) / seconds;
    const { peakFlops } = this.#o;
    const share = peakFlops === null ? null : (tokensPerSecond * flopsPerToken) / peakFlops;
    const phase = this.#plan.schedule.phaseAt(step - 1).kind;
    return { type: "step", step, tokens, loss, lr, gradNorm: norm, tokensPerSecond, share, phase, epoch };
  }

  #observe(record: StepRecord | EvaluationRecord): void {
    this.#o.record(record);
    for (const warning of this.#o.detectors.observe(record)) this.#o.record(warning);
  }

  async #diverged(issued: IssuedStep, { loss, norm }: StepNumbers): Promise<never> {
    await this.#inFlight?.numbers.catch(ignore);
    const found = `loss ${loss} and gradient norm ${norm} at learning rate ${issued.lr.toPrecision(3)}`;
    const suggestion = "Lower the peak learning rate or lengthen the warm-up, then resume from that checkpoint.";
    this.#o.record({ type: "warning", step: issued.step, detector: "not-finite", message: found, suggestion });
    throw new ThalwegError(
      "NOT_FINITE",
      `step ${issued.step} is not finite: ${found}. Its update was skipped and the run stopped. ${await this.#o.lastGood()} ${suggestion}`,
    );
  }

  async #drain(): Promise<void> {
    const last = this.#inFlight;
    this.#inFlight = null;
    if (last) await this.#settle(last);
  }

  /** Evaluation first: whoever finds a checkpoint finds the loss it stands for. */
  async #reach(milestone: Milestone): Promise<void> {
    await this.#drain();
    if (this.#done.step !== milestone.step) return; // a signal cut the step short
    if (milestone.evaluate) await this.#evaluate(milestone);
    const { step, tokens, cursor } = this.#done;
    const { occasion, budget } = milestone;
    if (milestone.save) await this.#o.save({ step, tokens, cursor, occasion, budget }, step === this.#plan.end);
    this.#clock = performance.now();
  }

  async #evaluate({ step, occasion, budget }: Milestone): Promise<void> {
    const { signal, evaluate } = this.#o;
    if (evaluate === null) return;
    const stopped = (error: unknown): null => {
      if (signal.aborted) return null;
      throw error;
    };
    const measured = signal.aborted ? null : await evaluate(signal).catch(stopped);
    this.#unevaluated = measured === null;
    if (measured === null) return;
    const lr = this.#plan.schedule.valueAt(Math.max(0, step - 1));
    const { loss, tokens: evaluatedTokens, sets, averageLoss } = measured;
    const { tokens } = this.#done;
    const of = { type: "evaluation", step, tokens, loss, evaluatedTokens } as const;
    const record: EvaluationRecord = {
      ...of,
      ...(averageLoss === undefined ? {} : { averageLoss }),
      ...(sets ? { sets } : {}),
      occasion,
      budget,
      lr,
    };
    this.#observe(record);
    this.#clock = performance.now();
  }

  /** The last state of a run that a signal or the data ended; a run at its last step has saved already. */
  async #finish(stoppedBy: LoopResult["stoppedBy"]): Promise<void> {
    const { step, tokens, cursor } = this.#done;
    if (stoppedBy === "end" || step === this.#plan.end || step === this.#o.from.step) return;
    const due = this.#plan.milestones.at(step);
    const occasion = stoppedBy === "data" ? "final" : due?.save ? due.occasion : "signal";
    if (stoppedBy === "data" && !due?.evaluate)
      await this.#evaluate({ step, occasion, budget: null, evaluate: true, save: true });
    await this.#o.save({ step, tokens, cursor, occasion, budget: due?.save ? due.budget : null }, true);
  }
}
