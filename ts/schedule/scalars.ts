import { canonicalJson } from "../config/canonical.ts";
import { ConfigError, formatPath } from "../config/errors.ts";
import type { RunConfig } from "../config/schema.ts";
import { type BatchPlan, planBatch } from "./batch.ts";
import { type LengthPlan, planLength } from "./length.ts";
import { buildSchedule, runSteps, type Schedule } from "./schedule.ts";

/** Scalars of the optimizer that may have a schedule of their own. */
export const scheduledNames = ["weightDecay", "beta1", "beta2", "clip", "ema"] as const;
export type ScheduledName = (typeof scheduledNames)[number];

/** What the update after so many finished ones uses. */
export interface StepScalars {
  readonly lr: number;
  readonly weightDecay: number;
  readonly beta1: number;
  readonly beta2: number;
  readonly clip: number;
  /** Decay of the weights' moving average, where one is kept. */
  readonly ema?: number;
  /** Product of the betas of the updates so far, this one included, where they change; for bias corrections. */
  readonly beta1Product?: number;
  readonly beta2Product?: number;
}

/** Every scalar of a run as a pure function of the step. */
export interface RunScalars {
  readonly lr: Schedule;
  /** Those that have a schedule. */
  readonly scheduled: Readonly<Partial<Record<ScheduledName, Schedule>>>;
  readonly batch: BatchPlan;
  readonly lengths: LengthPlan;
  /** Whether a moving average of the weights is kept. */
  readonly averages: boolean;
  /** Last step; null for an open run. */
  readonly end: number | null;
  at(step: number): StepScalars;
}

type Scheduled = Pick<RunConfig, "schedule" | "steps" | "batch" | "optimizer">;

/**
 * Builds the scalars of a run in order: the batch first, then the learning rate, which gives the run's end, then the others,
 * which may follow the learning rate. Throws ConfigError that names the field.
 */
export function buildScalars(config: Scheduled, flopsPerStep: number | null = null): RunScalars {
  const { schedule, steps, optimizer } = config;
  const batch = planBatch(config.batch, schedule.batch, typeof steps === "number" ? steps : null);
  const { tokens: tokensPerStep, sequences: sequencesPerStep } = config.batch;
  const sizes = { tokensPerStep, sequencesPerStep, flopsPerStep, batch };
  const lr = buildSchedule(schedule.lr, { ...sizes, totalSteps: steps, scaleByBatch: true });
  const end = runSteps(steps, lr);
  const scheduled: Partial<Record<ScheduledName, Schedule>> = {};
  for (const name of scheduledNames) {
    const spec = schedule[name];
    if (spec === undefined) continue;
    const path = ["schedule", name];
    const peak = spec.peak ?? optimizer[name];
    const most = name.startsWith("beta") || name === "ema" ? 1 : Number.POSITIVE_INFINITY;
    if (peak === undefined || !(peak > 0 && peak < most))
      throw new ConfigError(
        [...path, "peak"],
        `${formatPath([...path, "peak"])} is ${peak ?? "missing"}; expected above 0${most === 1 ? " and below 1" : ""}.`,
      );
    scheduled[name] = buildSchedule({ ...spec, peak }, { ...sizes, totalSteps: end, lr, path });
  }
  const products = { beta1: product(scheduled.beta1), beta2: product(scheduled.beta2) };
  const value = (name: ScheduledName, step: number) => scheduled[name]?.valueAt(step) ?? optimizer[name] ?? 0;
  const averages = optimizer.ema !== undefined || scheduled.ema !== undefined;
  const at = (step: number): StepScalars => ({
    lr: lr.valueAt(step),
    weightDecay: value("weightDecay", step),
    beta1: value("beta1", step),
    beta2: value("beta2", step),
    clip: value("clip", step),
    ...(averages ? { ema: value("ema", step) } : {}),
    ...(products.beta1 ? { beta1Product: products.beta1(step) } : {}),
    ...(products.beta2 ? { beta2Product: products.beta2(step) } : {}),
  });
  const lengths = planLength(batch, schedule.length, end);
  return { lr, scheduled, batch, lengths, averages, end, at };
}

/** Product of a schedule's values, as the kernel has them in float32, over updates 0..step. Steps asked in order cost one each. */
function product(schedule: Schedule | undefined): ((step: number) => number) | null {
  if (schedule === undefined) return null;
  let known = { step: -1, value: 1 };
  return (step) => {
    if (step < known.step) known = { step: -1, value: 1 };
    for (
      ;
      known.step < step;
      known = { step: known.step + 1, value: known.value * Math.fround(schedule.valueAt(known.step + 1)) }
    );
    return known.value;
  };
}

/**
 * What decides the values of the scheduled scalars beside the learning rate, as text; empty without any. One that follows the
 * learning rate is its spec, since the learning rate's values say the rest.
 */
export function scalarsIdentity(config: Scheduled): Record<string, string> {
  const { schedule } = config;
  const { lr: _, ...others } = schedule;
  if (Object.values(others).every((spec) => spec === undefined)) return {};
  const { scheduled, lengths } = buildScalars(config);
  const entries = Object.entries(scheduled).map(([name, built]) => {
    const spec = schedule[name as ScheduledName]!;
    return [`schedule.${name}`, spec.follow_lr === undefined ? built.canonical : canonicalJson([spec, built.peak])];
  });
  return {
    ...Object.fromEntries(entries),
    ...(schedule.batch === undefined ? {} : { "schedule.batch": canonicalJson(schedule.batch) }),
    ...(schedule.length === undefined ? {} : { "schedule.length": canonicalJson(lengths.stages) }),
  };
}
