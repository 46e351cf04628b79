import { readFile } from "node:fs/promises";
import { ThalwegError } from "../base/errors.ts";
import { ConfigError, formatPath } from "../config/errors.ts";
import { fieldsAt } from "../config/issues.ts";
import { isMapping } from "../config/layer.ts";
import { loadRunConfig } from "../config/load.ts";
import type { Duration } from "../config/quantities.ts";
import { type RunConfig, runSchema } from "../config/schema.ts";
import type { ScheduleArm, StudySpec } from "../config/study_schema.ts";
import type { Schedule } from "../schedule/schedule.ts";
import { stepsOf } from "../schedule/units.ts";
import { runSchedule } from "../train/setup.ts";
import { type Combination, combinations, isReplicate } from "./combine.ts";
import { type Merging, mergingOf } from "./merge_plan.ts";

/** Weights a study asks for: those after `step` updates of a run, for nominal budget number `budget`. */
export interface Deliverable {
  readonly budget: number;
  /** B_k in steps. */
  readonly nominal: number;
  /** Finished updates at which the weights stand. */
  readonly step: number;
  /** Averaged weights instead of the last ones. */
  readonly average?: "ema" | Merging;
}

/** One run of a study as it would be trained alone, from step 0 to its end. */
export interface StudyRun {
  /** Name of the schedule it belongs to; several runs of one schedule serve several budgets. */
  readonly schedule: string;
  /** Labels of the axes that change the experiment, and of those that repeat it. */
  readonly labels: Readonly<Record<string, string>>;
  readonly replicate: Readonly<Record<string, string>>;
  readonly control: boolean;
  readonly config: RunConfig;
  readonly plan: Schedule;
  readonly end: number;
  readonly deliverables: readonly Deliverable[];
  /** Steps at which another run may want to branch off: deliverables and what they average, and where each decay leaves the stable phase. */
  readonly marks: readonly number[];
}

/** Peaks found by tuning, by `tuningKey`; null when there are none yet. */
export type TunedPeaks = Readonly<Record<string, number>>;

export interface ExpandOptions {
  tuned?: TunedPeaks | null | undefined;
  /** Take the base's peak where a tuned one is missing: for plans made before tuning. */
  assumePeaks?: boolean | undefined;
}

/** What a tuned peak belongs to: a schedule, and the labels of the axes tuned separately. */
export const tuningKey = (schedule: string, labels: Readonly<Record<string, string>>, per: readonly string[]): string =>
  [schedule, ...per.map((axis) => `${axis}=${labels[axis]}`)].join(" ");

/**
 * Every run that a study consists of, in a fixed order: combinations as the file lists them, schedules within, budgets
 * within. Runs may coincide in part or whole; the tree finds that out by their values.
 * @throws BAD_CONFIG when something does not fit together.
 */
export async function expandStudy(spec: StudySpec, options: ExpandOptions = {}): Promise<StudyRun[]> {
  const expander = new Expander(spec, options);
  expander.checkAxes();
  const runs: StudyRun[] = [];
  for (const combination of combinations(spec)) runs.push(...(await expander.runsOf(combination)));
  return runs;
}

const variables = ["budget", "budgets", "end", "ends"] as const;
type Variable = (typeof variables)[number];

const uses = (arm: ScheduleArm, variable: Variable): boolean => JSON.stringify(arm).includes(`"$${variable}"`);

class Expander {
  readonly #spec: StudySpec;
  readonly #options: ExpandOptions;
  readonly #arms: readonly (readonly [string, ScheduleArm])[];
  readonly #texts = new Map<string, Promise<string>>();

  constructor(spec: StudySpec, options: ExpandOptions) {
    this.#spec = spec;
    this.#options = options;
    const given = Object.entries(spec.schedules);
    this.#arms =
      given.length > 0 ? given : [["base", { lr: {}, set: {}, deliver: "each", weights: "last", control: false }]];
  }

