import { ConfigError, type ConfigPath, formatPath } from "../config/errors.ts";
import { type Duration, parseDuration } from "../config/quantities.ts";
import type { BatchPlan } from "./batch.ts";

/** What durations are measured against. */
export interface Measures {
  /** Tokens read by one step; needed for durations in tokens. */
  readonly tokensPerStep: number | null;
  /** Sequences read by one step; needed for durations in sequences. */
  readonly sequencesPerStep?: number | null | undefined;
  /** FLOPs of one step; needed for durations in FLOPs. */
  readonly flopsPerStep?: number | null | undefined;
  /** Where the batch changes, tokens are read at different rates. */
  readonly batch?: BatchPlan | undefined;
  /** Steps of the whole schedule; needed for shares. */
  readonly totalSteps: number | null;
}

/**
 * A duration in whole steps. All but steps are rounded to the nearest step. `fromStart` says that it is counted from step 0, so
 * that tokens have a meaning also where the batch changes.
 * Throws ConfigError when the duration needs a measure that is not known.
 */
export function stepsOf(duration: Duration, measures: Measures, path: ConfigPath, fromStart = false): number {
  const parsed = parseDuration(duration);
  const name = formatPath(path);
  if (!parsed) throw new ConfigError(path, `${name} is ${JSON.stringify(duration)}; expected a duration.`);
  const { amount, unit } = parsed;
  if (unit === "steps") return amount;
  if (unit === "share") {
    if (measures.totalSteps !== null) return Math.round(amount * measures.totalSteps);
    throw new ConfigError(
      path,
      `${name} is a share of the schedule (${duration}), which has no end. Say it in steps or tokens.`,
    );
  }
  const { tokensPerStep, sequencesPerStep = null, flopsPerStep = null } = measures;
  const perStep = { tokens: tokensPerStep, sequences: sequencesPerStep, flops: flopsPerStep }[unit];
  if (perStep !== null && (measures.batch?.stages.length ?? 1) > 1) {
    // Tokens, sequences and FLOPs are in proportion to one another: a step of the first stage has all three.
    if (fromStart) return measures.batch!.stepAt((amount / perStep) * (tokensPerStep ?? perStep));
    throw new ConfigError(
      path,
      `${name} is ${duration}, but the batch changes under way, so that this is not a number of steps. Say it in steps.`,
    );
  }
  if (perStep !== null) return Math.round(amount / perStep);
  const measure = { tokens: "tokens a step reads", sequences: "sequences a step reads", flops: "FLOPs a step takes" }[
    unit
  ];
  throw new ConfigError(path, `${name} is ${duration}, but how many ${measure} is not known here. Say it in steps.`);
}
