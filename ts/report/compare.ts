import { type RunSummary, summarize } from "../train/compare.ts";
import { csvText } from "./csv.ts";
import { curvesSvg, evaluationsOf, type Run } from "./curves.ts";
import { shortNumber } from "./scale.ts";
import { formatTable } from "./table.ts";

export interface ComparisonReport {
  readonly summaries: readonly RunSummary[];
  /** A line for each run, a column for the loss after each budget. */
  readonly text: string;
  /** Losses and learning rates in one figure. */
  readonly svg: string;
  /** run,kind,step,tokens,loss,lr: every training and validation loss of every run. */
  readonly csv: string;
}

/** Runs side by side. Runs of equal name are numbered. */
export function comparisonReport(given: readonly Run[]): ComparisonReport {
  const runs = given.map((run, i) => {
    const before = given.slice(0, i).filter((other) => other.name === run.name).length;
    return before === 0 ? run : { ...run, name: `${run.name} (${before + 1})` };
  });
  const summaries = runs.map((run) => summarize({ ...run, path: "" }));
  const tables = summaries.map((summary, i) => cellsOf(summary, runs[i]!, budgetsOf(summaries)));
  const text = formatTable(
    [{ title: "run" }, ...titlesOf(budgetsOf(summaries)).map((title) => ({ title, align: "right" as const }))],
    tables,
  );
  return { summaries, text, svg: curvesSvg(runs), csv: lossCsv(runs) };
}

/** The sum of the learning rate over a run; a record stands for the steps since the one before it. */
export function lrSum({ steps }: Pick<Run, "steps">): number {
  return steps.reduce((sum, { lr, step }, i) => sum + lr * (step - (steps[i - 1]?.step ?? 0)), 0);
}

const budgetsOf = (summaries: readonly RunSummary[]): number[] =>
  [...new Set(summaries.flatMap((run) => run.decays.map(({ budget }) => budget)))].sort((a, b) => a - b);

const titlesOf = (budgets: readonly number[]): string[] => [
  "steps",
  "tokens",
  "training",
  "validation",
  "best",
  ...budgets.map((budget) => `budget ${budget + 1}`),
  "sum of lr",
  "tokens/s",
];

function cellsOf(summary: RunSummary, run: Run, budgets: readonly number[]): string[] {
  const nats = (value: number | null | undefined): string => value?.toFixed(4) ?? "-";
  return [
    summary.name,
    String(summary.steps),
    shortNumber(summary.tokens),
    nats(summary.trainLoss),
    nats(summary.validationLoss),
    nats(summary.bestValidationLoss),
    ...budgets.map((b) => nats(summary.decays.find(({ budget }) => budget === b)?.after)),
    shortNumber(lrSum(run), 4),
    summary.tokensPerSecond === null ? "-" : shortNumber(summary.tokensPerSecond),
  ];
}

function lossCsv(runs: readonly Run[]): string {
  const rows = runs.flatMap((run) => [
    ...run.steps.map(({ step, tokens, loss, lr }) => [run.name, "training", step, tokens, loss, lr]),
    ...evaluationsOf(run).map(({ step, tokens, loss, lr }) => [run.name, "validation", step, tokens, loss, lr]),
  ]);
  return csvText(["run", "kind", "step", "tokens", "loss", "lr"], rows);
}
