import { ConfigError, type ConfigPath, formatPath } from "../config/errors.ts";
import { parseDuration } from "../config/quantities.ts";
import type { DecaySpec, ScheduleSpec } from "../config/schedule_schema.ts";
import type { Curve, Segment } from "./segment.ts";
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

/** A shape's builder: segments from step 0 to its end. `path` leads to the shape's own section. */
type Builder<Shape> = (shape: Shape, spec: ScheduleSpec, measures: Measures, path: ConfigPath) => Layout;

export const shapeBuilders: { [Name in ShapeName]: Builder<NonNullable<ScheduleSpec[Name]>> } = {
  constant: (_shape, spec, measures, path) => {
    const warmup = warmupSteps(spec, measures, measures.totalSteps, path, "steps");
    const stable = held(spec.peak, warmup, measures.totalSteps, 0);
    return { segments: [...warmupSegment(spec.peak, warmup), ...stable], budgets: [] };
  },
  cosine: (shape, spec, measures, path) => single("cosine", shape, spec, measures, path),
  linear: (shape, spec, measures, path) => single("linear", shape, spec, measures, path),
  wsd: (shape, spec, measures, path) => {
    const end = endOf(shape.steps, measures, path);
    return cycles([end], shape.decay, spec, measures, path, (_k) => [...path, "steps"]);
  },
  wsd_s: (shape, spec, measures, path) => {
    for (const [k, budget] of shape.budgets.entries()) {
      if (parseDuration(budget)?.unit !== "share") continue;
      const own = [...path, "budgets", k];
      throw new ConfigError(
        own,
        `${formatPath(own)} is ${budget}, a share; but the budgets make the schedule's length. Say it in steps or tokens.`,
      );
    }
    const budgets = shape.budgets.map((budget, k) => stepsOf(budget, measures, [...path, "budgets", k]));
    return cycles(budgets, shape.decay, spec, measures, path, (k) => [...path, "budgets", k]);
  },
};

export type ShapeName = "constant" | "cosine" | "linear" | "wsd" | "wsd_s";

/** The end of a shape that has one: its `steps`, or the run's. */
function endOf(steps: number | string | undefined, measures: Measures, path: ConfigPath): number {
  const own = [...path, "steps"];
  if (steps !== undefined) return atLeastOneStep(stepsOf(steps, measures, own), own);
  if (measures.totalSteps !== null) return measures.totalSteps;
  throw new ConfigError(
    own,
    `${formatPath(own)} is missing; expected the schedule's length here, or the run's \`steps\` as a number.`,
  );
}

function atLeastOneStep(steps: number, path: ConfigPath): number {
  if (steps >= 1) return steps;
  throw new ConfigError(path, `${formatPath(path)} comes to ${steps} steps; expected at least 1.`);
}

/** Length of the warm-up, checked to end no later than `limit`, the first step that is not stable. */
function warmupSteps(
  spec: ScheduleSpec,
  measures: Measures,
  limit: number | null,
  path: ConfigPath,
  until: string,
): number {
  const own = [...path.slice(0, -1), "warmup"];
  const steps = stepsOf(spec.warmup, measures, own);
  if (limit === null || steps <= limit) return steps;
  throw new ConfigError(
    own,
    `${formatPath(own)} is ${steps} steps, but ${until === "steps" ? "the schedule ends" : until} at step ${limit}, before the warm-up is over. Use a shorter warm-up or a later end.`,
  );
}

function warmupSegment(peak: number, steps: number): Segment[] {
  return steps === 0 ? [] : [{ kind: "warmup", cycle: 0, curve: "linear", start: 0, end: steps, from: 0, to: peak }];
}

function held(peak: number, start: number, end: number | null, cycle: number): Segment[] {
  return end === start ? [] : [{ kind: "stable", cycle, curve: "constant", start, end, from: peak, to: peak }];
}

