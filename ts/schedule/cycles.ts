import { ConfigError, type ConfigPath, formatPath } from "../config/errors.ts";
import { parseDuration } from "../config/quantities.ts";
import type { DecaySpec, ScheduleSpec } from "../config/schedule_schema.ts";
import {
  atLeastOneStep,
  type Budget,
  type Context,
  descent,
  endOf,
  floorOf,
  held,
  type Layout,
  ledTo,
  levelOf,
  powerOf,
  skipOf,
  warmup,
} from "./pieces.ts";
import type { Segment } from "./segment.ts";
import { type Measures, stepsOf } from "./units.ts";

type WsdS = NonNullable<ScheduleSpec["wsd_s"]>;
type Cyclic = NonNullable<ScheduleSpec["cyclic_cosine"]>;

/** Where cycles are said to end: nominal budgets B_k, or the ends N_k themselves; and where each is said. */
interface Ends {
  readonly steps: number[];
  readonly nominal: boolean;
  readonly pathOf: (k: number) => ConfigPath;
}

/** Reads whichever of budgets, ends, cycles and doubling is given. Throws ConfigError when they do not increase. */
function endsOf(shape: Partial<Pick<WsdS, "budgets" | "ends" | "cycles" | "doubling">>, context: Context): Ends {
  const { measures, path } = context;
  const listed = shape.budgets ?? shape.ends;
  if (listed !== undefined) {
    const key = shape.budgets === undefined ? "ends" : "budgets";
    const pathOf = (k: number) => [...path, key, k];
    const steps = listed.map((duration, k) => {
      if (parseDuration(duration)?.unit !== "share" || key === "ends")
        return stepsOf(duration, measures, pathOf(k), true);
      const own = formatPath(pathOf(k));
      throw new ConfigError(
        pathOf(k),
        `${own} is ${duration}, a share; but the budgets make the schedule's length. Say it in steps or tokens.`,
      );
    });
    return increasing({ steps, nominal: key === "budgets", pathOf });
  }
  if (shape.doubling !== undefined) {
    const { count, ratio } = shape.doubling;
    const pathOf = () => [...path, "doubling"];
    const last = stepsOf(shape.doubling.last, measures, [...path, "doubling", "last"], true);
    const steps = Array.from({ length: count }, (_, k) => Math.round(last / ratio ** (count - 1 - k)));
    return increasing({ steps, nominal: context.spec.wsd_s !== undefined, pathOf });
  }
  return increasing(equalCycles(shape.cycles!, context));
}

/** Cycles of one length. Without a count they fill the run; what to do with a remainder is said, not guessed. */
function equalCycles({ length, count, last }: NonNullable<WsdS["cycles"]>, { measures, path }: Context): Ends {
  const own = [...path, "cycles"];
  const pathOf = () => own;
  const total = measures.totalSteps;
  const each =
    length === undefined ? null : atLeastOneStep(stepsOf(length, measures, [...own, "length"]), [...own, "length"]);
  if (each !== null && count !== undefined)
    return { steps: Array.from({ length: count }, (_, k) => (k + 1) * each), nominal: false, pathOf };
  if (total === null)
    throw new ConfigError(
      own,
      `${formatPath(own)} has no ${each === null ? "length" : "count"}, and the run no number of steps to fill.`,
    );
  if (each === null)
    return {
      steps: Array.from({ length: count! }, (_, k) => Math.round(((k + 1) * total) / count!)),
      nominal: false,
      pathOf,
    };
  const whole = Math.floor(total / each);
  const steps = Array.from({ length: whole }, (_, k) => (k + 1) * each);
  if (whole * each === total) return { steps, nominal: false, pathOf };
  if (last === "refuse")
    throw new ConfigError(
      own,
      `${formatPath(own)} of ${each} steps do not fill the run's ${total} steps. Say last: shorter (${total - whole * each} steps) or longer, or a count.`,
    );
  if (last === "longer" && whole > 0) steps.pop();
  return { steps: [...steps, total], nominal: false, pathOf };
}

function increasing(ends: Ends): Ends {
  for (const [k, end] of ends.steps.entries()) {
    const own = ends.pathOf(k);
    atLeastOneStep(end, own);
    const before = ends.steps[k - 1];
    if (before !== undefined && end <= before)
      throw new ConfigError(
        own,
        `${formatPath(own)} is ${end} steps, not more than the budget before it (${before}). Use increasing budgets.`,
      );
  }
  return ends;
}

