import { canonicalJson, sha256 } from "../config/canonical.ts";
import { ConfigError, type ConfigPath, formatPath } from "../config/errors.ts";
import { configError } from "../config/issues.ts";
import {
  type ScheduleSpec,
  type ScheduleSpecInput,
  scheduleSchema,
  scheduleShapes,
} from "../config/schedule_schema.ts";
import { type BatchPlan, scaleByBatch } from "./batch.ts";
import { interrupt } from "./interruptions.ts";
import type { Budget, Context, Layout } from "./pieces.ts";
import { type PhaseKind, type Segment, segmentValue } from "./segment.ts";
import { type ShapeName, shapeBuilders } from "./shapes.ts";
import type { Measures } from "./units.ts";

export type { Budget } from "./pieces.ts";
export type { PhaseKind } from "./segment.ts";

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
  /** The same stretches with their curves: all that `valueAt` knows. */
  readonly segments: readonly Segment[];
  /** One for each decay of WSD and WSD-S, each cycle, and each delivered phase; empty for other shapes. */
  readonly budgets: readonly Budget[];
  /** The phase of the update after `step` finished updates; from `end` on the last one. */
  phaseAt(step: number): Phase;
  /** Everything that determines the values, as canonical JSON: equal texts, equal values. */
  readonly canonical: string;
  /** SHA-256 of `canonical`. */
  readonly hash: string;
  /** Tokens of one step, where they were given and never change. */
  readonly tokensPerStep: number | null;
}

export interface ScheduleOptions {
  /** Tokens read by one step, for durations in tokens. */
  tokensPerStep?: number | null;
  /** Sequences read by one step, for durations in sequences. */
  sequencesPerStep?: number | null;
  /** FLOPs of one step, for durations in FLOPs. */
  flopsPerStep?: number | null;
  /** Sizes of the steps, where they change. */
  batch?: BatchPlan;
  /** Apply the batch's factor on the learning rate. */
  scaleByBatch?: boolean;
  /** The learning rate's schedule, for scalars that follow it. */
  lr?: Schedule;
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
  const measures: Measures = {
    tokensPerStep: options.tokensPerStep ?? null,
    sequencesPerStep: options.sequencesPerStep ?? null,
    flopsPerStep: options.flopsPerStep ?? null,
    batch: options.batch,
    totalSteps: typeof options.totalSteps === "number" ? options.totalSteps : null,
  };
  const spec = parsed.data;
  const shape = scheduleShapes.find((name) => spec[name] !== undefined)!;
  const context: Context = { spec, measures, path: [...path, shape] };
  const whole = shape === "follow_lr" ? follow(options.lr, context) : layOut(shape, context);
  let layout = { ...whole, segments: extended(whole.segments, spec.after) };
  for (const [i, cut] of (spec.interruptions ?? []).entries()) layout = interrupt(layout, cut, i, context);
  const oneSize = (options.batch?.stages.length ?? 1) === 1;
  if (!options.scaleByBatch || options.batch === undefined || oneSize)
    return freeze(spec.peak, layout, oneSize ? measures.tokensPerStep : null);
  const { stages, lrFactor } = options.batch;
  const peak = spec.peak * Math.max(...stages.map(({ sequences }) => lrFactor(sequences)));
  return freeze(peak, { ...layout, segments: scaleByBatch(layout.segments, options.batch) }, null);
}

function layOut(shape: ShapeName, context: Context): Layout {
  const build = shapeBuilders[shape] as (shape: unknown, context: Context) => Layout;
  return build(context.spec[shape], context);
}

/** The learning rate's segments, scaled to this scalar's peak. */
function follow(lr: Schedule | undefined, { spec, path }: Context): Layout {
  if (lr === undefined)
    throw new ConfigError(
      path,
      `${formatPath(path)} follows the learning rate, which cannot follow itself. Use another shape.`,
    );
  const ratio = spec.peak / lr.peak;
  const segments = lr.segments.map((s) => ({
    ...s,
    from: s.from * ratio,
    to: s.to * ratio,
    scale: s.curve === "power_law" ? s.scale! * ratio : s.scale,
  }));
  return { segments, budgets: [] };
}

/** With `after: stay`, steps at the last value follow without end. */
function extended(segments: Segment[], after: ScheduleSpec["after"]): Segment[] {
  const last = segments.at(-1)!;
  if (after !== "stay" || last.end === null) return segments;
  const value = segmentValue(last, last.end);
  return [
    ...segments,
    { kind: "floor", cycle: last.cycle, curve: "constant", start: last.end, end: null, from: value, to: value },
  ];
}

function freeze(peak: number, layout: Layout, tokensPerStep: number | null): Schedule {
  const { budgets } = layout;
  const segments = layout.segments.map((segment) => Object.freeze({ ...segment }));
  const canonical = canonicalJson({ version: 1, segments });
  const starts = segments.map((segment) => segment.start);
  const phases = segments.map(({ kind, start, end, cycle }): Phase => Object.freeze({ kind, start, end, cycle }));
  return Object.freeze({
    valueAt: (step: number) => segmentValue(segments[indexAt(starts, step)]!, step),
    end: segments.at(-1)!.end,
    peak,
    phases: Object.freeze(phases),
    segments: Object.freeze(segments),
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
      `${name} is open, but the schedule ends at step ${schedule.end}. Use a constant schedule or \`after: stay\`, or leave ${name} out.`,
    );
  }
  if (schedule.end === null && steps === null)
    throw new ConfigError(
      path,
      `${name} is missing, and the schedule has no end. Give a number of steps, or \`${name}: open\`.`,
    );
  if (steps !== null && schedule.end !== null && steps > schedule.end)
    throw new ConfigError(
      path,
      `${name} is ${steps}, but the schedule ends at step ${schedule.end}. Lengthen the schedule, say \`after: stay\`, or leave ${name} out.`,
    );
  return steps ?? schedule.end;
}
