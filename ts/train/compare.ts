import { existsSync } from "node:fs";
import { basename, join } from "node:path";
import { ThalwegError } from "../base/errors.ts";
import { mean, median } from "../base/statistics.ts";
import { readMetrics } from "./metrics.ts";
import type { EvaluationRecord, MetricsRecord, StepRecord } from "./records.ts";

/** One run's records, sorted out. */
export interface RunMetrics {
  name: string;
  path: string;
  steps: StepRecord[];
  evaluations: EvaluationRecord[];
}

/** A decay that has ended: validation loss before (null when it was not measured) and after it. */
export interface Decay {
  budget: number;
  /** Where it began; null when the loss was not measured there. */
  start: number | null;
  /** Where it ended. */
  step: number;
  before: number | null;
  after: number;
  drop: number | null;
}

/** A line of the comparison. Losses in nats per token; null where a run has none. */
export interface RunSummary {
  name: string;
  steps: number;
  tokens: number;
  /** Mean training loss of the last records, at most 50: one batch is noise. */
  trainLoss: number | null;
  /** Last validation loss. */
  validationLoss: number | null;
  bestValidationLoss: number | null;
  /** Validation loss before and after each decay. */
  decays: Decay[];
  /** Median over the step records. */
  tokensPerSecond: number | null;
}

/** Reads a run directory (or a metrics.jsonl). @throws BAD_INPUT when it has none; CORRUPT_DATA naming the line. */
export async function loadRun(path: string): Promise<RunMetrics> {
  const file = path.endsWith(".jsonl") ? path : join(path, "metrics.jsonl");
  if (!existsSync(file))
    throw new ThalwegError(
      "BAD_INPUT",
      `${path} is no run directory: ${file} does not exist. Name a folder that \`thalweg train\` wrote.`,
    );
  const records = await readMetrics(file);
  const of = <T extends MetricsRecord["type"]>(type: T) =>
    records.filter((r): r is Extract<MetricsRecord, { type: T }> => r.type === type);
  const name = of("header")[0]?.run ?? basename(path);
  return { name, path, steps: of("step"), evaluations: of("evaluation") };
}

/** What a run came to. */
export function summarize({ name, steps, evaluations }: RunMetrics): RunSummary {
  const tail = steps.slice(-50);
  const last = steps.at(-1);
  const losses = evaluations.map((e) => e.loss);
  return {
    name,
    steps: last?.step ?? 0,
    tokens: last?.tokens ?? 0,
    trainLoss: tail.length === 0 ? null : mean(tail.map((s) => s.loss)),
    validationLoss: losses.at(-1) ?? null,
    bestValidationLoss: losses.length === 0 ? null : Math.min(...losses),
    decays: decaysOf(evaluations),
    tokensPerSecond: median(steps.map((s) => s.tokensPerSecond)),
  };
}

/** Validation loss around each decay that has ended. */
export function decaysOf(evaluations: readonly EvaluationRecord[]): Decay[] {
  return evaluations
    .filter((e) => e.occasion === "post-decay" && e.budget !== null)
    .map(({ budget, step, loss: after }) => {
      const pre = evaluations.find((e) => e.occasion === "pre-decay" && e.budget === budget);
      const drop = pre ? pre.loss - after : null;
      return { budget: budget!, start: pre?.step ?? null, step, before: pre?.loss ?? null, after, drop };
    });
}
