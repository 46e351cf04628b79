import { buildSchedule } from "../../../ts/schedule/schedule.ts";
import type { CheckpointState } from "../../../ts/train/checkpoint_state.ts";

/** A small WSD-S schedule: decays at 18..20 and 38..44 (budgets 20 and 40, 10% and more by explicit steps). */
export const smallSchedule = () =>
  buildSchedule(
    { peak: 0.01, warmup: 4, wsd_s: { budgets: [20, 40], decay: { steps: [2, 4], shape: "inverse" } } },
    { tokensPerStep: 64 },
  );

/** A state as a run would write it, with the given fields replaced. */
export function fakeState(replace: Partial<CheckpointState> = {}): CheckpointState {
  const schedule = smallSchedule();
  return {
    version: 1,
    step: 10,
    tokens: 640,
    occasion: "periodic",
    phase: "stable",
    budget: null,
    data: { position: { block: 10, offset: 0 }, hash: "a".repeat(64), seed: 1, epoch: 0 },
    seed: 1,
    schedule: { canonical: schedule.canonical, hash: schedule.hash },
    config: {},
    configHash: "b".repeat(64),
    lineage: [
      { fromStep: 0, reason: "start", parent: null, scheduleHash: schedule.hash, schedule: schedule.canonical },
    ],
    deviceClass: "test",
    numericsVersion: 1,
    ...replace,
  };
}
