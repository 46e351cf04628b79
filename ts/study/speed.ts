import { benchTrain } from "../train/benchmark.ts";
import type { Shape, StudyPlan } from "./plan.ts";
import { type StudyStore, standings } from "./store.ts";

/** FLOPs of one micro-batch above which measuring takes longer than anybody waits for a plan. */
const mostFlops = 2e12;

/** Tokens per second of one process on one shape: as its finished segments had, or a short benchmark; null: not known. */
export async function measureSpeeds(
  plan: StudyPlan,
  store: StudyStore | null,
  options: { threads: number; measure: boolean },
): Promise<(number | null)[]> {
  const seen = store ? await speedsOf(plan, store) : [];
  const speeds: (number | null)[] = [];
  for (const [i, shape] of plan.shapes.entries())
    speeds.push(seen[i] ?? (options.measure ? await benchmark(shape, options.threads) : null));
  return speeds;
}

async function benchmark(shape: Shape, threads: number): Promise<number | null> {
  const { model, batch, precision } = shape;
  const microBatch = Number(batch.microBatch);
  if (microBatch * batch.length * shape.flopsPerToken > mostFlops) return null;
  const sequences = shape.tokensPerStep * shape.flopsPerToken > mostFlops ? microBatch : batch.sequences;
  const { length } = batch;
  const { tokensPerSecond } = await benchTrain({ model, precision, batch: sequences, length, microBatch, threads });
  return tokensPerSecond;
}

/** Median over the last records of finished segments, by shape. */
async function speedsOf(plan: StudyPlan, store: StudyStore): Promise<(number | undefined)[]> {
  const all = await standings(plan, store);
  const speeds: (number | undefined)[] = [];
  for (const shape of plan.shapes.keys()) {
    const done = plan.segments.findLast((s) => s.shape === shape && all.get(s.id) === "done");
    const steps = done ? (await store.records(done.id)).filter((r) => r.type === "step") : [];
    const sorted = steps.map((r) => r.tokensPerSecond).sort((a, b) => a - b);
    speeds.push(sorted[sorted.length >> 1]);
  }
  return speeds;
}

/** Seconds that `jobs` processes need for what is missing; null when a speed is not known. */
export function secondsLeft(
  plan: StudyPlan,
  speeds: readonly (number | null)[],
  stepsLeft: (segmentId: string) => number,
  jobs: number,
): number | null {
  let seconds = 0;
  for (const { id, shape } of plan.segments) {
    const steps = stepsLeft(id);
    if (steps === 0) continue;
    const speed = speeds[shape];
    if (!speed) return null;
    seconds += (steps * plan.shapes[shape]!.tokensPerStep) / speed;
  }
  return seconds / Math.min(jobs, Math.max(1, plan.segments.length));
}
