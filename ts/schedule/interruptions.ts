import { ConfigError, formatPath } from "../config/errors.ts";
import type { Interruption } from "../config/schedule_schema.ts";
import { type Budget, type Context, descent, type Layout } from "./pieces.ts";
import { headOf, type Segment, segmentValue, tailOf } from "./segment.ts";

/**
 * Lays a decay into a schedule at a step: everything before stays bit for bit as it was, the decay begins at the value the
 * schedule has there, and it ends the schedule or what was interrupted goes on, as much later.
 */
export function interrupt(layout: Layout, cut: Interruption, index: number, context: Context): Layout {
  const path = [...context.path.slice(0, -1), "interruptions", index];
  const { at } = cut;
  const before = layout.segments.filter((s) => s.start < at).map((s) => headOf(s, at));
  const last = before.at(-1) ?? null;
  const current = layout.segments.findLast((s) => s.start <= at)!;
  const from = segmentValue(current, at);
  const end = at + cut.steps;
  const kept = layout.budgets.filter((b) => b.end <= at);
  if (index > 0 && kept.length === 0)
    throw new ConfigError(path, `${formatPath(path)} begins at step ${at}, before the one before it has ended.`);
  const held: Segment[] =
    last !== null && last.end !== null && last.end < at
      ? [{ kind: "floor", cycle: last.cycle, curve: "constant", start: last.end, end: at, from, to: from }]
      : [];
  const fall = descent(cut, { start: at, end, from, cycle: kept.length }, context, path);
  const spent = kept.reduce((sum, b) => sum + b.end - b.decayStart, 0);
  const made: Budget = { index: kept.length, budget: end - spent, decayStart: at, end };
  if (cut.next === "stop") return { segments: [...before, ...held, fall], budgets: [...kept, made] };
  const after = layout.segments
    .filter((s) => s.end === null || s.end > at)
    .map((s) => tailOf(s, at, cut.steps))
    .map((s) => ({ ...s, cycle: s.cycle + 1 }));
  const later = layout.budgets
    .filter((b) => b.end > at)
    .map((b, i) => ({
      index: made.index + 1 + i,
      budget: b.budget,
      decayStart: Math.max(b.decayStart, at) + cut.steps,
      end: b.end + cut.steps,
    }));
  return { segments: [...before, ...held, fall, ...after], budgets: [...kept, made, ...later] };
}
