import type { RunConfig } from "../config/schema.ts";
import type { MixtureStage } from "../data/mixture.ts";
import type { Schedule } from "../schedule/schedule.ts";

type Weights = Readonly<Record<string, number>>;

/**
 * The stages of a run's mixture, in blocks: `data.weights`, then each change from its step on; `at: decay` holds in each
 * decay and gives way to what held outside it. Null without a mixture. `blocksBy` counts the sequences of the first steps,
 * where they are not all of one size.
 */
export function mixtureStages(
  { data, batch }: Pick<RunConfig, "data" | "batch">,
  schedule: Pick<Schedule, "budgets">,
  blocksBy: (step: number) => number = (step) => step * batch.sequences,
): MixtureStage[] | null {
  if (!data.weights) return null;
  const outside: [number, Weights][] = [[0, data.weights]];
  let inDecay: Weights | null = null;
  for (const { at, weights } of data.changes) {
    if (at === "decay") inDecay = weights;
    else outside.push([at, weights]);
  }
  outside.sort((a, b) => a[0] - b[0]);
  const decays = schedule.budgets.map(({ decayStart, end }) => [decayStart, end] as const);
  const weightsAt = (step: number): Weights => {
    const decaying = inDecay !== null && decays.some(([start, end]) => step >= start && step < end);
    return decaying ? inDecay! : outside.findLast(([from]) => from <= step)![1];
  };
  const steps = new Set([...outside.map(([from]) => from), ...(inDecay === null ? [] : decays.flat())]);
  const stages: MixtureStage[] = [];
  for (const step of [...steps].sort((a, b) => a - b)) {
    const weights = weightsAt(step);
    if (weights !== stages.at(-1)?.weights) stages.push({ from: blocksBy(step), weights });
  }
  return stages;
}
