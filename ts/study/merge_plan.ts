import { canonicalHash } from "../config/canonical.ts";
import type { ConfigPath } from "../config/errors.ts";
import { configError } from "../config/issues.ts";
import type { RunConfig } from "../config/schema.ts";
import { type MergeSpec, mergeSchema } from "../config/study_schema.ts";
import { stepsOf } from "../schedule/units.ts";
import { mergeWeights, type Weighing } from "../train/merge_weights.ts";

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
  config: Pick<RunConfig, "evaluation" | "data">,
  path: readonly { readonly id: string; readonly to: number }[],
): PlannedMerge {
  const sources = steps.map((step) => path.find(({ to }) => to === step)!.id);
  const { sequences, skip } = config.evaluation;
  const { validation } = config.data;
  const id = canonicalHash({ sources, weighing, sequences, skip, validation }).slice(0, 16);
  return { id, sources, weighing };
}

/** Every merge of a study once. */
export function mergesOf(plan: {
  readonly runs: readonly { readonly deliverables: readonly { readonly merge?: PlannedMerge }[] }[];
}): PlannedMerge[] {
  const all = plan.runs.flatMap((run) => run.deliverables.flatMap(({ merge }) => (merge ? [merge] : [])));
  return [...new Map(all.map((merge) => [merge.id, merge])).values()];
}
