import { ConfigError, type ConfigPath, formatPath } from "../config/errors.ts";
import { type Duration, parseDuration } from "../config/quantities.ts";

/** What durations are measured against. */
export interface Measures {
  /** Tokens read by one step; needed for durations in tokens. */
  readonly tokensPerStep: number | null;
  /** Sequences read by one step; needed for durations in sequences. */
  readonly sequencesPerStep?: number | null | undefined;
  /** FLOPs of one step; needed for durations in FLOPs. */
  readonly flopsPerStep?: number | null | undefined;
  /** Steps of the whole schedule; needed for shares. */
  readonly totalSteps: number | null;
}

/**
 * A duration in whole steps. All but steps are rounded to the nearest step.
 * Throws ConfigError when the duration needs a measure that is not known.
 */
export function stepsOf(duration: Duration, measures: Measures, path: ConfigPath): number {
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
  if (perStep !== null) return Math.round(amount / perStep);
  const measure = { tokens: "tokens a step reads", sequences: "sequences a step reads", flops: "FLOPs a step takes" }[
    unit
  ];
  throw new ConfigError(path, `${name} is ${duration}, but how many ${measure} is not known here. Say it in steps.`);
}
