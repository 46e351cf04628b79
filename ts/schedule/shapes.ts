import { ConfigError, formatPath } from "../config/errors.ts";
import type { ScheduleSpec, scheduleShapes } from "../config/schedule_schema.ts";
import { cyclicCosine, warmupStableDecay, wsdS } from "./cycles.ts";
import { phases } from "./phases.ts";
import { type Context, descent, endOf, floorOf, held, type Layout, powerOf, skipOf, warmup } from "./pieces.ts";
import type { Segment } from "./segment.ts";
import { stepsOf } from "./units.ts";

export type ShapeName = Exclude<(typeof scheduleShapes)[number], "follow_lr">;

/** A shape's builder: segments from step 0 to its end, without gaps. */
type Builder<Shape> = (shape: Shape, context: Context) => Layout;

export const shapeBuilders: { [Name in ShapeName]: Builder<NonNullable<ScheduleSpec[Name]>> } = {
  constant: (_shape, context) => {
    const { peak } = context.spec;
    const total = context.measures.totalSteps;
    const { steps, segments } = warmup(context, total, total, "the schedule ends");
    return { segments: [...segments, ...held(peak, steps, total, 0)], budgets: [] };
  },
  cosine: (shape, context) => single("cosine", shape, context),
  linear: (shape, context) => single("linear", shape, context),
  wsd: warmupStableDecay,
  wsd_s: wsdS,
  cyclic_cosine: cyclicCosine,
  trapezoid: ({ steps, fraction, floor }, context) =>
    warmupStableDecay({ steps, decay: { fraction, of: "cumulative", shape: "linear", floor } }, context),
  one_cycle: oneCycle,
  inverse_sqrt: inverseSqrt,
  power: powerScheduler,
  range_test: (shape, context) => {
    const { spec, path } = context;
    const end = endOf(shape.steps, context);
    const from = floorOf(shape.from, context, [...path, "from"]);
    if (shape.shape === "exponential" && from === 0)
      throw new ConfigError(
        [...path, "from"],
        `${formatPath([...path, "from"])} is 0; exponential growth needs a start above 0.`,
      );
    const grow: Segment = {
      kind: "range",
      cycle: 0,
      curve: shape.shape,
      start: 0,
      end,
      from,
      to: spec.peak,
      skip: skipOf(spec),
    };
    return { segments: [grow], budgets: [] };
  },
  phases,
  table,
};

type Single = Pick<NonNullable<ScheduleSpec["linear"]>, "steps" | "floor"> & { power?: number | undefined };

/** Warm-up, then one curve down to the floor. */
function single(kind: "cosine" | "linear", shape: Single, context: Context): Layout {
  const { spec, path } = context;
  const end = endOf(shape.steps, context);
  const { steps, segments } = warmup(context, end - 1, end, `the ${kind} decay must have begun`);
  const to = floorOf(shape.floor, context, [...path, "floor"]);
  const power = powerOf(kind, shape.power);
  const fall: Segment = {
    kind,
    cycle: 0,
    curve: kind,
    start: steps,
    end,
    from: spec.peak,
    to,
    skip: skipOf(spec),
    power,
  };
  return { segments: [...segments, fall], budgets: [] };
}

/** Up to the peak, then down; boundaries as optax has them: floor(up * steps). */
function oneCycle(shape: NonNullable<ScheduleSpec["one_cycle"]>, context: Context): Layout {
  const { spec, path } = context;
  const end = endOf(shape.steps, context);
  const top = Math.floor(shape.up * end);
  if (top < 1 || top >= end)
    throw new ConfigError(
      [...path, "up"],
      `${formatPath([...path, "up"])} is ${shape.up} of ${end} steps, which leaves no step to rise or none to fall.`,
    );
  const shared = { cycle: 0, curve: shape.shape, skip: skipOf(spec) };
  const from = floorOf(shape.from, context, [...path, "from"]);
  const to = floorOf(shape.floor, context, [...path, "floor"]);
  return {
    segments: [
      { ...shared, kind: "warmup", start: 0, end: top, from, to: spec.peak },
      { ...shared, kind: shape.shape, start: top, end, from: spec.peak, to },
    ],
    budgets: [],
  };
}

/**
 * peak sqrt(timescale / (s - W + timescale)) after a warm-up of W steps: with timescale = W the law of Vaswani et al. (2017),
 * as in Megatron and, with any timescale, HF. Levanter does not shift the law to meet the warm-up: peak min(1, sqrt(timescale
 * / s)). OLMo-core's falls towards its floor, not through it.
 */
