import { ConfigError, type ConfigPath, formatPath } from "../config/errors.ts";
import { type Duration, parseDuration } from "../config/quantities.ts";

/** What durations are measured against. */
export interface Measures {
  /** Tokens read by one step; needed for durations in tokens. */
  readonly tokensPerStep: number | null;
  /** Steps of the whole schedule; needed for shares. */
  readonly totalSteps: number | null;
}

/**
 * A duration in whole steps. Tokens and shares are rounded to the nearest step.
 * Throws ConfigError when the duration needs a measure that is not known.
 */
export function stepsOf(duration: Duration, measures: Measures, path: ConfigPath): number {
  const parsed = parseDuration(duration);
  const name = formatPath(path);
  if (!parsed) throw new ConfigError(path, `${name} is ${JSON.stringify(duration)}; expected a duration.`);
  if (parsed.unit === "steps") return parsed.amount;
  if (parsed.unit === "tokens") {
    if (measures.tokensPerStep === null)
      throw new ConfigError(
        path,
        `${name} is ${duration}, but how many tokens a step reads is not known here. Say it in steps.`,
      );
    return Math.round(parsed.amount / measures.tokensPerStep);
  }
  if (measures.totalSteps === null)
    throw new ConfigError(
      path,
      `${name} is a share of the schedule (${duration}), which has no end. Say it in steps or tokens.`,
    );
  return Math.round(parsed.amount * measures.totalSteps);
}
