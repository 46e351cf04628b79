import { median, medianSpeed } from "./budgets.ts";
import { csvText } from "./csv.ts";
import { curvesSvg, decaysOf, evaluationsOf, type RunRecords, stepsOf } from "./curves.ts";
import { shortNumber } from "./scale.ts";
import { formatTable } from "./table.ts";

/** One run in a line. Losses are in nats per token; null where nothing was measured. */
export interface RunSummary {
  readonly name: string;
  readonly steps: number;
  readonly tokens: number;
  /** Median of the last tenth of the training losses, at most 100 of them. */
  readonly trainingLoss: number | null;
  readonly validationLoss: number | null;
  readonly bestValidation: { readonly loss: number; readonly step: number } | null;
  /** Validation loss after each finished decay. */
  readonly budgets: readonly { readonly budget: number; readonly step: number; readonly loss: number }[];
  /** Sum of the learning rate over the recorded steps, each standing for those since the record before it. */
  readonly lrSum: number;
  readonly tokensPerSecond: number | null;
  readonly warnings: number;
}

export function summarize(run: RunRecords): RunSummary {
  const steps = stepsOf(run);
  const evaluations = evaluationsOf(run);
  const tail = steps.slice(-Math.min(100, Math.ceil(steps.length / 10))).map((step) => step.loss);
  const best = evaluations.reduce<RunSummary["bestValidation"]>(
    (least, { loss, step }) => (least === null || loss < least.loss ? { loss, step } : least),
    null,
  );
  return {
    name: run.name,
    steps: steps.at(-1)?.step ?? 0,
    tokens: steps.at(-1)?.tokens ?? 0,
    trainingLoss: steps.length === 0 ? null : median(tail),
    validationLoss: evaluations.at(-1)?.loss ?? null,
    bestValidation: best,
    budgets: decaysOf(run).map(({ budget, end, after }) => ({ budget, step: end, loss: after })),
    lrSum: steps.reduce((sum, { lr, step }, i) => sum + lr * (step - (steps[i - 1]?.step ?? 0)), 0),
    tokensPerSecond: medianSpeed(run),
    warnings: run.records.filter((record) => record.type === "warning").length,
  };
}

export interface Comparison {
  readonly summaries: readonly RunSummary[];
  readonly text: string;
  readonly svg: string;
  /** run,kind,step,tokens,loss,lr: every training and validation loss of every run. */
  readonly csv: string;
}

/** Runs side by side: a line each, their losses after each budget, and their curves in one figure. */
export function compareRuns(runs: readonly RunRecords[]): Comparison {
  const summaries = runs.map(summarize);
  const nats = (value: number | null | undefined): string =>
    value === null || value === undefined ? "-" : value.toFixed(4);
  const budgets = [...new Set(summaries.flatMap((run) => run.budgets.map(({ budget }) => budget)))].sort(
    (a, b) => a - b,
  );
  const titles = [
    "steps",
    "tokens",
    "training",
    "validation",
    "best",
    "at step",
    ...budgets.map((b) => `budget ${b + 1}`),
    "sum of lr",
    "tokens/s",
    "warnings",
  ];
  const text = formatTable(
    [{ title: "run" }, ...titles.map((title) => ({ title, align: "right" as const }))],
    summaries.map((run) => [
      run.name,
      String(run.steps),
      shortNumber(run.tokens),
      nats(run.trainingLoss),
      nats(run.validationLoss),
      nats(run.bestValidation?.loss),
      run.bestValidation ? String(run.bestValidation.step) : "-",
      ...budgets.map((b) => nats(run.budgets.find(({ budget }) => budget === b)?.loss)),
      shortNumber(run.lrSum, 4),
      run.tokensPerSecond === null ? "-" : shortNumber(run.tokensPerSecond),
      String(run.warnings),
    ]),
  );
  return { summaries, text, svg: curvesSvg(runs), csv: lossCsv(runs) };
}

function lossCsv(runs: readonly RunRecords[]): string {
  const rows = runs.flatMap((run) => [
    ...stepsOf(run).map(({ step, tokens, loss, lr }) => [run.name, "training", step, tokens, loss, lr]),
    ...evaluationsOf(run).map(({ step, tokens, loss, lr }) => [run.name, "validation", step, tokens, loss, lr]),
  ]);
  return csvText(["run", "kind", "step", "tokens", "loss", "lr"], rows);
}