/** Warm-up, then one curve down to the floor. */
function single(
  kind: "cosine" | "linear",
  shape: { steps?: number | string | undefined; floor: number },
  spec: ScheduleSpec,
  measures: Measures,
  path: ConfigPath,
): Layout {
  const end = endOf(shape.steps, measures, path);
  const warmup = warmupSteps(
    spec,
    { ...measures, totalSteps: end },
    end - 1,
    path,
    `the ${kind} decay must have begun`,
  );
  const fall: Segment = {
    kind,
    cycle: 0,
    curve: kind,
    start: warmup,
    end,
    from: spec.peak,
    to: spec.peak * shape.floor,
  };
  return { segments: [...warmupSegment(spec.peak, warmup), fall], budgets: [] };
}

/** Lengths d_k of the decays of nominal budgets B_k. */
function decayLengths(budgets: readonly number[], decay: DecaySpec, measures: Measures, path: ConfigPath): number[] {
  const own = [...path, "decay", decay.steps === undefined ? "fraction" : "steps"];
  const total = budgets.at(-1)!;
  const given = decay.steps;
  if (Array.isArray(given) && given.length !== budgets.length)
    throw new ConfigError(
      own,
      `${formatPath(own)} has ${given.length} lengths for ${budgets.length} budgets; expected one for each.`,
    );
  const lengths: number[] = [];
  for (const [k, budget] of budgets.entries()) {
    const previous = k === 0 ? 0 : budgets[k - 1]! - lengths[k - 1]!;
    const whole = { cumulative: budget, total, cycle: budget - previous }[decay.of];
    const steps = Array.isArray(given)
      ? stepsOf(given[k]!, { ...measures, totalSteps: total }, [...own, k])
      : given !== undefined
        ? stepsOf(given, { ...measures, totalSteps: total }, own)
        : Math.round((decay.fraction ?? 0.1) * whole);
    if (steps < 1)
      throw new ConfigError(
        own,
        `${formatPath(own)} gives budget ${k + 1} (${budget} steps) a decay of ${steps} steps; expected at least 1.`,
      );
    lengths.push(steps);
  }
  return lengths;
}

const decayCurve = (decay: DecaySpec): Curve =>
  decay.shape === "linear" ? "linear" : decay.compat === "levanter" ? "inverse_levanter" : "inverse";

/**
 * WSD-S: budget k is delivered at N_k = B_k + sum_{j<k} d_j, its decay begins at N_k - d_k, and the next cycle starts at
 * the peak at once. WSD is the case of one budget.
 */
function cycles(
  nominal: readonly number[],
  decay: DecaySpec,
  spec: ScheduleSpec,
  measures: Measures,
  path: ConfigPath,
  pathOf: (k: number) => ConfigPath,
): Layout {
  const budgets: Budget[] = [];
  for (const [k, budget] of nominal.entries()) {
    atLeastOneStep(budget, pathOf(k));
    if (k > 0 && budget <= nominal[k - 1]!)
      throw new ConfigError(
        pathOf(k),
        `${formatPath(pathOf(k))} is ${budget} steps, not more than the budget before it (${nominal[k - 1]}). Use increasing budgets.`,
      );
  }
  const lengths = decayLengths(nominal, decay, measures, path);
  let spent = 0;
  for (const [k, budget] of nominal.entries()) {
    const end = budget + spent;
    const decayStart = end - lengths[k]!;
    const before = budgets.at(-1)?.end ?? 0;
    if (decayStart < before)
      throw new ConfigError(
        pathOf(k),
        `${formatPath(pathOf(k))} is ${budget} steps, but its decay (${lengths[k]} steps) would start at ${decayStart}, ` +
          `before ${k === 0 ? "the run begins" : `budgets[${k - 1}] ends at ${before}`}. Use increasing budgets with room for each decay.`,
      );
    budgets.push({ index: k, budget, decayStart, end });
    spent += lengths[k]!;
  }
  const total = { ...measures, totalSteps: budgets.at(-1)!.end };
  const warmup = warmupSteps(spec, total, budgets[0]!.decayStart, path, "the first decay begins");
  const floor = spec.peak * decay.floor;
  const segments = warmupSegment(spec.peak, warmup);
  for (const { index, decayStart, end } of budgets) {
    segments.push(...held(spec.peak, index === 0 ? warmup : budgets[index - 1]!.end, decayStart, index));
    segments.push({
      kind: "decay",
      cycle: index,
      curve: decayCurve(decay),
      start: decayStart,
      end,
      from: spec.peak,
      to: floor,
    });
  }
  return { segments, budgets };
}