  /** An axis must change something: a field of the run, or what a $NAME stands for. */
  checkAxes(): void {
    const { axes, schedules, set } = this.#spec;
    const texts = JSON.stringify([schedules, set]);
    for (const [name, axis] of Object.entries(axes)) {
      if (texts.includes(`"$${name}"`) || isField(name)) continue;
      if (Array.isArray(axis) && axis.every((value) => isMapping(value) && value.set !== undefined)) continue;
      throw new ConfigError(
        ["axes", name],
        `axes.${name} changes nothing: it is no field of a run, no schedule says $${name}, and not all its values have \`set\`.`,
      );
    }
  }

  async runsOf(combination: Combination): Promise<StudyRun[]> {
    const budgets = await this.#budgets(combination);
    let ends = await this.#statedEnds(combination, budgets);
    const byArm = new Map<string, StudyRun[]>();
    const waiting = (arm: ScheduleArm) => uses(arm, "end") || uses(arm, "ends");
    // Schedules laid out at N_k come last: the chains say where N_k is.
    for (const [name, arm] of this.#arms.toSorted((a, b) => Number(waiting(a[1])) - Number(waiting(b[1])))) {
      if (waiting(arm) && ends === null)
        throw new ConfigError(
          ["schedules", name],
          `schedules.${name} says $end, but no schedule of the study has $budgets in one run (wsd_s, for one), whose decays make N_k.`,
        );
      const runs = await this.#armRuns(name, arm, combination, budgets, ends);
      byArm.set(name, runs);
      if (!waiting(arm) && runs.length === 1 && runs[0]!.plan.budgets.length === budgets.length)
        ends ??= runs[0]!.plan.budgets.map((b) => b.end);
    }
    return this.#arms.flatMap(([name]) => byArm.get(name)!);
  }

