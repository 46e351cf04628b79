import type { RunConfig } from "../config/schema.ts";
import type { BuiltModule } from "../model/build.ts";
import type { AttentionScope } from "../model/layout.ts";
import type { LlamaConfig } from "../model/llama.ts";
import { type ParameterKind, parameterElements } from "../model/parameters.ts";
import { counts } from "../model/presets.ts";
import type { RunScalars } from "../schedule/scalars.ts";
import type { Phase } from "../schedule/schedule.ts";
import { planMilestones } from "./milestones.ts";
import { planWarnings } from "./plan.ts";
import type { Occasion, WarningRecord } from "./records.ts";

/** What the engine's pure query says of a Module: bytes it adds of its own (packed weights, kernel workspaces), its bits. */
export interface EngineMemory {
  packedBytes: number;
  workspaceBytes: number;
  repeatable: boolean;
}

/** Everything known about a run before a device is touched. Bytes, counts and FLOPs, no formatted text. */
export interface DryRun {
  name: string;
  model: LlamaConfig;
  parameters: { total: number; nonEmbedding: number; byKind: Record<ParameterKind, number> };
  memory: {
    total: number;
    parameters: number;
    gradients: number;
    optimizer: number;
    io: number;
    /** The arena of the largest Program, and what it holds at its fullest moment. */
    scratch: number;
    scratchByPurpose: Partial<Record<string, number>>;
    packedWeights: number;
    workspace: number;
    /** Weights and moments once more while a checkpoint is being written. */
    checkpointCopy: number;
  };
  /** Of whole sequences: inside documents an upper bound, as is `flops`. */
  flopsPerToken: number;
  /** FLOPs of the whole run; null for an open one. */
  flops: number | null;
  attention: AttentionScope;
  length: number;
  sequences: number;
  microBatch: number;
  /** Of the first steps, where the batch changes. */
  tokensPerStep: number;
  steps: number | null;
  tokens: number | null;
  /** Tokens of one pass over the training data; null when the data is not known. */
  epochTokens: number | null;
  epochs: number | null;
  /** The same plan gives the same bits; false where the device makes use of `gradientSums: any`. */
  repeatable: boolean;
  phases: readonly Phase[];
  checkpoints: { step: number; occasion: Occasion; pinned: boolean }[];
  checkpointBytes: number;
  /** Most that checkpoints take at one time, the one being written included. An open run: as far as its regular ones go. */
  diskBytes: number;
  warnings: WarningRecord[];
}

export interface DryRunInput {
  config: RunConfig;
  model: LlamaConfig;
  scalars: RunScalars;
  end: number | null;
  built: BuiltModule;
  engine: EngineMemory;
  microBatch: number;
  epochSequences: number | null;
  validationSequences: number | null;
}

/** Computes the dry run. Pure. */
export function dryRun(input: DryRunInput): DryRun {
  const { config, model, scalars, end, built, engine, microBatch, epochSequences } = input;
  const schedule = scalars.lr;
  const { memory } = built;
  const tokensPerStep = config.batch.sequences * config.batch.length;
  const tokens = end === null ? null : scalars.batch.tokensAt(end);
  const epochTokens = epochSequences === null ? null : epochSequences * config.batch.length;
  const { parameters, nonEmbedding } = counts(model);
  const { io, gradients, optimizer, scratch, scratchByPurpose } = memory;
  const checkpointCopy = memory.parameters + optimizer + memory.sets;
  const extra = engine.packedBytes + engine.workspaceBytes + checkpointCopy;
  return {
    name: config.name,
    model,
    parameters: { total: parameters, nonEmbedding, byKind: byKind(built) },
    memory: {
      total: memory.total + extra,
      parameters: memory.parameters,
      gradients,
      optimizer,
      io: io + memory.caches + memory.sets,
      scratch,
      scratchByPurpose,
      packedWeights: engine.packedBytes,
      workspace: engine.workspaceBytes,
      checkpointCopy,
    },
    flopsPerToken: built.flopsPerToken,
    flops: tokens === null ? null : tokens * built.flopsPerToken,
    attention: config.data.attention,
    length: config.batch.length,
    sequences: config.batch.sequences,
    microBatch,
    tokensPerStep,
    steps: end,
    tokens,
    epochTokens,
    epochs: tokens === null || epochTokens === null ? null : tokens / epochTokens,
    repeatable: engine.repeatable,
    phases: schedule.phases,
    ...disk(config, scalars, end, parameters),
    warnings: planWarnings({ ...input, schedule, tokens, repeatable: engine.repeatable }),
  };
}

function byKind({ parameters }: BuiltModule): Record<ParameterKind, number> {
  const sums: Record<ParameterKind, number> = { embedding: 0, linear: 0, norm: 0 };
  for (const p of parameters) sums[p.kind] += parameterElements(p);
  return sums;
}

/** Weights, two moments and perhaps an average in float32; the small files beside them do not count. */
const stateBytes = (parameters: number, averages: boolean): number => (averages ? 16 : 12) * parameters;

function disk(config: RunConfig, { lr, averages }: RunScalars, end: number | null, parameters: number) {
  const horizon = end ?? config.checkpoints.every * (config.checkpoints.keep + 1);
  const checkpoints = planMilestones(config, lr, end)
    .between(0, horizon)
    .filter((m) => m.save)
    .map(({ step, occasion }) => ({ step, occasion, pinned: occasion !== "periodic" }));
  const pinned = checkpoints.filter((c) => c.pinned).length;
  const kept = Math.min(config.checkpoints.keep, checkpoints.length - pinned);
  const checkpointBytes = stateBytes(parameters, averages);
  return { checkpoints, checkpointBytes, diskBytes: (pinned + kept + 1) * checkpointBytes };
}
