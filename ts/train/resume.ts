import { ThalwegError } from "../base/errors.ts";
import { canonicalJson } from "../config/canonical.ts";
import type { RunConfig } from "../config/schema.ts";
import type { LlamaConfig } from "../model/llama.ts";
import { type Comparison, realisedEqual } from "../schedule/compare.ts";
import { scalarsIdentity } from "../schedule/scalars.ts";
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

/** A configuration with its model worked out: presets and stated fields mean the same when they give the same model. */
export interface ResolvedConfig {
  config: RunConfig;
  model: LlamaConfig;
}

/** Parts of a configuration that change the bits of a run. Threads, recompute, logging and such do not. */
export function decisive({ config, model }: ResolvedConfig): Record<string, unknown> {
  const { precision, gradientSums, batch, optimizer, seed, data, memory } = config;
  const { maxLength: _, ...network } = model;
  return {
    ...Object.fromEntries(Object.entries(network).map(([field, value]) => [`model.${field}`, value])),
    precision,
    "batch.length": batch.length,
    "batch.sequences": batch.sequences,
    "memory.headChunk": memory.headChunk,
    ...Object.fromEntries(Object.entries(optimizer).map(([field, value]) => [`optimizer.${field}`, value])),
    ...scalarsIdentity(config),
    seed,
    "data.seed": data.seed,
    "data.onEnd": data.onEnd,
    // Only when it is said, so that what was trained before there was a choice keeps its identity.
    ...(data.attention === "documents" ? { "data.attention": data.attention } : {}),
    ...(gradientSums === "any" ? { gradientSums } : {}),
    ...(data.weights ? { "data.weights": data.weights, "data.changes": data.changes } : {}),
  };
}

/** The configuration asked for now, with everything that decides bits as the checkpoint has it: policy `keep`. */
export function keepDecisive(asked: RunConfig, saved: RunConfig): RunConfig {
  const { precision, model, optimizer, seed, schedule, steps, batch, data, memory } = saved;
  return {
    ...asked,
    precision,
    gradientSums: saved.gradientSums ?? "ordered", // this and data.attention: not said by checkpoints from before there was a choice
    model,
    optimizer,
    seed,
    schedule,
    steps,
    batch,
    data: {
      ...asked.data,
      seed: data.seed,
      onEnd: data.onEnd,
      weights: data.weights,
      changes: data.changes,
      attention: data.attention ?? "sequence",
    },
    memory: { ...asked.memory, headChunk: memory.headChunk },
  };
}

/** Networks that hold the same tensors: what a fork needs. Returns the fields that differ. */
export function shapeDifferences(saved: LlamaConfig, asked: LlamaConfig): Drift[] {
  const fields = ["vocab", "dim", "layers", "heads", "kvHeads", "headDim", "ffn", "tied", "qkNorm"] as const;
  return fields
    .filter((field) => saved[field] !== asked[field])
    .map((field) => ({ field: `model.${field}`, saved: String(saved[field]), asked: String(asked[field]) }));
}

const brief = (value: unknown): string => {
  if (value === undefined) return "nothing";
  const text = typeof value === "string" ? value : canonicalJson(value);
  return text.length > 100 ? `${text.slice(0, 97)}...` : text;
};

/** What a resumed run is asked to be. */
export interface AskedRun extends ResolvedConfig {
  schedule: Schedule;
  /** Last step; null for an open run. */
  end: number | null;
  dataHash: string;
}

/** Everything that differs between a checkpoint and the run asked for now, and decides bits. */
export function findDrift(state: CheckpointState, asked: AskedRun): Drift[] {
  const before = decisive(state);
  const now = decisive(asked);
  const same = (a: unknown, b: unknown) => canonicalJson([a ?? null]) === canonicalJson([b ?? null]);
  const drift = Object.keys({ ...before, ...now })
    .filter((field) => !same(before[field], now[field]))
    .map((field) => ({ field, saved: brief(before[field]), asked: brief(now[field]) }));
  if (state.data.hash !== asked.dataHash)
    drift.push({ field: "data", saved: state.data.hash.slice(0, 12), asked: asked.dataHash.slice(0, 12) });
  const compared = compareSchedule(state, asked.schedule);
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
  const hints: Partial<Record<DriftPolicy, string>> = {
    extend: "extend only makes a run longer: everything up to the checkpoint must stay as it was.",
    keep: "keep cannot bring other data back: name the data the run was trained on, or say replace.",
    replace: "The weights do not fit another network: start a new run.",
  };
  const hint =
    hints[policy] ??
    "Say --on-drift keep (the checkpoint's configuration), replace (the new one, noted in the lineage) or extend (only a longer end), or start a new run with --fork-from.";
  return new ThalwegError(
    "BAD_CONFIG",
    `${path}: this run differs from its checkpoint in what decides its bits:\n${lines.join("\n")}\n${hint}`,
  );
}

/** How a run goes on, and how its lineage says so. */
export interface Continuation {
  /** The configuration to train under: the asked one, or with what decides bits as the checkpoint has it. */
  config: RunConfig;
  reason: LineageEntry["reason"];
  changed: string[];
}

/**
 * Decides how a run goes on from a checkpoint.
 * @throws BAD_CONFIG listing every difference when the policy does not allow it.
 */
export function resolveDrift(
  checkpoint: { path: string; state: CheckpointState },
  asked: AskedRun & { savedEnd: number | null },
  policy: DriftPolicy,
): Continuation {
  const { state, path } = checkpoint;
  const drift = findDrift(state, asked);
  const changed = drift.map((d) => d.field);
  if (policy === "keep") {
    // Another data set cannot be kept away: its tokens are what will be read.
    const data = drift.filter((d) => d.field === "data");
    if (data.length > 0) throw refusal(path, data, policy);
    return { config: keepDecisive(asked.config, state.config), reason: "resume", changed: [] };
  }
  const { config } = asked;
  if (policy === "replace") {
    const shapes = shapeDifferences(state.model, asked.model);
    if (shapes.length > 0) throw refusal(path, shapes, policy);
    return { config, reason: drift.length > 0 ? "replace" : "resume", changed };
  }
  if (drift.length > 0) throw refusal(path, drift, policy);
  const longer = asked.savedEnd !== null && (asked.end === null || asked.end > asked.savedEnd);
  if (policy === "extend" && !longer)
    throw new ThalwegError(
      "BAD_CONFIG",
      `${path}: extend was asked for, but the run ends at step ${asked.end} and ended at ${asked.savedEnd} before. Raise steps or the schedule's end.`,
    );
  const same = state.schedule.hash === asked.schedule.hash && asked.end === asked.savedEnd;
  return { config, reason: same ? "resume" : "extend", changed };
}
