import { join } from "node:path";
import { ThalwegError } from "../base/errors.ts";
import type { StudySpec } from "../config/study_schema.ts";
import { combinations, isReplicate } from "./combine.ts";
import { expandStudy, tuningKey } from "./expand.ts";
import { mean } from "./group.ts";
import { planStudy, type StudyPlan } from "./plan.ts";
import { collectResults } from "./results.ts";
import { StudyStore } from "./store.ts";
import type { TunedFile, TunedPeak } from "./tuned.ts";

export interface TuneOptions {
  /** Trains what a plan lacks in its folder; false when a signal ended it. */
  train: (plan: StudyPlan, store: StudyStore) => Promise<boolean>;
  onNote?: ((text: string) => void) | undefined;
}

/** One schedule (and size) to tune: its part of the study, at a peak still to be said. */
interface Target {
  readonly key: string;
  readonly folder: string;
  specAt(peaks: readonly number[], seeds: readonly number[]): StudySpec;
  rangeSpec(seed: number): StudySpec;
}

/**
 * Finds the peak of each schedule that says `tuned`: a range test suggests where to begin (unless the study says), then a
 * grid of ratio `factor` grows until the best peak has worse ones on both sides, on tuning seeds and the study's `tuning.set`.
 * @returns null when a signal ended it; what was trained stays and the next call goes on.
 * @throws BAD_CONFIG when there is nothing to tune.
 */
export async function tuneStudy(spec: StudySpec, folder: string, options: TuneOptions): Promise<TunedFile | null> {
  const { tuning } = spec;
  if (!tuning) throw new ThalwegError("BAD_CONFIG", `${spec.name} has no \`tuning\` section: say its seeds.`);
  const targets = await targetsOf(spec, folder);
  const peaks: Record<string, TunedPeak> = {};
  let steps = 0;
  let budget = 0;
  for (const target of targets) {
    const start = tuning.start ?? (await suggest(target, spec, options));
    if (start === null) return null;
    const search = new PeakSearch(tuning.factor, tuning.limit, start);
    for (;;) {
      const plan = await planStudy(target.specAt(search.tried, tuning.seeds));
      const store = new StudyStore(target.folder);
      await store.savePlan(plan);
      if (!(await options.train(plan, store))) return null;
      search.record(await lossesOf(plan, store, search.tried, tuning.seeds));
      budget = plan.runs[0]!.deliverables.at(-1)!.nominal;
      if (search.next()) continue;
      steps += plan.sharing.steps;
      break;
    }
    peaks[target.key] = search.result();
    const { peak, interior } = peaks[target.key]!;
    options.onNote?.(`${target.key}: peak ${peak}${interior ? "" : " (at the edge of what was tried)"}`);
  }
  return { version: 1, seeds: tuning.seeds, budget, steps, peaks };
}

/** Losses of each peak tried; a diverged run is worse than any number. */
type Losses = (number | null)[];

const score = (losses: Losses): number =>
  losses.some((loss) => loss === null) ? Number.POSITIVE_INFINITY : mean(losses as number[]);

/** A grid of peaks that grows towards the best one until it is inside. */
export class PeakSearch {
  readonly #factor: number;
  readonly #limit: number;
  #peaks: number[];
  #losses = new Map<number, Losses>();

  constructor(factor: number, limit: number, start: number) {
    this.#factor = factor;
    this.#limit = limit;
    this.#peaks = [start / factor, start, start * factor].map(rounded);
  }

  get tried(): readonly number[] {
    return this.#peaks;
  }

  record(losses: ReadonlyMap<number, Losses>): void {
    for (const [peak, found] of losses) this.#losses.set(peak, found);
  }

