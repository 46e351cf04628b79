import { ThalwegError } from "../base/errors.ts";
import type { ScheduleSpecInput } from "../config/schedule_schema.ts";
import { buildSchedule } from "../schedule/schedule.ts";

type Decay = NonNullable<NonNullable<NonNullable<ScheduleSpecInput["wsd"]>["decay"]>>;

/** How checkpoints are weighed: all the same, as listed, by an exponential average, or so as to emulate a decay. */
export type Weighing =
  | { kind: "uniform" }
  | { kind: "list"; weights: readonly number[] }
  | { kind: "ema"; decay: number }
  | { kind: "decay"; shape: NonNullable<Decay["shape"]>; floor: number };

/**
 * Weights c_j of checkpoints in the order of their steps, which sum to 1. @throws BAD_OPTION when they cannot.
 *
 * Emulating a decay (WSM, arXiv 2507.17634): sum_j c_j theta_j is theta_0 plus each later update times w = the sum of the c_j
 * from its checkpoint on. With w the mean of the decay's ratio over the updates between two checkpoints, merging constant-rate
 * checkpoints weighs each update as the decay would have: c_j = w_j - w_(j+1). Only the path of the weights differs: the
 * gradients are those of the constant rate.
 */
export function mergeWeights(weighing: Weighing, steps: readonly number[]): number[] {
  const count = steps.length;
  if (weighing.kind === "uniform") return steps.map(() => 1 / count);
  if (weighing.kind === "list") return normalised(weighing.weights, count);
  if (weighing.kind === "ema") {
    const { decay } = weighing;
    if (!(decay >= 0 && decay < 1))
      throw new ThalwegError("BAD_OPTION", `an average's decay is ${decay}; expected from 0 up to 1.`);
    return steps.map((_, j) => (j === 0 ? 1 : 1 - decay) * decay ** (count - 1 - j));
  }
  const [first, last] = [steps[0]!, steps.at(-1)!];
  const length = last - first;
  if (length < 1)
    throw new ThalwegError("BAD_OPTION", "a decay is emulated over at least two checkpoints of different steps.");
  const { shape, floor } = weighing;
  const decay = {
    shape,
    floor,
    steps: length,
    ...(shape === "half_life" ? { halfLife: Math.max(1, Math.round(length / 4)) } : {}),
  };
  const curve = buildSchedule({ peak: 1, wsd: { steps: length, decay } });
  const shares = steps.slice(1).map((step, i) => {
    const from = steps[i]! - first;
    let sum = 0;
    for (let t = from; t < step - first; t++) sum += curve.valueAt(t);
    return sum / (step - first - from);
  });
  return [1, ...shares].map((share, j) => share - (shares[j] ?? 0));
}

function normalised(weights: readonly number[], count: number): number[] {
  const sum = weights.reduce((a, b) => a + b, 0);
  if (weights.length !== count)
    throw new ThalwegError("BAD_OPTION", `${weights.length} weights for ${count} checkpoints; expected one for each.`);
  if (!(sum > 0) || !Number.isFinite(sum))
    throw new ThalwegError("BAD_OPTION", `the weights sum to ${sum}; expected more than 0.`);
  return weights.map((w) => w / sum);
}
