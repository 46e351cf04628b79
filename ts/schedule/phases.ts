import { ConfigError, formatPath } from "../config/errors.ts";
import type { ScheduleSpec } from "../config/schedule_schema.ts";
import {
  atLeastOneStep,
  type Budget,
  type Context,
  floorOf,
  type Layout,
  ledTo,
  powerOf,
  skipOf,
  warmup,
} from "./pieces.ts";
import type { Segment } from "./segment.ts";
import { stepsOf } from "./units.ts";

const dividing = ["inverse", "inverse_sqrt", "exponential"];

/** Phases one after the other; each begins where the one before it ended, unless it says otherwise. */
export function phases(list: NonNullable<ScheduleSpec["phases"]>, context: Context): Layout {
  const { spec, measures, path } = context;
  const start = warmup(context, null, measures.totalSteps, "");
  const segments: Segment[] = [...start.segments];
  const budgets: Budget[] = [];
  let at = start.steps;
  let value = spec.peak;
  for (const [i, phase] of list.entries()) {
    const own = [...path, i];
    const last = i === list.length - 1;
    if (phase.steps === undefined && !last)
      throw new ConfigError(
        [...own, "steps"],
        `${formatPath(own)} has no steps; only the last phase may leave them out.`,
      );
    const end =
      phase.steps === undefined
        ? measures.totalSteps
        : at + atLeastOneStep(stepsOf(phase.steps, measures, [...own, "steps"]), [...own, "steps"]);
    const from = phase.from === undefined ? value : floorOf(phase.from, context, [...own, "from"]);
    const to = phase.to === undefined ? from : floorOf(phase.to, context, [...own, "to"]);
    if (end !== null && end <= at)
      throw new ConfigError(
        own,
        `${formatPath(own)} begins at step ${at}, but the run ends at step ${end}. Shorten the phases before it.`,
      );
    if (end === null && to !== from)
      throw new ConfigError(own, `${formatPath(own)} moves to another value, but has no end: give steps.`);
    if (to !== from && dividing.includes(phase.shape) && Math.min(from, to) === 0)
      throw new ConfigError(
        own,
        `${formatPath(own)} goes ${from === 0 ? "from" : "to"} 0, where an ${phase.shape} curve divides by zero. Use another shape or a level above 0.`,
      );
    const segment = segmentOf(phase, { start: at, end, from, to, cycle: budgets.length }, context, i);
    segments.push(segment);
    if (phase.deliver && end !== null) budgets.push({ index: budgets.length, budget: end, decayStart: at, end });
    if (end === null) break;
    value = ledTo(segment, spec);
    at = end;
  }
  return { segments, budgets };
}

type Place = Pick<Segment, "start" | "end" | "from" | "to" | "cycle">;

function segmentOf(
  phase: NonNullable<ScheduleSpec["phases"]>[number],
  place: Place,
  { spec, measures, path }: Context,
  index: number,
): Segment {
  const { from, to, start, end } = place;
  if (from === to) return { ...place, kind: "stable", curve: "constant" };
  const own = [...path, index, "of"];
  const span = phase.of === undefined ? undefined : stepsOf(phase.of, measures, own);
  if (span !== undefined && span < end! - start)
    throw new ConfigError(own, `${formatPath(own)} is ${span} steps, less than the phase itself (${end! - start}).`);
  const kind = to > from ? "warmup" : "decay";
  return { ...place, kind, curve: phase.shape, skip: skipOf(spec), span, power: powerOf(phase.shape, phase.power) };
}
