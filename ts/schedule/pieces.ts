import { ConfigError, type ConfigPath, formatPath } from "../config/errors.ts";
import type { Interruption, Level, ScheduleSpec } from "../config/schedule_schema.ts";
import { type Segment, segmentValue } from "./segment.ts";
import { type Measures, stepsOf } from "./units.ts";

/** A nominal budget and where it is delivered: after `end` updates, of which the last `end - decayStart` decay. */
export interface Budget {
  readonly index: number;
  /** Nominal steps B_k. */
  readonly budget: number;
  readonly decayStart: number;
  /** N_k, the number of finished updates at which the decayed weights stand. */
  readonly end: number;
}

/** A schedule in steps, before it is checked and frozen. */
export interface Layout {
  readonly segments: Segment[];
  readonly budgets: Budget[];
}

/** What every builder is given: the spec, what durations are measured against, and the path of the shape's section. */
export interface Context {
  readonly spec: ScheduleSpec;
  readonly measures: Measures;
  readonly path: ConfigPath;
}

export const levelOf = (level: Level, peak: number): number => (typeof level === "number" ? level * peak : level.value);

/** A floor's value, checked to lie at or below `peak`. */
export function floorOf(level: Level, { spec }: Context, path: ConfigPath, peak = spec.peak): number {
  const value = levelOf(level, spec.peak);
  if (value <= peak) return value;
  throw new ConfigError(path, `${formatPath(path)} comes to ${value}, above the peak it falls from (${peak}).`);
}

/** The end of a shape that has one: its `steps`, or the run's. */
export function endOf(steps: number | string | undefined, { measures, path }: Context): number {
  const own = [...path, "steps"];
  if (steps !== undefined) return atLeastOneStep(stepsOf(steps, measures, own, true), own);
  if (measures.totalSteps !== null) return measures.totalSteps;
  throw new ConfigError(
    own,
    `${formatPath(own)} is missing; expected the schedule's length here, or the run's \`steps\` as a number.`,
  );
}

export function atLeastOneStep(steps: number, path: ConfigPath): number {
  if (steps >= 1) return steps;
  throw new ConfigError(path, `${formatPath(path)} comes to ${steps} steps; expected at least 1.`);
}

/**
 * The warm-up, checked to end no later than `limit`, the first step that is not stable; `total` is what a share is of.
 * `until` names the limit in the message.
 */
export function warmup(
  { spec, measures, path }: Context,
  limit: number | null,
  total: number | null,
  until: string,
  defaultFrom: Level = 0,
): { steps: number; segments: Segment[] } {
  const own = [...path.slice(0, -1), "warmup"];
  const given = typeof spec.warmup === "object" ? spec.warmup : { steps: spec.warmup, shape: "linear" as const };
  const steps = stepsOf(given.steps, { ...measures, totalSteps: total }, own, true);
  if (limit !== null && steps > limit)
    throw new ConfigError(
      own,
      `${formatPath(own)} is ${steps} steps, but ${until} at step ${limit}, before the warm-up is over. Use a shorter warm-up or a later end.`,
    );
  if (steps === 0) return { steps, segments: [] };
  const from =
    "from" in given ? floorOf(given.from, { spec, measures, path }, [...own, "from"]) : levelOf(defaultFrom, spec.peak);
  const shared = { kind: "warmup" as const, cycle: 0, start: 0, end: steps, from, skip: skipOf(spec) };
  if (given.shape === "constant") return { steps, segments: [{ ...shared, curve: "constant", to: from }] };
  const power = powerOf(given.shape, "power" in given ? given.power : undefined);
  return { steps, segments: [{ ...shared, curve: given.shape, to: spec.peak, power }] };
}

/** Steps held at a value; none when there are none. */
export function held(value: number, start: number, end: number | null, cycle: number): Segment[] {
  return end === start ? [] : [{ kind: "stable", cycle, curve: "constant", start, end, from: value, to: value }];
}

/** With countFrom 1 the first update of a phase is one step on its way. */
export const skipOf = (spec: ScheduleSpec): number | undefined =>
  spec.countFrom === 1 || spec.compat === "olmo" ? 1 : undefined;

/** Where a segment with an end leads: the value of the update after its last, or of its last when updates count from 1. */
export const ledTo = (segment: Segment, spec: ScheduleSpec): number =>
  segmentValue(segment, segment.end! - (skipOf(spec) ?? 0));

/** The exponent kept in a segment: absent where the curve has none. */
export function powerOf(shape: string, given: number | undefined): number | undefined {
  if (shape === "polynomial") return given ?? 2;
  return shape === "cosine" && given !== undefined && given !== 1 ? given : undefined;
}

type Descent = Pick<Interruption, "shape" | "floor" | "power" | "lowered" | "halfLife">;

/** A descent over [start, end) from a value to its floor, in the words of a `decay` section at `path`. */
export function descent(
  decay: Descent,
  where: { start: number; end: number; from: number; cycle: number },
  context: Context,
  path: ConfigPath,
): Segment {
  const { spec, measures } = context;
  const { start, end, cycle } = where;
  const floor = floorOf(decay.floor, context, [...path, "floor"], where.from);
  const base = { kind: "decay" as const, cycle, start, end, skip: skipOf(spec) };
  if (decay.shape === "half_life") {
    const scale = atLeastOneStep(stepsOf(decay.halfLife!, measures, [...path, "halfLife"]), [...path, "halfLife"]);
    return { ...base, curve: "half_life", from: where.from, to: floor, scale };
  }
  if (decay.shape === "lowered_linear")
    return { ...base, curve: "linear", from: Math.max(floor, where.from * (decay.lowered ?? 0.7)), to: floor };
  const own = decay.shape;
  const curve =
    own === "inverse" && spec.compat === "levanter"
      ? "inverse_levanter"
      : own === "exponential" && spec.compat === "megatron"
        ? "exponential_megatron"
        : own;
  return { ...base, curve, from: where.from, to: floor, power: powerOf(own, decay.power) };
}
