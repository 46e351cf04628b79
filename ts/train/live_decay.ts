import { ThalwegError } from "../base/errors.ts";
import { configError } from "../config/issues.ts";
import { type DecayRequest, decayRequestSchema, type Interruption } from "../config/schedule_parts.ts";
import type { RunConfig } from "../config/schema.ts";
import type { LineageEntry } from "./checkpoint_state.ts";

/** Share of the time until a deadline that is planned for: the rest is for evaluations, saving, and a slower hour. */
const DEADLINE_SHARE = 0.95;

/** Reads a request. @throws BAD_CONFIG naming the field. */
export function parseDecayRequest(value: unknown): DecayRequest {
  const parsed = decayRequestSchema.safeParse(value);
  if (!parsed.success) throw configError(decayRequestSchema, value, parsed.error.issues, ["decay"]);
  return parsed.data;
}

/** What lengths are measured by when a decay begins. */
export interface DecayMeasures {
  /** Finished updates. */
  step: number;
  tokensPerStep: number;
  /** Median speed so far; null when none was measured. */
  tokensPerSecond: number | null;
  /** Milliseconds since 1970. */
  now: number;
}

/** A request in whole steps from a step on. @throws BAD_OPTION when it leaves no step, or needs a speed not yet measured. */
export function resolveDecay(request: DecayRequest, measures: DecayMeasures): Interruption {
  const { steps: _, tokens: __, hours: ___, until: ____, ...descent } = request;
  const steps = lengthOf(request, measures);
  if (steps < 1)
    throw new ThalwegError("BAD_OPTION", `the decay comes to ${steps} steps; expected at least 1. Give it more time.`);
  return { at: measures.step, steps, ...descent };
}

function lengthOf(request: DecayRequest, { step, tokensPerStep, tokensPerSecond, now }: DecayMeasures): number {
  if (request.steps !== undefined) return request.steps;
  if (request.tokens !== undefined) return Math.round(request.tokens / tokensPerStep);
  if (request.hours === undefined && request.until === undefined) return Math.max(1, Math.round(0.1 * step));
  if (tokensPerSecond === null)
    throw new ThalwegError(
      "BAD_OPTION",
      "the run's speed is not known yet: give the decay's length in steps or tokens.",
    );
  const seconds =
    request.hours === undefined ? (DEADLINE_SHARE * (Date.parse(request.until!) - now)) / 1000 : request.hours * 3600;
  return Math.floor((seconds * tokensPerSecond) / tokensPerStep);
}

/** A run's configuration with a decay that cuts in; its `steps` follow. */
export function decayed(config: RunConfig, decay: Interruption): RunConfig {
  const { lr } = config.schedule;
  const interruptions = [...(lr.interruptions ?? []), decay];
  const longer = typeof config.steps === "number" ? config.steps + decay.steps : config.steps;
  const steps = decay.next === "stop" ? null : longer;
  return { ...config, steps, schedule: { ...config.schedule, lr: { ...lr, interruptions } } };
}

/**
 * The configuration asked for, with the decays that were ordered while the run was under way: they stand in its lineage, not
 * in the file that the run is resumed with.
 */
export function withLiveDecays(config: RunConfig, lineage: readonly LineageEntry[]): RunConfig {
  let result = config;
  for (const { reason, spec } of lineage) {
    if (reason !== "decay" || spec === undefined) continue;
    const known = result.schedule.lr.interruptions?.some((cut) => cut.at === spec.at) ?? false;
    if (!known) result = decayed(result, spec);
  }
  return result;
}
