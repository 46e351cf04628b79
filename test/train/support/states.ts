import { type RunConfig, type RunConfigInput, resolveRun, runSchema } from "../../../ts/config/schema.ts";
import { buildSchedule } from "../../../ts/schedule/schedule.ts";
import type { CheckpointState } from "../../../ts/train/checkpoint_state.ts";
import { resolveModel } from "../../../ts/train/model_config.ts";

/** WSD-S over budgets 20 and 40 with decays [18, 20) and [38, 42): every phase within 42 steps. */
const smallInput: RunConfigInput = {
  name: "small",
  precision: "fp32",
  model: { dim: 32, layers: 2, heads: 2, ffn: 64 },
  data: { train: "data" },
  batch: { length: 32, sequences: 4, microBatch: 2 },
  schedule: {
    lr: { peak: 0.01, warmup: 4, wsd_s: { budgets: [20, 40], decay: { steps: [2, 4], shape: "inverse" } } },
  },
  evaluation: { every: 10, sequences: 8 },
  checkpoints: { every: 5, keep: 2 },
  log: { every: 1 },
};

/** The small run with fields replaced, one level deep in each section. */
export function smallConfig(replace: Record<string, unknown> = {}): RunConfig {
  const merged: Record<string, unknown> = { ...smallInput };
  for (const [key, value] of Object.entries(replace)) {
    const old = merged[key];
    const both = typeof value === "object" && value !== null && typeof old === "object" && old !== null;
    merged[key] = both ? { ...old, ...value } : value;
  }
  return resolveRun(runSchema.parse(merged));
}

export const smallModel = () => resolveModel(smallConfig().model, { length: 32, vocab: 257 });

export const smallSchedule = () => buildSchedule(smallConfig().schedule.lr, { tokensPerStep: 128 });

/** A state as a run would write it, with the given fields replaced. */
export function fakeState(replace: Partial<CheckpointState> = {}): CheckpointState {
  const schedule = smallSchedule();
  return {
    version: 1,
    step: 10,
    tokens: 1280,
    occasion: "periodic",
    phase: "stable",
    budget: null,
    data: { position: 20, offset: 0, hash: "a".repeat(64), seed: 1 },
    seed: 1,
    schedule: { canonical: schedule.canonical, hash: schedule.hash },
    config: smallConfig(),
    model: smallModel(),
    microBatch: 2,
    configHash: "b".repeat(64),
    lineage: [
      { fromStep: 0, reason: "start", parent: null, scheduleHash: schedule.hash, schedule: schedule.canonical },
    ],
    deviceClass: "test",
    numericsVersion: 1,
    ...replace,
  };
}