/** Lengths d_k of the decays. With nominal budgets, N_k = B_k + the decays before it. */
function decayLengths(ends: Ends, decay: DecaySpec, measures: Measures, path: ConfigPath): number[] {
  const own = [...path, "decay", decay.steps === undefined ? "fraction" : "steps"];
  const total = ends.steps.at(-1)!;
  const given = decay.steps;
  if (Array.isArray(given) && given.length !== ends.steps.length)
    throw new ConfigError(
      own,
      `${formatPath(own)} has ${given.length} lengths for ${ends.steps.length} budgets; expected one for each.`,
    );
  const lengths: number[] = [];
  let spent = 0;
  for (const [k, end] of ends.steps.entries()) {
    const before = ends.steps[k - 1] ?? 0;
    const cycle = ends.nominal && k > 0 ? end - before + lengths[k - 1]! : end - before;
    const whole = { cumulative: ends.nominal ? end : end - spent, total, cycle }[decay.of];
    const steps = Array.isArray(given)
      ? stepsOf(given[k]!, { ...measures, totalSteps: total }, [...own, k])
      : given === undefined
        ? Math.round((decay.fraction ?? 0.1) * whole)
        : stepsOf(given, { ...measures, totalSteps: total }, own);
    if (steps < 1)
      throw new ConfigError(
        own,
        `${formatPath(own)} gives budget ${k + 1} (${end} steps) a decay of ${steps} steps; expected at least 1.`,
      );
    lengths.push(steps);
    spent += steps;
  }
  return lengths;
}

/** Where decay k begins and ends, checked to leave room for the one before it. */
function placeDecays(ends: Ends, lengths: readonly number[]): Budget[] {
  const budgets: Budget[] = [];
  let spent = 0;
  for (const [k, said] of ends.steps.entries()) {
    const end = ends.nominal ? said + spent : said;
    const decayStart = end - lengths[k]!;
    const before = budgets.at(-1)?.end ?? 0;
    const own = ends.pathOf(k);
    if (decayStart < before)
      throw new ConfigError(
        own,
        `${formatPath(own)} is ${said} steps, but its decay (${lengths[k]} steps) would start at ${decayStart}, ` +
          `before ${k === 0 ? "the run begins" : `budgets[${k - 1}] ends at ${before}`}. Use increasing budgets with room for each decay.`,
      );
    budgets.push({ index: k, budget: ends.nominal ? said : said - spent, decayStart, end });
    spent += lengths[k]!;
  }
  return budgets;
}

/** Budgets B_k, decays d_k and ends N_k of a WSD-S section, whether or not each decay has room. */
export function nominalBudgets(shape: WsdS, context: Context): { budget: number; decay: number; end: number }[] {
  const ends = endsOf(shape, context);
  const lengths = decayLengths(ends, shape.decay, context.measures, context.path);
  let spent = 0;
  return ends.steps.map((said, k) => {
    const decay = lengths[k]!;
    const [budget, end] = ends.nominal ? [said, said + spent] : [said - spent, said];
    spent += decay;
    return { budget, decay, end };
  });
}

/** Peak of each cycle. */
function peaksOf(peaks: WsdS["peaks"], ends: readonly number[], { spec, path }: Context): number[] {
  if (peaks === undefined) return ends.map(() => spec.peak);
  if (peaks === "1/sqrt") return ends.map((end) => spec.peak * Math.sqrt(ends[0]! / end));
  if (peaks.length === ends.length) return peaks.map((ratio) => ratio * spec.peak);
  const own = [...path, "peaks"];
  throw new ConfigError(
    own,
    `${formatPath(own)} has ${peaks.length} ratios for ${ends.length} cycles; expected one for each.`,
  );
}

/** The second warm-up of a cycle that begins at `start`; it must be over by `limit`. */
function rewarmup(
  shape: Pick<WsdS, "rewarmup">,
  at: { start: number; limit: number; last: number; peak: number; cycle: number },
  context: Context,
): Segment[] {
  const again = shape.rewarmup;
  if (again === undefined) return [];
  const own = [...context.path, "rewarmup"];
  const steps = stepsOf(again.steps, context.measures, [...own, "steps"]);
  if (steps === 0) return [];
  const { start, limit, cycle } = at;
  if (start + steps > limit)
    throw new ConfigError(
      own,
      `${formatPath(own)} takes ${steps} steps from step ${start}, but cycle ${cycle + 1} falls from step ${limit}.`,
    );
  const from = Math.min(at.peak, again.from === "last" ? at.last : levelOf(again.from, context.spec.peak));
  if (from === 0 && ["inverse", "inverse_sqrt", "exponential"].includes(again.shape))
    throw new ConfigError(
      own,
      `${formatPath(own)} begins at 0, where an ${again.shape} curve divides by zero. Use shape: linear.`,
    );
  const power = powerOf(again.shape, undefined);
  return [
    {
      kind: "rewarmup",
      cycle,
      curve: again.shape,
      start,
      end: start + steps,
      from,
      to: at.peak,
      skip: skipOf(context.spec),
      power,
    },
  ];
}

/**
 * WSD-S (Wen et al. 2024): budget k is delivered at N_k, its decay begins at N_k - d_k, and the next cycle starts at its
 * peak, at once or by a second warm-up.
 */
