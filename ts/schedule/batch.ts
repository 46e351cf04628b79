import { ConfigError, type ConfigPath, formatPath } from "../config/errors.ts";
import { type Duration, parseDuration } from "../config/quantities.ts";
import type { BatchScheduleSpec } from "../config/schedule_schema.ts";
import { headOf, type Segment, tailOf } from "./segment.ts";

/** Sequences of each step, and what follows from them. Built first: tokens are what other schedules may be measured in. */
export interface BatchPlan {
  /** In order; the first begins at step 0. */
  readonly stages: readonly { readonly start: number; readonly sequences: number }[];
  readonly length: number;
  /** Sequences read by the update after `step` finished ones. */
  sequencesAt(step: number): number;
  /** Tokens read by `step` finished updates. */
  tokensAt(step: number): number;
  /** The step nearest to the one after which so many tokens are read. */
  stepAt(tokens: number): number;
  /** What the learning rate is multiplied by in a stage. */
  lrFactor(sequences: number): number;
}

/** The sizes of a run's steps. Throws ConfigError when stages do not follow one another. */
export function planBatch(
  batch: { readonly sequences: number; readonly length: number },
  spec?: BatchScheduleSpec,
  totalSteps: number | null = null,
  path: ConfigPath = ["schedule", "batch"],
): BatchPlan {
  const { length } = batch;
  const stages = [{ start: 0, sequences: batch.sequences }];
  const startOf = (step: number) => stages.findLast((s) => s.start <= step)!;
  const tokensAt = (step: number): number => {
    let tokens = 0;
    for (const [i, { start, sequences }] of stages.entries()) {
      if (start >= step) break;
      tokens += (Math.min(step, stages[i + 1]?.start ?? step) - start) * sequences * length;
    }
    return tokens;
  };
  const stepAt = (tokens: number): number => {
    const { start, sequences } = stages.findLast((s) => tokensAt(s.start) <= tokens)!;
    return start + Math.round((tokens - tokensAt(start)) / (sequences * length));
  };
  for (const [i, { at, sequences }] of (spec?.stages ?? []).entries()) {
    const own = [...path, "stages", i, "at"];
    const start = stageStart(at, { length, stepAt }, totalSteps, own);
    const before = stages.at(-1)!.start;
    if (start <= before)
      throw new ConfigError(
        own,
        `${formatPath(own)} is ${at}, which is step ${start}; expected a step after ${before}.`,
      );
    stages.push({ start, sequences });
  }
  const rule = spec?.lr ?? "keep";
  const lrFactor = (sequences: number): number => {
    const ratio = sequences / batch.sequences;
    return rule === "keep" ? 1 : rule === "linear" ? ratio : Math.sqrt(ratio);
  };
  return { stages, length, sequencesAt: (step) => startOf(step).sequences, tokensAt, stepAt, lrFactor };
}

/** The step at which a stage of the batch or of the length begins. Throws ConfigError for a duration that says none. */
export function stageStart(
  at: Duration,
  { length, stepAt }: Pick<BatchPlan, "length" | "stepAt">,
  totalSteps: number | null,
  path: ConfigPath,
): number {
  const { amount, unit } = parseDuration(at)!;
  if (unit === "flops" || (unit === "share" && totalSteps === null))
    throw new ConfigError(
      path,
      `${formatPath(path)} is ${at}; expected steps, tokens or sequences, or a share of a run with a number of steps.`,
    );
  if (unit === "steps") return amount;
  return unit === "share" ? Math.round(amount * totalSteps!) : stepAt(unit === "tokens" ? amount : amount * length);
}

/** Segments with each stage's factor on their values. */
export function scaleByBatch(segments: readonly Segment[], { stages, lrFactor }: BatchPlan): Segment[] {
  return stages.flatMap(({ start, sequences }, i) => {
    const end = stages[i + 1]?.start ?? Number.POSITIVE_INFINITY;
    const inside = segments
      .filter((s) => s.start < end && (s.end === null || s.end > start))
      .map((s) => (s.start < start ? tailOf(s, start, 0) : s))
      .map((s) => (end < (s.end ?? Number.POSITIVE_INFINITY) ? headOf(s, end) : s));
    const factor = lrFactor(sequences);
    if (factor === 1) return inside;
    const scaled = (s: Segment) => (s.curve === "power_law" ? { ...s, scale: s.scale! * factor } : s);
    return inside.map((s) => ({ ...scaled(s), from: s.from * factor, to: s.to * factor }));
  });
}
