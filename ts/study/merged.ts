import { existsSync } from "node:fs";
import { readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { writeFileAtomic } from "../base/files.ts";
import { acquireLock } from "../base/lock.ts";
import { canonicalHash } from "../config/canonical.ts";
import type { ConfigPath } from "../config/errors.ts";
import { configError } from "../config/issues.ts";
import { type MergeSpec, mergeSchema } from "../config/study_schema.ts";
import { stepsOf } from "../schedule/units.ts";
import { evaluateCheckpoint } from "../train/evaluate_checkpoint.ts";
import { mergeCheckpoints } from "../train/merge.ts";
import { mergeWeights, type Weighing } from "../train/merge_weights.ts";
import type { StudyRun } from "./expand.ts";
import type { PlannedSegment, StudyPlan } from "./plan.ts";
import type { SegmentStanding, StudyStore } from "./store.ts";

/** Checkpoints whose mean is delivered, and how they are weighed. */
export interface Merging {
  /** Finished updates, increasing; the last one is the deliverable's. */
  readonly steps: readonly number[];
  readonly weighing: Weighing;
}

/** A mean of the ends of segments, measured like them. */
export interface PlannedMerge {
  readonly id: string;
  /** Segments whose ends are averaged, oldest first. */
  readonly sources: readonly string[];
  readonly weighing: Weighing;
}

/**
 * The checkpoints that a merge up to `step` takes: evenly spaced, rounded to whole steps.
 * @throws BAD_CONFIG when they do not fit between the run's beginning and `step`.
 */
export function mergingOf(
  given: unknown,
  step: number,
  measures: { tokensPerStep: number },
  path: ConfigPath,
): Merging {
  const parsed = mergeSchema.safeParse(given);
  if (!parsed.success) throw configError(mergeSchema, given, parsed.error.issues, path);
  const { over, count, like, floor, ema } = parsed.data;
  const length = stepsOf(over, { ...measures, totalSteps: step }, [...path, "over"]);
  const steps = Array.from({ length: count }, (_, i) => step - Math.round((length * (count - 1 - i)) / (count - 1)));
  const weighing = weighingOf({ like, floor, ema });
  if (steps[0]! < 1 || new Set(steps).size < count)
    throw configError(
      mergeSchema,
      given,
      [
        {
          code: "custom",
          path: ["over"],
          message: `room for ${count} checkpoints in the ${step} steps up to the deliverable (found ${length} steps)`,
          input: over,
        },
      ],
      path,
    );
  mergeWeights(weighing, steps);
  return { steps, weighing };
}

const weighingOf = ({ like, floor, ema }: Pick<MergeSpec, "like" | "floor" | "ema">): Weighing => {
  if (ema !== undefined) return { kind: "ema", decay: ema };
  return like === undefined ? { kind: "uniform" } : { kind: "decay", shape: like, floor };
};

/** The merge of a deliverable, whose run passes through these segments. */
export function plannedMerge(
  { steps, weighing }: Merging,
  run: Pick<StudyRun, "config">,
  path: readonly Pick<PlannedSegment, "id" | "to">[],
): PlannedMerge {
  const sources = steps.map((step) => path.find(({ to }) => to === step)!.id);
  const { sequences, skip } = run.config.evaluation;
  const { validation } = run.config.data;
  const id = canonicalHash({ sources, weighing, sequences, skip, validation }).slice(0, 16);
  return { id, sources, weighing };
}

/** Every merge of a study once. */
export function mergesOf(plan: StudyPlan): PlannedMerge[] {
  const all = plan.runs.flatMap((run) => run.deliverables.flatMap(({ merge }) => (merge ? [merge] : [])));
  return [...new Map(all.map((merge) => [merge.id, merge])).values()];
}

const lossFile = (store: StudyStore, id: string): string => join(store.mergedFolder(id), "loss.json");

/** Validation loss of merged weights; null until they were made. */
export async function mergedLoss(store: StudyStore, id: string): Promise<number | null> {
  const text = await readFile(lossFile(store, id), "utf8").catch(() => null);
  return text === null ? null : (JSON.parse(text) as { loss: number }).loss;
}

/**
 * Makes and measures the merges whose checkpoints are there. Any number of processes may do so at once.
 * @returns whether some are left that may still come: their checkpoints are missing, or another process makes them.
 */
export async function makeMerges(
  plan: StudyPlan,
  store: StudyStore,
  standing: ReadonlyMap<string, SegmentStanding>,
  options: { threads?: number | undefined; signal?: AbortSignal | undefined } = {},
): Promise<boolean> {
  const segments = new Map(plan.segments.map((s) => [s.id, s]));
  let left = false;
  for (const merge of mergesOf(plan)) {
    if (existsSync(lossFile(store, merge.id))) continue;
    const found = merge.sources.map((id) => standing.get(id)!);
    if (found.some((s) => s === "failed" || s === "blocked")) continue;
    if (options.signal?.aborted || found.some((s) => s !== "done")) left = true;
    else left = !(await make(merge, segments, store, options.threads)) || left;
  }
  return left;
}

/** @returns false when another process is at it. */
async function make(
  { id, sources, weighing }: PlannedMerge,
  segments: ReadonlyMap<string, PlannedSegment>,
  store: StudyStore,
  threads: number | undefined,
): Promise<boolean> {
  const lock = await acquireLock(store.lockFile(id), { purpose: "merge" }).catch((error: { code?: string }) => {
    if (error.code === "LOCKED") return null;
    throw error;
  });
  if (lock === null) return false;
  try {
    if (existsSync(lossFile(store, id))) return true;
    const out = store.mergedFolder(id);
    await rm(out, { recursive: true, force: true }); // of a process that was killed
    const paths = sources.map((source) => store.checkpoint(segments.get(source)!));
    const { path } = await mergeCheckpoints({ paths, weighing, out });
    const { microBatch } = segments.get(sources.at(-1)!)!.config.batch;
    const batch = microBatch === "auto" ? undefined : microBatch;
    const { loss } = await evaluateCheckpoint({ path, threads, batch });
    await writeFileAtomic(lossFile(store, id), `${JSON.stringify({ loss })}\n`);
    return true;
  } finally {
    await lock.release();
  }
}