export function wsdS(shape: WsdS, context: Context): Layout {
  return stableCycles(endsOf(shape, context), shape, shape.decay, context);
}

/** WSD: the case of one budget. */
export function warmupStableDecay(shape: NonNullable<ScheduleSpec["wsd"]>, context: Context): Layout {
  const ends: Ends = { steps: [endOf(shape.steps, context)], nominal: true, pathOf: () => [...context.path, "steps"] };
  return stableCycles(ends, {}, shape.decay, context);
}

function stableCycles(ends: Ends, shape: Pick<WsdS, "peaks" | "rewarmup">, decay: DecaySpec, context: Context): Layout {
  const { measures, path } = context;
  const budgets = placeDecays(ends, decayLengths(ends, decay, measures, path));
  const total = budgets.at(-1)!.end;
  const peaks = peaksOf(shape.peaks, ends.steps, context);
  // HF's WSD warms up from the floor.
  const from = context.spec.compat === "hf" ? decay.floor : 0;
  const first = warmup(context, budgets[0]!.decayStart, total, "the first decay begins", from);
  const segments = first.segments;
  for (const { index, decayStart, end } of budgets) {
    const peak = peaks[index]!;
    const start = index === 0 ? first.steps : budgets[index - 1]!.end;
    if (index > 0) {
      const last = ledTo(segments.at(-1)!, context.spec);
      segments.push(...rewarmup(shape, { start, limit: decayStart, last, peak, cycle: index }, context));
    }
    segments.push(...held(peak, index === 0 ? start : Math.max(start, segments.at(-1)!.end!), decayStart, index));
    segments.push(descent(decay, { start: decayStart, end, from: peak, cycle: index }, context, [...path, "decay"]));
  }
  return { segments: scaledWarmup(segments, peaks[0]!), budgets };
}

/** The warm-up leads to the first cycle's peak. */
function scaledWarmup(segments: Segment[], peak: number): Segment[] {
  return segments.map((s) => (s.kind === "warmup" && s.curve !== "constant" && s.to !== peak ? { ...s, to: peak } : s));
}

/** A cosine in each cycle; the warm-up is part of the first one. */
export function cyclicCosine(shape: Cyclic, context: Context): Layout {
  const { spec, path } = context;
  if (spec.compat === "hf" && shape.cycles?.count !== undefined)
    return restartsOfHf(shape, shape.cycles.count, context);
  const ends = endsOf(shape, context).steps;
  const peaks = peaksOf(shape.peaks, ends, context);
  const first = warmup(context, ends[0]! - 1, ends.at(-1)!, "the first cosine must have begun");
  const segments = first.segments;
  const budgets: Budget[] = [];
  for (const [cycle, end] of ends.entries()) {
    const peak = peaks[cycle]!;
    const begin = cycle === 0 ? first.steps : ends[cycle - 1]!;
    if (cycle > 0) {
      const last = ledTo(segments.at(-1)!, spec);
      segments.push(...rewarmup(shape, { start: begin, limit: end - 1, last, peak, cycle }, context));
    }
    const start = cycle === 0 ? begin : Math.max(begin, segments.at(-1)!.end!);
    const to = floorOf(shape.floor, context, [...path, "floor"], peak);
    segments.push({ ...cosine(shape, context), cycle, start, end, from: peak, to });
    budgets.push({ index: cycle, budget: end, decayStart: start, end });
  }
  return { segments: scaledWarmup(segments, peaks[0]!), budgets };
}

const cosine = ({ power }: Cyclic, { spec }: Context) => ({
  kind: "cosine" as const,
  curve: "cosine" as const,
  skip: skipOf(spec),
  power: powerOf("cosine", power),
});

/**
 * get_cosine_with_hard_restarts_schedule_with_warmup: the time after the warm-up in equal cycles, which need not be whole
 * steps; a cycle's first update is the first whole step in it.
 */
function restartsOfHf(shape: Cyclic, count: number, context: Context): Layout {
  const { spec, path } = context;
  const end = shape.cycles!.length === undefined ? endOf(undefined, context) : endsOf(shape, context).steps.at(-1)!;
  const first = warmup(context, end - count, end, "each cosine must have a step");
  const span = (end - first.steps) / count;
  const to = floorOf(shape.floor, context, [...path, "floor"]);
  const starts = Array.from({ length: count }, (_, k) => Math.ceil(first.steps + k * span));
  const cycles = starts.map((start, cycle): Segment => {
    const skip = start - (first.steps + cycle * span) + (skipOf(spec) ?? 0);
    return { ...cosine(shape, context), cycle, start, end: starts[cycle + 1] ?? end, from: spec.peak, to, skip, span };
  });
  const budgets = cycles.map((c) => ({ index: c.cycle, budget: c.end!, decayStart: c.start, end: c.end! }));
  return { segments: [...first.segments, ...cycles], budgets };
}
