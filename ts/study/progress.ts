import { existsSync } from "node:fs";
import { open } from "node:fs/promises";
import { join } from "node:path";
import type { MetricsRecord } from "../train/records.ts";
import { METRICS_FILE } from "../train/run_folder.ts";
import type { PlannedSegment, StudyPlan } from "./plan.ts";
import { type SegmentStanding, type StudyStore, standings } from "./store.ts";

/** How one segment stands at this moment. */
export interface SegmentProgress {
  readonly segment: PlannedSegment;
  readonly standing: SegmentStanding | "running";
  /** Finished updates, counted from the run's beginning. */
  readonly step: number;
  /** The newest training or validation loss; null before the first. */
  readonly loss: number | null;
  readonly tokensPerSecond: number | null;
}

export interface StudyProgress {
  readonly segments: readonly SegmentProgress[];
  readonly stepsDone: number;
  readonly stepsTotal: number;
  /** All segments that can be finished are. */
  readonly finished: boolean;
  readonly failed: number;
}

/** Looks at a study's folder; cheap enough to be called every second. */
export async function studyProgress(plan: StudyPlan, store: StudyStore): Promise<StudyProgress> {
  const all = await standings(plan, store);
  const segments = await Promise.all(plan.segments.map((segment) => look(segment, all.get(segment.id)!, store)));
  const stepsDone = segments.reduce((sum, { segment, step }) => sum + step - segment.from, 0);
  const stepsTotal = plan.segments.reduce((sum, s) => sum + s.to - s.from, 0);
  return {
    segments,
    stepsDone,
    stepsTotal,
    finished: segments.every(({ standing }) => standing !== "missing" && standing !== "running"),
    failed: segments.filter(({ standing }) => standing === "failed").length,
  };
}

async function look(segment: PlannedSegment, standing: SegmentStanding, store: StudyStore): Promise<SegmentProgress> {
  const last = await lastRecord(join(store.segmentFolder(segment.id), METRICS_FILE));
  const loss = last && "loss" in last ? last.loss : null;
  const tokensPerSecond = last?.type === "step" ? last.tokensPerSecond : null;
  const seen = last && last.type !== "header" ? Math.min(segment.to, Math.max(segment.from, last.step)) : segment.from;
  const held = standing === "missing" && existsSync(store.lockFile(segment.id));
  return {
    segment,
    standing: held ? "running" : standing,
    step: standing === "done" ? segment.to : seen,
    loss,
    tokensPerSecond,
  };
}

/** Bytes from the end of a metrics file in which its last whole line is looked for. */
const tail = 4096;

/** The last step or evaluation of a metrics file that may be growing; null when there is none. */
async function lastRecord(path: string): Promise<MetricsRecord | null> {
  const file = await open(path, "r").catch(() => null);
  if (file === null) return null;
  try {
    const { size } = await file.stat();
    const buffer = Buffer.alloc(Math.min(size, tail));
    await file.read(buffer, 0, buffer.length, size - buffer.length);
    for (const line of buffer.toString("utf8").split("\n").slice(0, -1).reverse()) {
      try {
        const record = JSON.parse(line) as MetricsRecord;
        if (record.type === "step" || record.type === "evaluation") return record;
      } catch {
        // the first line of the piece may have lost its beginning
      }
    }
    return null;
  } finally {
    await file.close();
  }
}
