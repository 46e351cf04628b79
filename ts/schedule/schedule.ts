import { canonicalJson, sha256 } from "../config/canonical.ts";
import { ConfigError, type ConfigPath, formatPath } from "../config/errors.ts";
import { configError } from "../config/issues.ts";
import { type ScheduleSpecInput, scheduleSchema, scheduleShapes } from "../config/schedule_schema.ts";
import { type PhaseKind, type Segment, segmentValue } from "./segment.ts";
import { type Budget, type Layout, shapeBuilders } from "./shapes.ts";
import type { Measures } from "./units.ts";

export type { PhaseKind } from "./segment.ts";
export type { Budget } from "./shapes.ts";

/** Steps [start, end) of one kind, in cycle `cycle` (counted from 0). `end` is null without a horizon. */
export interface Phase {
  readonly kind: PhaseKind;
  readonly start: number;
  readonly end: number | null;
  readonly cycle: number;
}

/** A scalar as a pure function of the step, with what there is to know about it. */
export interface Schedule {
  /**
   * The value used by the update that comes after `step` finished updates. Defined for every step >= 0; from `end` on it
   * stays where the last phase led. Throws RangeError for a step that is not a whole number >= 0.
   */
  valueAt(step: number): number;
  /** Number of updates until the schedule is over; null without a horizon. */
  readonly end: number | null;
  readonly peak: number;
  /** In order, without gaps, from step 0 to `end`. */
  readonly phases: readonly Phase[];
  /** One for each decay of WSD and WSD-S; empty for other shapes. */
  readonly budgets: readonly Budget[];
  /** The phase of the update after `step` finished updates; from `end` on the last one. */
  phaseAt(step: number): Phase;
  /** Everything that determines the values, as canonical JSON: equal texts, equal values. */
  readonly canonical: string;
  /** SHA-256 of `canonical`. */
  readonly hash: string;
  /** Tokens of one step, where they were given. */
  readonly tokensPerStep: number | null;
}

export interface ScheduleOptions {
  /** Tokens read by one step, for durations in tokens. */
  tokensPerStep?: number | null;
  /** The run's `steps`, for shapes that do not say their own length. "open" is the same as none. */
  totalSteps?: number | "open" | null;
  /** Where the spec stands in the config, for messages. */
  path?: ConfigPath;
}

/**
 * Builds a schedule from its spec. Throws ConfigError (BAD_CONFIG) that names the field when the spec is malformed, does
 * not fit together, or needs a measure that was not given.
 */
export function buildSchedule(input: ScheduleSpecInput, options: ScheduleOptions = {}): Schedule {
  const path = options.path ?? ["schedule", "lr"];
  const parsed = scheduleSchema.safeParse(input);
  if (!parsed.success) throw configError(scheduleSchema, input, parsed.error.issues, path);
  const totalSteps = typeof options.totalSteps === "number" ? options.totalSteps : null;
  const measures: Measures = { tokensPerStep: options.tokensPerStep ?? null, totalSteps };
  const spec = parsed.data;
  const shape = scheduleShapes.find((name) => spec[name] !== undefined)!;
  const build = shapeBuilders[shape] as (shape: unknown, ...rest: unknown[]) => Layout;
  const { segments, budgets } = build(spec[shape], spec, measures, [...path, shape]);
  return freeze(spec.peak, segments, budgets, measures.tokensPerStep);
}

function freeze(
  peak: number,
  segments: readonly Segment[],
  budgets: readonly Budget[],
  tokensPerStep: number | null,
): Schedule {
  const canonical = canonicalJson({ version: 1, segments });
  const starts = segments.map((segment) => segment.start);
  const phases = segments.map(({ kind, start, end, cycle }): Phase => Object.freeze({ kind, start, end, cycle }));
  return Object.freeze({
    valueAt: (step: number) => segmentValue(segments[indexAt(starts, step)]!, step),
    end: segments.at(-1)!.end,
    peak,
    phases: Object.freeze(phases),
    budgets: Object.freeze(budgets.map((budget) => Object.freeze({ ...budget }))),
    phaseAt: (step: number) => phases[indexAt(starts, step)]!,
    canonical,
    hash: sha256(canonical),
    tokensPerStep,
  });
}

/** The last segment that starts at or before a step. */
function indexAt(starts: readonly number[], step: number): number {
  if (!Number.isSafeInteger(step) || step < 0) throw new RangeError(`a step is a whole number >= 0, found ${step}`);
  let low = 0;
  let high = starts.length - 1;
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (starts[middle]! <= step) low = middle;
    else high = middle - 1;
  }
  return low;
}

/**
 * How many steps a run takes under a schedule: the config's `steps`, else the schedule's end; null for an open run.
 * A run may stop before its schedule ends, never go on after it. Throws ConfigError.
 */
export function runSteps(
  steps: number | "open" | null,
  schedule: Schedule,
  path: ConfigPath = ["steps"],
): number | null {
  const name = formatPath(path);
  if (steps === "open") {
    if (schedule.end === null) return null;
    throw new ConfigError(
      path,
      `${name} is open, but the schedule ends at step ${schedule.end}. Use a constant schedule, or leave ${name} out.`,
    );
  }
  if (schedule.end === null && steps === null)
    throw new ConfigError(
      path,
      `${name} is missing, and a constant schedule has no end. Give a number of steps, or \`${name}: open\`.`,
    );
  if (steps !== null && schedule.end !== null && steps > schedule.end)
    throw new ConfigError(
      path,
      `${name} is ${steps}, but the schedule ends at step ${schedule.end}. Lengthen the schedule, or leave ${name} out.`,
    );
  return steps ?? schedule.end;
}
