import { mkdir } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";
import { ThalwegError } from "../base/errors.ts";
import { acquireLock, type Lock } from "../base/lock.ts";
import type { RunConfig } from "../config/schema.ts";
import { type Reporter, silentReporter } from "../train/reporter.ts";
import { runTraining } from "../train/run.ts";
import { makeMerges } from "./merged.ts";
import type { PlannedSegment, StudyPlan } from "./plan.ts";
import { type StudyStore, standings, weightsNeeded } from "./store.ts";

export interface WorkOptions {
  signal?: AbortSignal | undefined;
  reporter?: Reporter | undefined;
  threads?: number | undefined;
  versions?: Readonly<Record<string, string>> | undefined;
  /** Told of each segment that this process begins. */
  onSegment?: ((segment: PlannedSegment) => void) | undefined;
  /** Told of each segment that this process has brought to its end. */
  onDone?: ((segment: PlannedSegment, outcome: "done" | "failed") => void) | undefined;
}

/** What came of one segment: `busy` when another process has it, `waiting` when its parent is not there yet. */
export type SegmentOutcome = "done" | "failed" | "stopped" | "busy" | "waiting";

/** Milliseconds between two looks for something to do while others work. */
const pause = 250;

/**
 * Trains what a study lacks until nothing is left that this process can do. Any number of processes may do so at once on
 * one folder: a segment's lock says who trains it, and it passes on when its holder dies.
 * @returns whether everything is done or failed; false when a signal ended it.
 * @throws what a segment throws that another attempt might not: no memory, a full disk, corrupt files.
 */
export async function work(plan: StudyPlan, store: StudyStore, options: WorkOptions = {}): Promise<boolean> {
  for (;;) {
    const all = await standings(plan, store);
    const missing = plan.segments.filter((s) => all.get(s.id) === "missing");
    const merging = await makeMerges(plan, store, all, options);
    if (missing.length === 0 && !merging) return true;
    if (options.signal?.aborted) return false;
    let progress = false;
    for (const segment of inTurn(missing, plan)) {
      if (options.signal?.aborted) return false;
      const outcome = await makeSegment(segment, plan, store, options);
      if (outcome === "stopped") return false;
      progress = outcome === "done" || outcome === "failed";
      if (progress) break; // its children come into reach
    }
    if (!progress)
      await sleep(pause, undefined, options.signal ? { signal: options.signal } : {}).catch(() => undefined);
  }
}

/** Longest work behind first: what ends last should begin first. By replicate: everything of one before the next. */
function inTurn(missing: readonly PlannedSegment[], plan: StudyPlan): PlannedSegment[] {
  const behind = new Map<string, number>();
  for (const segment of missing.toReversed()) {
    const own = segment.to - segment.from + (behind.get(segment.id) ?? 0);
    behind.set(segment.id, own);
    if (segment.parent !== null) behind.set(segment.parent, Math.max(own, behind.get(segment.parent) ?? 0));
  }
  const replicate = plan.spec.execution.order === "replicate" ? firstReplicates(plan) : null;
  const place = ({ id }: PlannedSegment) => replicate?.get(id) ?? 0;
  return missing.toSorted((a, b) => place(a) - place(b) || behind.get(b.id)! - behind.get(a.id)!);
}

/** For each segment, which replicate (in the study's order) wants it first. */
function firstReplicates({ runs }: StudyPlan): Map<string, number> {
  const order = [...new Set(runs.map((run) => JSON.stringify(run.replicate)))];
  const first = new Map<string, number>();
  for (const run of runs) {
    const place = order.indexOf(JSON.stringify(run.replicate));
    for (const id of run.path) first.set(id, Math.min(place, first.get(id) ?? place));
  }
  return first;
}

