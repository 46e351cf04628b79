import { canonicalJson } from "../config/canonical.ts";
import type { RunConfig } from "../config/schema.ts";
import type { StudySpec } from "../config/study_schema.ts";
import { Engine } from "../engine/engine.ts";
import type { LlamaConfig } from "../model/llama.ts";
import { NUMERICS_VERSION } from "../train/checkpoint_state.ts";
import { openRunDataIfPresent } from "../train/datasets.ts";
import { decisive } from "../train/resume.ts";
import { type DataFacts, dataFacts, type PlannedRun, planRun } from "../train/setup.ts";
import { type Deliverable, type ExpandOptions, expandStudy, type StudyRun } from "./expand.ts";
import { sum } from "./group.ts";
import { type PlannedMerge, plannedMerge } from "./merge_plan.ts";
import { buildTree, configOf, type SegmentTree, unionSteps } from "./tree.ts";

export const PLAN_VERSION = 1;

/** What runs of one network and batch have in common. */
export interface Shape {
  readonly model: LlamaConfig;
  readonly batch: RunConfig["batch"];
  readonly precision: RunConfig["precision"];
  readonly parameters: number;
  readonly flopsPerToken: number;
  readonly tokensPerStep: number;
  readonly checkpointBytes: number;
  /** Memory of one process that trains it. */
  readonly memoryBytes: number;
  /** Tokens of one pass over the data; null when the data are not here yet. */
  readonly epochTokens: number | null;
}

export interface PlannedSegment {
  readonly id: string;
  readonly parent: string | null;
  readonly from: number;
  readonly to: number;
  readonly group: number;
  readonly shape: number;
  /** The schedules that share it: "wsd + wsd-s + constant". */
  readonly schedules: string;
  /** The same with the axis values they have in common: "wsd + constant, seed=1". */
  readonly label: string;
  /** The run that is trained to `to`; its schedule takes the values that identify the segment. */
  readonly config: RunConfig;
}

export interface PlannedStudyRun {
  readonly schedule: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly replicate: Readonly<Record<string, string>>;
  readonly control: boolean;
  readonly peak: number;
  readonly end: number;
  readonly shape: number;
  readonly path: readonly string[];
  readonly deliverables: readonly PlannedDeliverable[];
}

/** Steps of the three meanings of equal compute; see docs/studies.md. */
export interface ComputeSteps {
  /** Updates that the delivered weights have seen. */
  readonly path: number;
  /** Trained, branches and all, to have deliverables 0..k of this schedule. */
  readonly cumulative: number;
  /** Trained, had only this deliverable been wanted. */
  readonly alone: number;
}

export interface PlannedDeliverable extends Deliverable {
  /** Segment whose end the weights are, or the newest of those averaged. */
  readonly state: string;
  readonly merge?: PlannedMerge;
  readonly steps: ComputeSteps;
  /** Sum of the learning rate over the path. */
  readonly lrSum: number;
}

/** Steps with and without sharing. */
export interface Sharing {
  /** What the tree trains. */
  readonly steps: number;
  /** One run from scratch for each deliverable. */
  readonly fromScratch: number;
  /** Each schedule by itself done well: a trunk and its branches, a chain, one run for each cosine. */
  readonly byHand: number;
  readonly savedFromScratch: number;
  readonly savedByHand: number;
}

export interface StudyPlan {
  readonly version: typeof PLAN_VERSION;
  readonly spec: StudySpec;
  readonly deviceClass: string;
  readonly numericsVersion: number;
  readonly shapes: readonly Shape[];
  readonly segments: readonly PlannedSegment[];
  readonly runs: readonly PlannedStudyRun[];
  readonly sharing: Sharing;
  /** What is worth knowing before anything runs. */
  readonly warnings: readonly string[];
}

const deviceClasses = new Map<string, Promise<string>>();

/** The class of the device that a configuration trains on: part of what decides bits. */
export function deviceClassOf(device: RunConfig["device"]): Promise<string> {
  const ask = async () => {
    await using engine = await Engine.create({ device, threads: 1 });
    return engine.info.deviceClass;
  };
  const known = deviceClasses.get(device) ?? ask();
  deviceClasses.set(device, known);
  return known;
}

/** Data of a run as far as they are here: without them the identities of segments are provisional. */
interface KnownData {
  readonly facts: DataFacts;
  readonly hash: string | null;
}