function inverseSqrt(shape: NonNullable<ScheduleSpec["inverse_sqrt"]>, context: Context): Layout {
  const { spec, measures, path } = context;
  const end = shape.steps === undefined ? measures.totalSteps : endOf(shape.steps, context);
  const { steps, segments } = warmup(
    context,
    end === null ? null : end - 1,
    end,
    "the inverse square root must have begun",
  );
  const given = shape.timescale === undefined ? null : stepsOf(shape.timescale, measures, [...path, "timescale"]);
  const scale = given ?? (steps > 0 && spec.compat !== "levanter" ? steps : 10_000);
  if (scale < 1)
    throw new ConfigError(
      [...path, "timescale"],
      `${formatPath([...path, "timescale"])} comes to ${scale} steps; expected at least 1.`,
    );
  const ahead = spec.compat === "levanter" ? steps : scale;
  const law: Segment = {
    kind: "inverse_sqrt",
    cycle: 0,
    curve: spec.compat === "olmo" ? "root_law_above" : "root_law",
    start: steps,
    end,
    from: spec.peak,
    to: floorOf(shape.floor, context, [...path, "floor"]),
    skip: ahead + (skipOf(spec) ?? 0),
    scale,
  };
  return { segments: [...segments, law], budgets: [] };
}

/**
 * min(peak, n a k^b) with n sequences a step and k tokens read (Shen et al., arXiv 2408.13359), then a decay from wherever
 * the law is. Levanter counts tokens from the end of the warm-up.
 */
function powerScheduler(shape: NonNullable<ScheduleSpec["power"]>, context: Context): Layout {
  const { spec, measures, path } = context;
  const { tokensPerStep, sequencesPerStep } = measures;
  if ((measures.batch?.stages.length ?? 1) > 1)
    throw new ConfigError(
      path,
      `${formatPath(path)} counts tokens by steps of one size, but the batch changes under way.`,
    );
  if (tokensPerStep === null || sequencesPerStep == null)
    throw new ConfigError(
      path,
      `${formatPath(path)} counts sequences and tokens, and what a step reads is not known here.`,
    );
  const end = shape.steps === undefined ? measures.totalSteps : endOf(shape.steps, context);
  const lengths = shape.decay === undefined ? 0 : decayOfPower(shape.decay, end, context);
  const decayStart = end === null ? null : end - lengths;
  const { steps, segments } = warmup(context, decayStart, end, "the power law must have begun");
  const law: Segment = {
    kind: "power",
    cycle: 0,
    curve: "power_law",
    start: steps,
    end: decayStart,
    from: spec.peak,
    to: 0,
    skip: (spec.compat === "levanter" ? 0 : steps) + (skipOf(spec) ?? 0),
    power: shape.b,
    scale: sequencesPerStep * shape.a * tokensPerStep ** shape.b,
  };
  if (shape.decay === undefined || end === null) return { segments: [...segments, law], budgets: [] };
  const from = Math.min(spec.peak, law.scale! * Math.max(1, decayStart! - steps + law.skip!) ** shape.b);
  const fall = descent(shape.decay, { start: decayStart!, end, from, cycle: 0 }, context, [...path, "decay"]);
  return { segments: [...segments, law, fall], budgets: [{ index: 0, budget: end, decayStart: decayStart!, end }] };
}

function decayOfPower(
  decay: NonNullable<NonNullable<ScheduleSpec["power"]>["decay"]>,
  end: number | null,
  { measures, path }: Context,
): number {
  const own = [...path, "decay"];
  if (end === null) throw new ConfigError(own, `${formatPath(own)} needs an end: give steps.`);
  const steps = Array.isArray(decay.steps)
    ? stepsOf(decay.steps[0]!, { ...measures, totalSteps: end }, [...own, "steps", 0])
    : decay.steps === undefined
      ? Math.round((decay.fraction ?? 0.1) * end)
      : stepsOf(decay.steps, { ...measures, totalSteps: end }, [...own, "steps"]);
  if (steps >= 1 && steps < end) return steps;
  throw new ConfigError(
    own,
    `${formatPath(own)} comes to ${steps} of ${end} steps; expected at least 1 and fewer than all.`,
  );
}

/** Points as listed, ratios of the peak at steps. The last one holds up to the run's end, or is the end. */
function table(shape: NonNullable<ScheduleSpec["table"]>, { spec, measures, path }: Context): Layout {
  const points = shape.points.map(([at, ratio], i) => ({
    at: stepsOf(at, measures, [...path, "points", i, 0], true),
    value: ratio * spec.peak,
  }));
  const own = (i: number) => [...path, "points", i];
  if (points[0]!.at !== 0)
    throw new ConfigError(
      own(0),
      `${formatPath(own(0))} is at step ${points[0]!.at}; expected the first point at step 0.`,
    );
  const segments: Segment[] = [];
  for (const [i, { at, value }] of points.entries()) {
    const next = points[i + 1];
    if (next === undefined) {
      const end = measures.totalSteps;
      if (end === null || end > at)
        segments.push({ kind: "table", cycle: 0, curve: "constant", start: at, end, from: value, to: value });
      continue;
    }
    if (next.at <= at)
      throw new ConfigError(
        own(i + 1),
        `${formatPath(own(i + 1))} is at step ${next.at}, not after the point before it (${at}).`,
      );
    const curve = shape.interpolation === "hold" ? "constant" : shape.interpolation;
    const to = curve === "constant" ? value : next.value;
    segments.push({ kind: "table", cycle: 0, curve, start: at, end: next.at, from: value, to, skip: skipOf(spec) });
  }
  return {
    segments: segments.filter((s) => measures.totalSteps === null || s.start < measures.totalSteps),
    budgets: [],
  };
}
