import { type LoadedConfig, located } from "../config/load.ts";
import { buildScalars } from "./scalars.ts";
import type { Schedule } from "./schedule.ts";

/** The schedule of a run and how long it runs. */
export interface RunPlan {
  readonly schedule: Schedule;
  /** Number of updates; null for an open run. */
  readonly steps: number | null;
}

/**
 * Builds the scalars of a loaded config, of which the learning rate says how long it runs. FLOPs of a step are needed for durations in FLOPs only: the model is
 * not known on this floor. Throws ConfigError with the file and line of the culprit.
 */
export function planRun(
  loaded: Pick<LoadedConfig, "config" | "file" | "locate">,
  { flopsPerStep = null }: { flopsPerStep?: number | null } = {},
): RunPlan {
  const { config } = loaded;
  return located(loaded, () => {
    const { lr, end } = buildScalars(config, flopsPerStep);
    return { schedule: lr, steps: end };
  });
}