  /** One budget has no decays before it. */
  async #statedEnds(combination: Combination, budgets: number[]): Promise<number[] | null> {
    const { ends } = this.#spec;
    if (!ends) return budgets.length === 1 ? budgets : null;
    if (ends.length !== budgets.length)
      throw new ConfigError(["ends"], `ends has ${ends.length} values for ${budgets.length} budgets.`);
    return this.#steps(ends, "ends", combination);
  }

  async #steps(durations: readonly Duration[], field: string, combination: Combination): Promise<number[]> {
    const { batch } = await this.#load([...this.#common(combination)]);
    const measures = { tokensPerStep: batch.tokens, totalSteps: null };
    return durations.map((duration, k) => stepsOf(duration, measures, [field, k]));
  }

  async #budgets(combination: Combination): Promise<number[]> {
    const steps = await this.#steps(this.#spec.budgets ?? [], "budgets", combination);
    for (const [k, step] of steps.entries())
      if (step < 1 || (k > 0 && step <= steps[k - 1]!))
        throw new ConfigError(["budgets", k], `budgets[${k}] is ${step} steps; expected increasing budgets.`);
    return steps;
  }

  async #armRuns(
    name: string,
    arm: ScheduleArm,
    combination: Combination,
    budgets: number[],
    ends: number[] | null,
  ): Promise<StudyRun[]> {
    const layouts = uses(arm, "budget") || uses(arm, "end") ? budgets.map((_, k) => k) : [null];
    if (layouts.length === 0)
      throw new ConfigError(["schedules", name], `schedules.${name} says $budget, but the study has no budgets.`);
    const runs: StudyRun[] = [];
    for (const k of layouts) {
      const values = { budget: k === null ? null : budgets[k], budgets, end: k === null ? null : ends?.[k], ends };
      runs.push(await this.#run(name, arm, combination, k, values));
    }
    return runs;
  }

  async #run(
    name: string,
    arm: ScheduleArm,
    combination: Combination,
    k: number | null,
    values: { budget: unknown; budgets: number[]; end: unknown; ends: number[] | null },
  ): Promise<StudyRun> {
    const { budgets } = values;
    const given: Record<string, unknown> = { ...values };
    for (const [axis, { value }] of Object.entries(combination)) given[axis] = value;
    const fields = substitute({ ...arm.set, schedule: { lr: arm.lr } }, given, `schedules.${name}`);
    const layers = this.#common(combination, fields as Record<string, unknown>);
    if (budgets.length > 0 && !("steps" in arm.set)) layers.push("steps=null");
    const labels = labelsOf(combination, (axis) => !isReplicate(axis));
    const load = (more: readonly string[]) => this.#load(this.#withPeak([...layers, ...more], name, labels));
    const steps = k === null && !this.#hasEnd(arm) && budgets.length > 0 ? [`steps=${budgets.at(-1)}`] : [];
    const config = await load(steps);
    if (config.schedule.batch !== undefined)
      throw new ConfigError(
        ["schedules", name],
        `schedules.${name} changes the batch (schedule.batch); a study counts its compute in steps of one size.`,
      );
    const { schedule: plan, end, scalars } = runSchedule(config);
    if (end === null)
      throw new ConfigError(
        ["schedules", name],
        `schedules.${name} has no end. Give the study budgets, or the run steps.`,
      );
    const each = deliverablesOf(k, plan, end, uses(arm, "ends") ? values.ends! : budgets, budgets);
    const wanted = arm.deliver === "last" ? [{ budget: 0, nominal: end, step: end }] : each;
    if (arm.weights === "ema" && !scalars.averages)
      throw new ConfigError(
        ["schedules", name, "weights"],
        `schedules.${name} delivers the moving average of the weights, but its runs keep none. Set optimizer.ema.`,
      );
    const deliverables = wanted.map((d) => averaged(d, arm, name, config, given));
    return {
      schedule: name,
      labels,
      replicate: labelsOf(combination, isReplicate),
      control: arm.control,
      config: { ...config, name: runName(name, labels, k) },
      plan,
      end,
      deliverables,
      marks: marksOf(plan, end, deliverables),
    };
  }

  /** A schedule that names no budget goes on as far as the last one: a control at a constant rate. */
  #hasEnd(arm: ScheduleArm): boolean {
    return variables.some((variable) => uses(arm, variable)) || Object.keys(arm.lr).length === 0;
  }

  /** Overrides in the order they count: the study's, the schedule's, the axes'. */
  #common(combination: Combination, own: Record<string, unknown> = {}): string[] {
    const given = Object.fromEntries(Object.entries(combination).map(([axis, { value }]) => [axis, value]));
    const lines = [...overridesOf(substitute(this.#spec.set, given, "set")), ...overridesOf(own)];
    for (const [axis, { value, set }] of Object.entries(combination)) {
      if (isField(axis)) lines.push(`${axis}=${JSON.stringify(value)}`);
      lines.push(...overridesOf(set));
    }
    return lines;
  }

  /** Puts the tuned peak where a schedule says `peak: tuned` (or `tuned:OTHER`, that of another schedule). */
  #withPeak(lines: readonly string[], schedule: string, labels: Readonly<Record<string, string>>): string[] {
    const isPeak = /^schedule\.lr\.peak="tuned(?::(.+))?"$/;
    const last = lines.findLast((line) => line.startsWith("schedule.lr.peak="));
    const match = last === undefined ? null : isPeak.exec(last);
    const rest = lines.filter((line) => !isPeak.test(line));
    if (!match) return rest;
    const key = tuningKey(match[1] ?? schedule, labels, this.#spec.tuning?.per ?? []);
    const peak = this.#options.tuned?.[key];
    if (peak !== undefined) return [...rest, `schedule.lr.peak=${peak}`];
    if (this.#options.assumePeaks) return rest;
    throw new ThalwegError(
      "BAD_CONFIG",
      `the peak of "${key}" is not tuned yet. Run \`thalweg tune\` on this study first.`,
    );
  }

  async #load(overrides: readonly string[]): Promise<RunConfig> {
    const read = (file: string): Promise<string> => {
      const known = this.#texts.get(file) ?? readFile(file, "utf8");
      this.#texts.set(file, known);
      return known;
    };
    const { config } = await loadRunConfig(this.#spec.base, overrides, read);
    return config;
  }
}

function averaged(
  deliverable: Deliverable,
  { weights }: ScheduleArm,
  name: string,
  { batch }: RunConfig,
  given: Readonly<Record<string, unknown>>,
): Deliverable {
  if (weights === "last") return deliverable;
  if (weights === "ema") return { ...deliverable, average: weights };
  const path = ["schedules", name, "weights", "merge"];
  const merge = substitute(weights.merge, given, path.join("."));
  return { ...deliverable, average: mergingOf(merge, deliverable.step, { tokensPerStep: batch.tokens }, path) };
}

const labelsOf = (combination: Combination, wanted: (axis: string) => boolean): Record<string, string> =>
  Object.fromEntries(
    Object.entries(combination)
      .filter(([axis]) => wanted(axis))
      .map(([axis, { label }]) => [axis, label]),
  );

function runName(schedule: string, labels: Readonly<Record<string, string>>, k: number | null): string {
  const parts = [schedule, ...Object.values(labels), ...(k === null ? [] : [`b${k + 1}`])];
  return parts.join("-").replaceAll(/[^A-Za-z0-9._-]+/g, "_");
}

/** Whether a dotted name is a field of a run. */
function isField(name: string): boolean {
  const path = name.split(".");
  return fieldsAt(runSchema, path.slice(0, -1)).includes(path.at(-1)!);
}

/** Leaves of a mapping as overrides; an empty mapping is a leaf: `constant: {}`. */
function overridesOf(fields: unknown, path: readonly string[] = []): string[] {
  if (isMapping(fields) && (path.length === 0 || Object.keys(fields).length > 0))
    return Object.entries(fields).flatMap(([key, value]) => overridesOf(value, [...path, ...key.split(".")]));
  return [`${formatPath(path)}=${JSON.stringify(fields)}`];
}

/** Replaces texts "$NAME" by values. @throws BAD_CONFIG for a name that stands for nothing. */
function substitute(value: unknown, given: Readonly<Record<string, unknown>>, where: string): unknown {
  if (Array.isArray(value)) return value.map((item) => substitute(item, given, where));
  if (isMapping(value))
    return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, substitute(item, given, where)]));
  if (typeof value !== "string" || !/^\$\w/.test(value)) return value;
  const found = given[value.slice(1)];
  if (found !== undefined && found !== null) return found;
  throw new ConfigError(
    [where],
    `${where} says ${value}; known here: ${Object.keys(given)
      .map((n) => `$${n}`)
      .join(", ")}.`,
  );
}

