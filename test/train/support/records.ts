import type { EvaluationRecord, HeaderRecord, StepRecord } from "../../../ts/train/records.ts";

export const fakeHeader = (): HeaderRecord => ({
  type: "header",
  version: 1,
  run: "test",
  startedAt: 0,
  parameters: 100,
  flopsPerToken: 600,
  deviceClass: "test",
});

export const fakeStep = (replace: Partial<StepRecord> = {}): StepRecord => ({
  type: "step",
  step: 1,
  tokens: 64,
  loss: 3,
  lr: 0.01,
  gradNorm: 1,
  tokensPerSecond: 1000,
  share: null,
  phase: "stable",
  epoch: 0,
  ...replace,
});

export const fakeEvaluation = (replace: Partial<EvaluationRecord> = {}): EvaluationRecord => ({
  type: "evaluation",
  step: 1,
  tokens: 64,
  loss: 3,
  evaluatedTokens: 1024,
  occasion: "periodic",
  budget: null,
  lr: 0.01,
  ...replace,
});
