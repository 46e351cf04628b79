import { existsSync, readFileSync } from "node:fs";
import { mkdir, readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { ThalwegError } from "../base/errors.ts";
import { writeFileAtomic } from "../base/files.ts";
import { checkpointName } from "../train/checkpoint_state.ts";
import { readMetrics } from "../train/metrics.ts";
import type { MetricsRecord } from "../train/records.ts";
import { METRICS_FILE } from "../train/run_folder.ts";
import { mergesOf } from "./merge_plan.ts";
import { PLAN_VERSION, type PlannedSegment, type StudyPlan } from "./plan.ts";

const PLAN_FILE = "plan.json";
const FAILED_FILE = "failed.json";
const MEASURED_FILE = "measured.json";

/** Why a segment cannot be finished: its loss diverged, which another attempt would repeat bit for bit. */
export interface Failure {
  readonly code: string;
  readonly message: string;
}

/** The folder of a study: plan.json, segments/ID (each a run directory), merged/ID, locks/. */
export class StudyStore {
  readonly folder: string;

  constructor(folder: string) {
    this.folder = folder;
  }

  async savePlan(plan: StudyPlan): Promise<void> {
    await mkdir(join(this.folder, "segments"), { recursive: true });
    await mkdir(join(this.folder, "locks"), { recursive: true });
    await writeFileAtomic(join(this.folder, PLAN_FILE), `${JSON.stringify(plan)}\n`);
  }

  /** @throws BAD_INPUT when the folder holds no study. */
  async plan(): Promise<StudyPlan> {
    const file = join(this.folder, PLAN_FILE);
    const text = await readFile(file, "utf8").catch((cause: NodeJS.ErrnoException) => {
      if (cause.code !== "ENOENT" && cause.code !== "ENOTDIR") throw cause;
      const found =
        cause.code === "ENOENT" ? `holds no study: ${file} does not exist` : "is a file, not a study's folder";
      throw new ThalwegError(
        "BAD_INPUT",
        `${this.folder} ${found}. Name a folder that \`thalweg study run\` wrote (studies/NAME unless --out said otherwise).`,
      );
    });
    const plan = parsePlan(text, file);
    if (plan.version === PLAN_VERSION) return plan;
    throw new ThalwegError("BAD_INPUT", `${file} is of version ${plan.version}, expected ${PLAN_VERSION}.`);
  }

  segmentFolder(id: string): string {
    return join(this.folder, "segments", id);
  }

  /** Where a mean of checkpoints lies: a folder that reads as a run's. */
  mergedFolder(id: string): string {
    return join(this.folder, "merged", id);
  }

  /** Where the validation loss of merged weights stands, once they were made. */
  lossFile(id: string): string {
    return join(this.mergedFolder(id), "loss.json");
  }

  lockFile(id: string): string {
    return join(this.folder, "locks", `${id}.lock`);
  }

  /** The checkpoint at a segment's end: weights, optimizer and data position. */
  checkpoint({ id, to }: Pick<PlannedSegment, "id" | "to">): string {
    return join(this.segmentFolder(id), "checkpoints", checkpointName(to));
  }

  /** Whether the weights at a segment's end are there: checkpoints appear whole or not at all. */
  hasWeights(segment: Pick<PlannedSegment, "id" | "to">): boolean {
    return existsSync(this.checkpoint(segment));
  }

  /** Whether a segment was trained to its end and its metrics are whole, whether or not its weights are still there. */
  isMeasured({ id, to }: Pick<PlannedSegment, "id" | "to">): boolean {
    const file = join(this.segmentFolder(id), MEASURED_FILE);
    return existsSync(file) && (JSON.parse(readFileSync(file, "utf8")) as { to: number }).to === to;
  }

  async recordMeasured({ id, to }: Pick<PlannedSegment, "id" | "to">): Promise<void> {
    await writeFileAtomic(join(this.segmentFolder(id), MEASURED_FILE), `${JSON.stringify({ to })}\n`);
  }

  /** Weights that nothing goes on from any more; the segment stays measured. */
  async dropWeights(id: string): Promise<void> {
    await rm(join(this.segmentFolder(id), "checkpoints"), { recursive: true, force: true });
  }

  hasFailed(id: string): boolean {
    return existsSync(join(this.segmentFolder(id), FAILED_FILE));
  }

  async failure(id: string): Promise<Failure | null> {
    const text = await readFile(join(this.segmentFolder(id), FAILED_FILE), "utf8").catch(() => null);
    return text === null ? null : (JSON.parse(text) as Failure);
  }

  async recordFailure(id: string, failure: Failure): Promise<void> {
    await writeFileAtomic(join(this.segmentFolder(id), FAILED_FILE), `${JSON.stringify(failure)}\n`);
  }

  /** Records of a segment so far; none before it begins. */
  async records(id: string): Promise<MetricsRecord[]> {
    const file = join(this.segmentFolder(id), METRICS_FILE);
    return existsSync(file) ? readMetrics(file) : [];
  }
}

export type SegmentStanding = "done" | "failed" | "blocked" | "missing";

/** How every segment stands; `blocked`: one that it goes on from has failed. */
export async function standings(plan: StudyPlan, store: StudyStore): Promise<Map<string, SegmentStanding>> {
  const needed = weightsNeeded(plan, store);
  const all = new Map<string, SegmentStanding>();
  for (const segment of plan.segments) {
    const parent = segment.parent === null ? "done" : all.get(segment.parent)!;
    if (store.hasWeights(segment)) all.set(segment.id, "done");
    else if (await store.failure(segment.id)) all.set(segment.id, "failed");
    else if (store.isMeasured(segment) && !needed.has(segment.id)) all.set(segment.id, "done");
    else all.set(segment.id, parent === "failed" || parent === "blocked" ? "blocked" : "missing");
  }
  return all;
}

/**
 * Segments whose weights something still waits for: a child that is not trained, or a mean that is not made. A measured
 * segment whose weights are gone is trained again when it is one of these, to the same bits.
 */
export function weightsNeeded(plan: StudyPlan, store: StudyStore): Set<string> {
  const needed = new Set(mergesOf(plan).flatMap(({ id, sources }) => (existsSync(store.lossFile(id)) ? [] : sources)));
  for (const segment of plan.segments.toReversed()) {
    if (segment.parent === null || store.hasWeights(segment) || store.hasFailed(segment.id)) continue;
    if (needed.has(segment.id) || !store.isMeasured(segment)) needed.add(segment.parent);
  }
  return needed;
}

function parsePlan(text: string, file: string): StudyPlan {
  try {
    return JSON.parse(text) as StudyPlan;
  } catch (cause) {
    throw new ThalwegError("CORRUPT_DATA", `${file} is not JSON: run the study again, which writes it anew.`, {
      cause,
    });
  }
}
