import { existsSync } from "node:fs";
import { readFile, rm } from "node:fs/promises";
import { writeFileAtomic } from "../base/files.ts";
import { acquireLock } from "../base/lock.ts";
import { evaluateCheckpoint } from "../train/evaluate_checkpoint.ts";
import { mergeCheckpoints } from "../train/merge.ts";
import { mergesOf, type PlannedMerge } from "./merge_plan.ts";
import type { PlannedSegment, StudyPlan } from "./plan.ts";
import type { SegmentStanding, StudyStore } from "./store.ts";

/** Validation loss of merged weights; null until they were made. */
export async function mergedLoss(store: StudyStore, id: string): Promise<number | null> {
  const text = await readFile(store.lossFile(id), "utf8").catch(() => null);
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
    if (existsSync(store.lossFile(merge.id))) continue;
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
    if (existsSync(store.lossFile(id))) return true;
    const out = store.mergedFolder(id);
    await rm(out, { recursive: true, force: true }); // of a process that was killed
    const paths = sources.map((source) => store.checkpoint(segments.get(source)!));
    const { path } = await mergeCheckpoints({ paths, weighing, out });
    const { microBatch } = segments.get(sources.at(-1)!)!.config.batch;
    const batch = microBatch === "auto" ? undefined : microBatch;
    const { loss } = await evaluateCheckpoint({ path, threads, batch });
    await writeFileAtomic(store.lossFile(id), `${JSON.stringify({ loss })}\n`);
    return true;
  } finally {
    await lock.release();
  }
}