function deliverablesOf(
  k: number | null,
  plan: Schedule,
  end: number,
  layout: readonly number[],
  budgets: readonly number[],
): Deliverable[] {
  if (k !== null) return [{ budget: k, nominal: budgets[k]!, step: end }];
  const chain = plan.budgets.filter((b) => b.end <= end);
  // Cycles said by their ends have no nominal budgets of their own: they serve the study's.
  if (chain.length > 0)
    return chain.map((b) => ({ budget: b.index, nominal: budgets[b.index] ?? b.budget, step: b.end }));
  const steps = layout.filter((step) => step <= end);
  if (steps.length === 0) return [{ budget: 0, nominal: end, step: end }];
  return steps.map((step, index) => ({ budget: index, nominal: budgets[index]!, step }));
}

function marksOf(plan: Schedule, end: number, deliverables: readonly Deliverable[]): number[] {
  const merged = deliverables.flatMap(({ average }) => (typeof average === "object" ? average.steps : []));
  const marks = new Set([end, ...deliverables.map((d) => d.step), ...merged]);
  for (const { decayStart, end: last } of plan.budgets) {
    if (decayStart < 1 || decayStart >= end) continue;
    // The first value of a decay is the peak still: runs part at the second. A fall that no stable phase precedes (a
    // cosine's) is no place to branch off.
    let step = decayStart;
    while (step < last && plan.valueAt(step) === plan.valueAt(decayStart - 1)) step++;
    if (step > decayStart && step < end) marks.add(step);
  }
  return [...marks].sort((a, b) => a - b);
}