/** Works a study out: every run, the segments they share, what it costs. Nothing is trained or written. */
export async function planStudy(spec: StudySpec, options: ExpandOptions = {}): Promise<StudyPlan> {
  const runs = await expandStudy(spec, options);
  const planner = new Planner();
  const prepared: Awaited<ReturnType<Planner["prepare"]>>[] = [];
  for (const run of runs) prepared.push(await planner.prepare(run));
  const tree = buildTree(prepared.map(({ identity }, i) => ({ run: runs[i]!, identity })));
  const byId = new Map(tree.segments.map((s) => [s.id, s]));
  const segments = tree.segments.map(({ id, parent, from, to, group, runs: through }): PlannedSegment => {
    const { shape, microBatch } = prepared[through[0]!]!;
    const config = configOf(byId.get(id)!, runs);
    return {
      id,
      parent,
      from,
      to,
      group,
      shape,
      ...labelsOf(through.map((i) => runs[i]!)),
      config: { ...config, batch: { ...config.batch, microBatch } },
    };
  });
  const planned = runs.map((run, i): PlannedStudyRun => {
    const { schedule, labels, replicate, control, plan, end } = run;
    const deliverables = run.deliverables.map((d) => describe(d, run, i, runs, tree));
    return {
      schedule,
      labels,
      replicate,
      control,
      peak: plan.peak,
      end,
      shape: prepared[i]!.shape,
      path: tree.paths[i]!,
      deliverables,
    };
  });
  return {
    version: PLAN_VERSION,
    spec,
    deviceClass: await deviceClassOf(runs[0]?.config.device ?? "auto"),
    numericsVersion: NUMERICS_VERSION,
    shapes: planner.shapes,
    segments,
    runs: planned,
    sharing: sharingOf(runs, tree),
    warnings: [...new Set([...idleComparisons(spec, runs), ...prepared.flatMap((p) => p.warnings)])],
  };
}

/** Comparisons that no deliverable takes part in, since a name of theirs is that of nothing in the study. */
function idleComparisons({ compare }: StudySpec, runs: readonly StudyRun[]): string[] {
  return compare.flatMap(({ of, baseline }, i) => {
    const side = ({ schedule, labels }: StudyRun) => (of === "schedule" ? schedule : labels[of]);
    const known = new Set(runs.filter((run) => !run.control).map(side));
    if (known.has(baseline)) return [];
    const found = [...known].filter((name) => name !== undefined).join(", ");
    const what = found === "" ? "the study has no axis of that name" : `of its ${of} there is ${found}`;
    return [`compare[${i}] compares nothing with ${of} ${baseline}: ${what}`];
  });
}

class Planner {
  readonly shapes: Shape[] = [];
  readonly #byKey = new Map<string, { shape: number; planned: PlannedRun }>();
  readonly #data = new Map<string, Promise<KnownData>>();

  async prepare(run: StudyRun) {
    const { config } = run;
    const data = await this.#dataOf(config);
    const { model, batch, precision, gradientSums, memory, device, optimizer } = config;
    const { groups } = optimizer;
    const { train, attention } = config.data;
    const key = canonicalJson({ model, batch, precision, gradientSums, memory, device, groups, train, attention });
    const known = this.#byKey.get(key) ?? this.#plan(config, data.facts);
    this.#byKey.set(key, known);
    const { shape, planned } = known;
    const identity = {
      ...decisive({ config, model: planned.model }),
      scalars: otherScalars(run),
      microBatch: planned.microBatch,
      data: data.hash ?? config.data.train,
      deviceClass: await deviceClassOf(device),
      numericsVersion: NUMERICS_VERSION,
    };
    const warnings = planned.dryRun.warnings.map(({ message }) => message);
    return { identity, shape, microBatch: planned.microBatch, warnings };
  }

