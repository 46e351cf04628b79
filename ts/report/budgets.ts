import { median } from "../base/statistics.ts";
import { decaysOf, evaluationsOf, type FinishedDecay, type Run } from "./curves.ts";
import { shortNumber } from "./scale.ts";
import { formatTable } from "./table.ts";

/** What one budget's decay did, beside what a control run did over the same steps. */
export interface BudgetRow extends FinishedDecay {
  /** before - after, in nats per token. */
  readonly drop: number;
  /** The control's validation loss at the decay's end, and how far it fell over the decay; null where it was not measured. */
  readonly control: number | null;
  readonly controlDrop: number | null;
}

/** A row for each decay that a run has finished. */
export function budgetRows(run: Run, control?: Run): BudgetRow[] {
  const measured = new Map(control ? evaluationsOf(control).map(({ step, loss }) => [step, loss]) : []);
  return decaysOf(run).map((decay) => {
    const [start, end] = [measured.get(decay.start), measured.get(decay.end)];
    return {
      ...decay,
      drop: decay.before - decay.after,
      control: end ?? null,
      controlDrop: start === undefined || end === undefined ? null : start - end,
    };
  });
}

/** Median over the budgets of the decay's drop less the control's; null when no budget has both. */
export function medianGain(rows: readonly BudgetRow[]): number | null {
  return median(rows.flatMap(({ drop, controlDrop }) => (controlDrop === null ? [] : [drop - controlDrop])));
}

/** Median of the run's speed, in tokens per second; null when it has no steps. */
export function medianSpeed(run: Run): number | null {
  return median(run.steps.map((step) => step.tokensPerSecond));
}

/** Budgets as a text table: losses before and after each decay, and the control's where there is one. */
export function budgetTable(run: Run, control?: Run): string {
  const rows = budgetRows(run, control);
  const speed = medianSpeed(run);
  const nats = (value: number | null): string => (value === null ? "-" : value.toFixed(4));
  const titles = [
    "budget",
    "step",
    "before decay",
    "after decay",
    "drop",
    ...(control ? ["control", "control drop"] : []),
    "tokens/s",
  ];
  return formatTable(
    titles.map((title) => ({ title, align: "right" as const })),
    rows.map((row) => [
      String(row.budget + 1),
      String(row.end),
      nats(row.before),
      nats(row.after),
      nats(row.drop),
      ...(control ? [nats(row.control), nats(row.controlDrop)] : []),
      speed === null ? "-" : shortNumber(speed),
    ]),
  );
}