  /** Adds the neighbour of a best peak at the edge; false when the search is over. */
  next(): boolean {
    const { index } = this.#best();
    if (this.#peaks.length >= this.#limit) return false;
    if (index === 0) this.#peaks = [rounded(this.#peaks[0]! / this.#factor), ...this.#peaks];
    else if (index === this.#peaks.length - 1)
      this.#peaks = [...this.#peaks, rounded(this.#peaks[index]! * this.#factor)];
    else return false;
    return true;
  }

  result(): TunedPeak {
    const { index } = this.#best();
    const interior = index > 0 && index < this.#peaks.length - 1;
    const grid = this.#peaks.map((peak) => ({ peak, losses: this.#losses.get(peak) ?? [] }));
    return { peak: this.#peaks[index]!, interior, grid };
  }

  /** When everything diverged, the lowest peak: the search goes down. */
  #best(): { index: number } {
    const scores = this.#peaks.map((peak) => score(this.#losses.get(peak) ?? [null]));
    const least = Math.min(...scores);
    return { index: least === Number.POSITIVE_INFINITY ? 0 : scores.indexOf(least) };
  }
}

const rounded = (peak: number): number => Number(peak.toPrecision(6));

async function lossesOf(
  plan: StudyPlan,
  store: StudyStore,
  peaks: readonly number[],
  seeds: readonly number[],
): Promise<Map<number, Losses>> {
  const { rows } = await collectResults(plan, store);
  const last = Math.max(...rows.map((row) => row.budget));
  const lossOf = (peak: number, seed: number) =>
    rows.find((row) => row.peak === peak && row.replicate.seed === String(seed) && row.budget === last)?.loss ?? null;
  return new Map(peaks.map((peak) => [peak, seeds.map((seed) => lossOf(peak, seed))]));
}

/** The schedules that say `tuned`, each with every combination of the axes tuned separately. */
async function targetsOf(spec: StudySpec, folder: string): Promise<Target[]> {
  const tuning = spec.tuning!;
  const names =
    tuning.schedules ??
    Object.entries(spec.schedules)
      .filter(([, arm]) => arm.lr.peak === "tuned")
      .map(([name]) => name);
  if (names.length === 0)
    throw new ThalwegError("BAD_CONFIG", `${spec.name} has nothing to tune: no schedule says \`peak: tuned\`.`);
  const budgets = tuningBudgets(spec);
  const ends = await endsOf(spec, budgets.length);
  const axes = Object.entries(spec.axes).filter(([axis]) => !isReplicate(axis));
  const separate = Object.fromEntries(axes.filter(([axis]) => tuning.per.includes(axis)));
  const sizes = combinations({ axes: separate, combine: { zip: [], list: [] } });
  return names.flatMap((name) =>
    sizes.map((size): Target => {
      const labels = Object.fromEntries(Object.entries(size).map(([axis, { label }]) => [axis, label]));
      const key = tuningKey(name, labels, tuning.per);
      const fixed = Object.fromEntries(axes.map(([axis, values]) => [axis, [oneOf(spec, axis, values, labels[axis])]]));
      const arm = spec.schedules[name]!;
      const common = {
        ...spec,
        set: merged(spec.set, tuning.set),
        combine: { zip: [], list: [] },
        compare: [],
        tuning: undefined,
      };
      return {
        key,
        folder: join(folder, "tuning", key.replaceAll(/[^A-Za-z0-9._-]+/g, "_")),
        specAt: (peaks, seeds) => ({
          ...common,
          name: `tune-${name}`,
          // A chain is tuned as it will be run; a run for each budget only at the last one.
          budgets: chained(arm) ? budgets : budgets.slice(-1),
          ends: chained(arm) ? ends : undefined,
          schedules: { [name]: { ...arm, lr: { ...arm.lr, peak: "$peak" } } },
          axes: { ...fixed, seed: [...seeds], peak: [...peaks] },
        }),
        rangeSpec: (seed) => ({
          ...common,
          name: `range-${name}`,
          budgets: undefined,
          schedules: { range: rangeArm(spec) },
          axes: { ...withoutUnused(fixed, arm), seed: [seed] },
        }),
      };
    }),
  );
}

/** Axes that only a schedule's $NAME uses would change nothing in a range test. */
function withoutUnused(axes: StudySpec["axes"], arm: StudySpec["schedules"][string]): StudySpec["axes"] {
  const text = JSON.stringify(arm);
  return Object.fromEntries(Object.entries(axes).filter(([axis]) => !text.includes(`"$${axis}"`)));
}

const rangeArm = ({ rangeTest: { steps, from, to } }: StudySpec): StudySpec["schedules"][string] => ({
  lr: { peak: to, warmup: 0, range_test: { steps, from: { value: from } } },
  set: { steps },
  deliver: "each",
  weights: "last",
  control: false,
});

/** The one value of an axis that tuning takes: its own, the declared baseline, or the first. */
function oneOf(spec: StudySpec, axis: string, values: StudySpec["axes"][string], label: string | undefined) {
  if (!Array.isArray(values))
    throw new ThalwegError("BAD_CONFIG", `axes.${axis} is a range: tuning needs a value of it, listed.`);
  const wanted = label ?? spec.compare.find((c) => c.of === axis)?.baseline;
  const labelOf = (value: (typeof values)[number]) =>
    typeof value === "object" && value !== null ? value.label : String(value);
  return values.find((value) => labelOf(value) === wanted) ?? values[0]!;
}

const chained = (arm: StudySpec["schedules"][string]): boolean => /"\$(budgets|ends)"/.test(JSON.stringify(arm));

/** The study's budgets up to the one that is tuned at. */
function tuningBudgets(spec: StudySpec): (number | string)[] {
  const { budgets = [], tuning } = spec;
  const last = tuning!.budget ?? budgets.at(-1);
  if (last === undefined)
    throw new ThalwegError("BAD_CONFIG", `${spec.name}: tuning needs a budget: tuning.budget, or the study's budgets.`);
  const index = budgets.indexOf(last);
  return index < 0 ? [last] : budgets.slice(0, index + 1);
}

/** N_k of the whole study, for schedules laid out there; undefined when it has none. */
async function endsOf(spec: StudySpec, count: number): Promise<(number | string)[] | undefined> {
  if (spec.ends) return spec.ends.slice(0, count);
  const runs = await expandStudy(spec, { assumePeaks: true });
  const chain = runs.find((run) => run.deliverables.length > 1 && run.plan.budgets.length > 1 && !run.control);
  return chain?.deliverables.slice(0, count).map((d) => d.step);
}

function merged(a: Readonly<Record<string, unknown>>, b: Readonly<Record<string, unknown>>): Record<string, unknown> {
  const all: Record<string, unknown> = { ...a };
  for (const [key, value] of Object.entries(b)) {
    const both = [all[key], value].every((v) => typeof v === "object" && v !== null && !Array.isArray(v));
    all[key] = both ? merged(all[key] as Record<string, unknown>, value as Record<string, unknown>) : value;
  }
  return all;
}

/** The rate at the range test's lowest smoothed loss lies at the edge of what works; a quarter of it is a place to begin. */
async function suggest(target: Target, spec: StudySpec, options: TuneOptions): Promise<number | null> {
  const plan = await planStudy(target.rangeSpec(spec.tuning!.seeds[0]!));
  const store = new StudyStore(`${target.folder}-range`);
  await store.savePlan(plan);
  if (!(await options.train(plan, store))) return null;
  const { curves } = await collectResults(plan, store);
  const lr = lowestOf(curves[0]!.steps);
  const start = rounded(1e-3 * 2 ** Math.round(Math.log2(lr / 4 / 1e-3)));
  options.onNote?.(`${target.key}: the range test's loss is lowest at ${lr.toPrecision(2)}; starting at ${start}`);
  return start;
}

/** The rate at the lowest of the exponentially smoothed training losses. */
export function lowestOf(steps: readonly { loss: number; lr: number }[]): number {
  let smooth: number | null = null;
  let best = { loss: Number.POSITIVE_INFINITY, lr: steps[0]?.lr ?? 1e-3 };
  for (const { loss, lr } of steps) {
    smooth = smooth === null ? loss : 0.9 * smooth + 0.1 * loss;
    if (smooth < best.loss) best = { loss: smooth, lr };
  }
  return best.lr;
}
