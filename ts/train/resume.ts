import { ThalwegError } from "../base/errors.ts";
import { canonicalJson } from "../config/canonical.ts";
import type { RunConfig } from "../config/schema.ts";
import { type Comparison, realisedEqual } from "../schedule/compare.ts";
import type { Schedule } from "../schedule/schedule.ts";
import { type Segment, segmentValue } from "../schedule/segment.ts";
import type { CheckpointState, LineageEntry } from "./checkpoint_state.ts";

/**
 * What to do when the configuration of a resumed run differs from that of its checkpoint in something that changes bits:
 * refuse (say what differs), keep (go on under the checkpoint's configuration), replace (go on under the new one, noted
 * in the lineage), extend (the new plan must agree with all that happened and only end later).
 */
export type DriftPolicy = "refuse" | "keep" | "replace" | "extend";

/** One difference that matters: a path in the configuration, what the checkpoint says, what is asked for now. */
export interface Drift {
  field: string;
  saved: string;
  asked: string;
}

/** The values a run used, whatever was said later: the last lineage entry at or before a step decides. */
export function realisedValueAt(lineage: readonly LineageEntry[]): (step: number) => number {
  const stretches = lineage.map(({ fromStep, schedule }) => ({
    fromStep,
    segments: (JSON.parse(schedule) as { segments: Segment[] }).segments,
  }));
  return (step) => {
    const stretch = stretches.findLast((s) => s.fromStep <= step) ?? stretches[0]!;
    return segmentValue(stretch.segments.findLast((s) => s.start <= step) ?? stretch.segments[0]!, step);
  };
}

/**
 * The last stretch of the lineage, then the values it began with: a schedule that was replaced once does not have to be
 * replaced again at each resume, so a plan equal to the last one said is the same plan.
 */
export function compareSchedule(state: CheckpointState, schedule: Schedule): Comparison {
  if (state.lineage.at(-1)?.scheduleHash === schedule.hash) return { equal: true };
  return realisedEqual({ valueAt: realisedValueAt(state.lineage) }, schedule, state.step);
}

/** Parts of a configuration that change the bits of a run. Threads, micro-batch, recompute, logging and such do not. */
function decisive(config: RunConfig): Record<string, unknown> {
  const { model, precision, batch, optimizer, seed, data } = config;
  return {
    model,
    precision,
    "batch.length": batch.length,
    "batch.sequences": batch.sequences,
    optimizer,
    seed,
    "data.seed": data.seed,
  };
}

const brief = (value: unknown): string => {
  const text = typeof value === "string" ? value : canonicalJson(value);
  return text.length > 100 ? `${text.slice(0, 97)}...` : text;
};

/** Everything that differs between a checkpoint and the run asked for now. */
export function findDrift(state: CheckpointState, config: RunConfig, schedule: Schedule, dataHash: string): Drift[] {
  const saved = decisive(state.config as unknown as RunConfig);
  const asked = decisive(config);
  const drift = Object.keys(asked)
    .filter((field) => canonicalJson(saved[field]) !== canonicalJson(asked[field]))
    .map((field) => ({ field, saved: brief(saved[field]), asked: brief(asked[field]) }));
  if (state.data.hash !== dataHash)
    drift.push({ field: "data", saved: state.data.hash.slice(0, 12), asked: dataHash.slice(0, 12) });
  const compared = compareSchedule(state, schedule);
  if (!compared.equal)
    drift.push({
      field: "schedule.lr",
      saved: `${compared.a} at step ${compared.step}`,
      asked: `${compared.b} at step ${compared.step}`,
    });
  return drift;
}

/** What `refuse` says. */
function refusal(path: string, drift: readonly Drift[], policy: DriftPolicy): ThalwegError {
  const lines = drift.map((d) => `  ${d.field}: the checkpoint has ${d.saved}, the configuration ${d.asked}`);
  const hint =
    policy === "extend"
      ? "extend only makes a run longer: everything up to the checkpoint must stay as it was."
      : "Say --on-drift keep (the checkpoint's configuration), replace (the new one, noted in the lineage) or extend (only a longer end), or start a new run with --fork-from.";
  return new ThalwegError(
    "BAD_CONFIG",
    `${path}: this run differs from its checkpoint in what decides its bits:\n${lines.join("\n")}\n${hint}`,
  );
}

/**
 * Decides how a run goes on from a checkpoint.
 * @returns "saved" when the checkpoint's own configuration must be used, else "asked", with the reason for the lineage.
 * @throws BAD_CONFIG listing every difference when the policy does not allow it.
 */
export function resolveDrift(
  checkpoint: { path: string; state: CheckpointState },
  asked: { config: RunConfig; schedule: Schedule; dataHash: string; steps: number | null; savedSteps: number | null },
  policy: DriftPolicy,
): { use: "saved" | "asked"; reason: LineageEntry["reason"]; changed: string[] } {
  const { state, path } = checkpoint;
  const drift = findDrift(state, asked.config, asked.schedule, asked.dataHash);
  const changed = drift.map((d) => d.field);
  if (policy === "keep") {
    // Another data set cannot be kept away: its tokens are what will be read.
    const data = drift.filter((d) => d.field === "data");
    if (data.length > 0) throw refusal(path, data, policy);
    return { use: "saved", reason: "resume", changed: [] };
  }
  if (policy === "replace") return { use: "asked", reason: drift.length > 0 ? "replace" : "resume", changed };
  if (drift.length > 0) throw refusal(path, drift, policy);
  const longer = asked.steps === null || (asked.savedSteps !== null && asked.steps > asked.savedSteps);
  if (policy === "extend" && !longer)
    throw new ThalwegError(
      "BAD_CONFIG",
      `${path}: extend was asked for, but the run ends at step ${asked.steps} as before (${asked.savedSteps}). Raise steps or the schedule's end.`,
    );
  const same = state.schedule.hash === asked.schedule.hash && asked.steps === asked.savedSteps;
  return { use: "asked", reason: same ? "resume" : "extend", changed };
}
