import type { DryRun } from "./dryrun.ts";
import type { CheckpointRecord, EvaluationRecord, StepRecord, WarningRecord } from "./records.ts";

/** Where a run stands, for a progress line. */
export interface Progress {
  record: StepRecord;
  /** Last step of the plan; null for an open run. */
  end: number | null;
  secondsLeft: number | null;
}

/** Who is told about a run while it goes. Calls are synchronous and must be cheap; they never fail a run. */
export interface Reporter {
  /** The plan of the run, before the first step; `fromStep` > 0 when it goes on. */
  start(plan: DryRun, fromStep: number): void;
  step(progress: Progress): void;
  evaluation(record: EvaluationRecord): void;
  checkpoint(record: CheckpointRecord): void;
  warning(record: WarningRecord): void;
  note(text: string): void;
  end(): void;
}

const nothing = (): void => undefined;

/** Says nothing; spread it to hear only some events. */
export const silentReporter: Reporter = {
  start: nothing,
  step: nothing,
  evaluation: nothing,
  checkpoint: nothing,
  warning: nothing,
  note: nothing,
  end: nothing,
};
