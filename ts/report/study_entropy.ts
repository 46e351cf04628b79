import type { Cell } from "../study/comparisons.ts";
import { mean } from "../study/group.ts";
import { type Estimate, estimate } from "../study/statistics.ts";
import type { EntropyLoss } from "../train/records.ts";
import { type Section, tableHtml } from "./html.ts";

/** Loss above the true entropy of the tokens evaluated, over the replicates that have both; null when none has. */
export function excessOf({ rows }: Pick<Cell, "rows">, alpha: number): Estimate | null {
  const values = rows.flatMap(({ loss, entropy }) => (loss === null || entropy === null ? [] : [loss - entropy]));
  return values.length > 0 ? estimate(values, alpha) : null;
}

const className = ({ above, upTo }: EntropyLoss): string =>
  upTo === null ? `above ${above}` : above === null ? `up to ${upTo}` : `${above} to ${upTo}`;

/** Mean over replicates of the loss above the entropy in one class of tokens. */
function classExcess({ rows }: Cell, name: string): string {
  const found = rows.flatMap(({ byEntropy }) => byEntropy?.filter((c) => className(c) === name) ?? []);
  return found.length === 0 ? "-" : mean(found.map(({ loss, entropy }) => loss - entropy)).toFixed(4);
}

/** For data whose true entropy is known: what each deliverable has still to learn, in all and by uncertainty; else nothing. */
export function entropySection(
  cells: readonly Cell[],
  alpha: number,
  describe: { labels: (cell: Cell) => string; interval: (estimate: Estimate | null) => string },
): Section[] {
  const classes = cells.flatMap(({ rows }) => rows.flatMap(({ byEntropy }) => byEntropy ?? []));
  if (classes.length === 0) return [];
  const ordered = classes.toSorted((a, b) => (a.above ?? -1) - (b.above ?? -1));
  const names = [...new Map(ordered.map((c) => [className(c), c.tokens])).entries()];
  const titles = [
    "schedule",
    "axes",
    ...["budget", "all tokens", ...names.map(([name]) => `${name} nats`)].map(
      (title) => ({ title, number: true }) as const,
    ),
  ];
  const rows = cells.map((cell) => [
    cell.schedule,
    describe.labels(cell),
    String(cell.budget + 1),
    describe.interval(excessOf(cell, alpha)),
    ...names.map(([name]) => classExcess(cell, name)),
  ]);
  const sizes = names.map(([name, tokens]) => `${name} nats: ${tokens}`).join(", ");
  const { entropy } = cells.flatMap((cell) => cell.rows).find((row) => row.entropy !== null)!;
  const note = `Validation loss less the mean true entropy of the same tokens (${entropy!.toFixed(4)} nats), which no model beats on average. By chance the tokens at hand are a little more or less surprising than that; it is the same for every row, so differences between rows do not depend on it. Tokens by their own true entropy: ${sizes}.`;
  return [{ title: "Above the true entropy", body: `${tableHtml(titles, rows)}\n<p class="faint">${note}</p>` }];
}