  #plan(config: RunConfig, facts: DataFacts): { shape: number; planned: PlannedRun } {
    const planned = planRun(config, facts, { describeOnly: true });
    const { parameters, flopsPerToken, tokensPerStep, microBatch, checkpointBytes, memory, epochTokens } =
      planned.dryRun;
    this.shapes.push({
      model: planned.model,
      batch: { ...config.batch, microBatch },
      precision: config.precision,
      parameters: parameters.total,
      flopsPerToken,
      tokensPerStep,
      checkpointBytes,
      memoryBytes: memory.total,
      epochTokens,
    });
    return { shape: this.shapes.length - 1, planned };
  }

  #dataOf({ data, batch }: RunConfig): Promise<KnownData> {
    const { train, validation, weights } = data;
    const key = canonicalJson({ train, validation, weights, length: batch.length });
    const look = async (): Promise<KnownData> => {
      await using opened = await openRunDataIfPresent(data);
      if (!opened) return { facts: { vocab: null, epochSequences: null, validationSequences: null }, hash: null };
      return { facts: dataFacts(opened, batch.length), hash: opened.identity };
    };
    const known = this.#data.get(key) ?? look();
    this.#data.set(key, known);
    return known;
  }
}

/** Scalars beside the learning rate that change over the run. Their specs may be relative to its end, which then counts. */
function otherScalars({ config, end }: StudyRun): unknown {
  const { lr: _, ...others } = config.schedule;
  const changing = Object.values(others).some((spec) => spec !== undefined);
  return changing ? { ...others, end, steps: config.steps } : null;
}

/** Runs of one schedule, one experiment, one replicate: those whose branches count for each other's compute. */
const family = (run: StudyRun): string => canonicalJson([run.schedule, run.labels, run.replicate]);

function describe(
  deliverable: Deliverable,
  run: StudyRun,
  index: number,
  runs: readonly StudyRun[],
  tree: SegmentTree,
): PlannedDeliverable {
  const byId = new Map(tree.segments.map((s) => [s.id, s]));
  const state = tree.paths[index]!.find((id) => byId.get(id)!.to === deliverable.step)!;
  const earlier = runs.flatMap((other, i) =>
    family(other) === family(run)
      ? other.deliverables.filter((d) => d.budget <= deliverable.budget).map((d) => ({ run: i, step: d.step }))
      : [],
  );
  let lrSum = 0;
  for (let step = 0; step < deliverable.step; step++) lrSum += run.plan.valueAt(step);
  const path = deliverable.step;
  const alone = unionSteps(tree, [{ run: index, step: path }]);
  const { average } = deliverable;
  const passed = tree.paths[index]!.map((id) => byId.get(id)!);
  const merge = typeof average === "object" ? { merge: plannedMerge(average, run.config, passed) } : {};
  return { ...deliverable, ...merge, state, steps: { path, cumulative: unionSteps(tree, earlier), alone }, lrSum };
}

function sharingOf(runs: readonly StudyRun[], tree: SegmentTree): Sharing {
  const byId = new Map(tree.segments.map((s) => [s.id, s]));
  const steps = tree.segments.reduce((sum, s) => sum + s.to - s.from, 0);
  // Axes that do not concern a schedule give the same run again: it counts once.
  const scratch = new Map<string, number>();
  const bySchedule = new Map<string, { run: number; step: number }[]>();
  for (const [i, run] of runs.entries()) {
    const ends = run.control ? [run.end] : run.deliverables.map((d) => d.step);
    for (const end of ends) {
      const state = tree.paths[i]!.find((id) => byId.get(id)!.to === end)!;
      scratch.set(`${run.schedule} ${state}`, end);
    }
    const key = canonicalJson([run.schedule, run.replicate]);
    bySchedule.set(key, [...(bySchedule.get(key) ?? []), { run: i, step: run.end }]);
  }
  const fromScratch = sum(scratch.values());
  const byHand = [...bySchedule.values()].reduce((sum, wanted) => sum + unionSteps(tree, wanted), 0);
  const saved = (without: number) => (without === 0 ? 0 : 1 - steps / without);
  return { steps, fromScratch, byHand, savedFromScratch: saved(fromScratch), savedByHand: saved(byHand) };
}

/** The schedules that share a segment, and where it belongs. */
function labelsOf(runs: readonly StudyRun[]): { schedules: string; label: string } {
  const schedules = [...new Set(runs.map((run) => run.schedule))].join(" + ");
  const first = runs[0]!;
  const axes = Object.entries({ ...first.labels, ...first.replicate })
    .filter(([axis, label]) => runs.every((run) => ({ ...run.labels, ...run.replicate })[axis] === label))
    .map(([axis, label]) => `${axis}=${label}`);
  return { schedules, label: [schedules, ...axes].join(", ") };
}
