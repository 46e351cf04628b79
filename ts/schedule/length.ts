import { ConfigError, type ConfigPath, formatPath } from "../config/errors.ts";
import type { LengthScheduleSpec } from "../config/schedule_schema.ts";
import { type BatchPlan, stageStart } from "./batch.ts";

/** Tokens of a sequence at each step. Tokens of a step and their order do not change with it. */
export interface LengthPlan {
  /** In order; the first begins at step 0. */
  readonly stages: readonly { readonly start: number; readonly length: number }[];
  /** Tokens of a sequence in the update after `step` finished ones. */
  lengthAt(step: number): number;
}

/** The lengths of a run's sequences. Throws ConfigError when stages do not follow one another, or do not divide batch.length. */
export function planLength(
  batch: BatchPlan,
  spec?: LengthScheduleSpec,
  totalSteps: number | null = null,
  path: ConfigPath = ["schedule", "length"],
): LengthPlan {
  const stages = [{ start: 0, length: batch.length }];
  for (const [i, { at, length }] of (spec?.stages ?? []).entries()) {
    const own = [...path, "stages", i];
    if (batch.length % length !== 0)
      throw new ConfigError(
        [...own, "length"],
        `${formatPath([...own, "length"])} is ${length}; expected a divisor of batch.length (${batch.length}), whose sequences are cut.`,
      );
    if (at === 0 && i === 0) stages.pop();
    const start = at === 0 ? 0 : stageStart(at, batch, totalSteps, [...own, "at"]);
    const before = stages.at(-1)?.start ?? -1;
    if (start <= before)
      throw new ConfigError(
        [...own, "at"],
        `${formatPath([...own, "at"])} is ${at}, which is step ${start}; expected a step after ${before}.`,
      );
    stages.push({ start, length });
  }
  return { stages, lengthAt: (step) => stages.findLast((s) => s.start <= step)!.length };
}