/** Trains one segment from its parent's last checkpoint, or on from its own newest one. */
export async function makeSegment(
  segment: PlannedSegment,
  plan: StudyPlan,
  store: StudyStore,
  options: WorkOptions = {},
): Promise<SegmentOutcome> {
  const parent = plan.segments.find((s) => s.id === segment.parent) ?? null;
  if (isDone(segment, plan, store)) return "done";
  if (parent && !store.hasWeights(parent)) return store.hasFailed(parent.id) ? "failed" : "waiting";
  const lock = await lockOf(store.lockFile(segment.id), segment.label);
  if (lock === null) return "busy";
  try {
    // Another process may have finished it before the lock was free.
    if (isDone(segment, plan, store)) return "done";
    if (store.hasFailed(segment.id)) return "failed";
    const outcome = await train(segment, parent, plan, store, options);
    if (outcome !== "done" && outcome !== "failed") return outcome;
    if (outcome === "done") await store.recordMeasured(segment);
    if (plan.spec.execution.checkpoints === "needed") await dropUnneeded([segment, parent], plan, store);
    options.onDone?.(segment, outcome);
    return outcome;
  } finally {
    await lock.release();
  }
}

const isDone = (segment: PlannedSegment, plan: StudyPlan, store: StudyStore): boolean =>
  store.hasWeights(segment) || (store.isMeasured(segment) && !weightsNeeded(plan, store).has(segment.id));

/** A segment just trained may be the last that needed its parent's weights, and its own may be needed by none. */
async function dropUnneeded(
  segments: readonly (PlannedSegment | null)[],
  plan: StudyPlan,
  store: StudyStore,
): Promise<void> {
  const needed = weightsNeeded(plan, store);
  for (const segment of segments)
    if (segment && store.isMeasured(segment) && !needed.has(segment.id)) await store.dropWeights(segment.id);
}

async function lockOf(path: string, label: string): Promise<Lock | null> {
  try {
    return await acquireLock(path, { purpose: `train ${label}` });
  } catch (error) {
    if ((error as { code?: string }).code === "LOCKED") return null;
    throw error;
  }
}

async function train(
  segment: PlannedSegment,
  parent: PlannedSegment | null,
  plan: StudyPlan,
  store: StudyStore,
  { signal, reporter = silentReporter, threads, versions, onSegment }: WorkOptions,
): Promise<SegmentOutcome> {
  const runDir = store.segmentFolder(segment.id);
  await mkdir(runDir, { recursive: true });
  onSegment?.(segment);
  try {
    const result = await runTraining({
      config: segmentConfig(segment, plan, threads),
      runDir,
      resume: "auto",
      forkFrom: parent ? store.checkpoint(parent) : undefined,
      until: segment.to,
      saveEnd: plan.spec.execution.checkpoints === "all" || weightsNeeded(plan, store).has(segment.id),
      measurePeak: false,
      versions,
      signal,
      reporter,
    });
    if (result.stoppedBy === "data") throw dataEnded(segment, result.step);
    return result.stoppedBy === "end" ? "done" : "stopped";
  } catch (error) {
    if ((error as { code?: string }).code !== "NOT_FINITE") throw error;
    await store.recordFailure(segment.id, { code: "NOT_FINITE", message: (error as Error).message });
    return "failed";
  }
}

const dataEnded = ({ label, to }: PlannedSegment, step: number): ThalwegError =>
  new ThalwegError(
    "BAD_INPUT",
    `${label}: the data ended at step ${step} of ${to}. Prepare more text, or say data.onEnd: repeat.`,
  );

/**
 * Every segment is evaluated at its end, and saves often enough that a kill costs little; neither changes its bits.
 * Decays inside a segment need no checkpoints of their own: where another run may branch off, a segment ends.
 */
function segmentConfig({ config }: PlannedSegment, plan: StudyPlan, threads: number | undefined): RunConfig {
  const longest = Math.max(...plan.segments.map((s) => s.to));
  const { checkpoints, evaluation } = config;
  const every = checkpoints.every > 0 ? checkpoints.every : Math.max(100, Math.ceil(longest / 40));
  return {
    ...config,
    threads: threads ?? config.threads,
    evaluation: { ...evaluation, atDecays: true },
    checkpoints: { ...checkpoints, every, keep: 1, atDecays: false, finalOnly: false },
  };
}
