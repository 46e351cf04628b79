import { canonicalJson } from "../config/canonical.ts";
import type { StudySpec } from "../config/study_schema.ts";
import { groupBy, mean } from "./group.ts";
import type { StudyPlan } from "./plan.ts";
import type { ResultRow } from "./results.ts";
import {
  comparePairs,
  type Estimate,
  equivalencePower,
  estimate,
  holm,
  type PairedComparison,
  pairedPower,
  pairsNeeded,
} from "./statistics.ts";

/** The replicates of one schedule, one combination of labels, one budget. */
export interface Cell {
  readonly schedule: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly budget: number;
  readonly nominal: number;
  readonly control: boolean;
  readonly rows: readonly ResultRow[];
  /** Over the replicates that have a loss; null when none has. */
  readonly loss: Estimate | null;
  /** The control's loss at the same step less the cell's own, paired. */
  readonly gain: Estimate | null;
}

/** A paired comparison of a cell with its baseline: negative differences mean that the cell's loss is lower. */
export interface CellComparison extends PairedComparison {
  /** What differs, and what stands on each side. */
  readonly of: string;
  readonly a: string;
  readonly b: string;
  /** What both sides have in common, for people: "budget 2, size=1m". */
  readonly where: string;
  /** p adjusted over all comparisons of the study. */
  readonly pHolm: number | null;
  readonly pEquivalentHolm: number | null;
  /** Compute of a over compute of b, in the three meanings. */
  readonly compute: { readonly path: number; readonly cumulative: number; readonly alone: number };
  /** Pairs for a difference as large as this one, and for equivalence within the margin, at a power of 80%; null: not known. */
  readonly pairsForDifference: number | null;
  readonly pairsForEquivalence: number | null;
  readonly verdict: "lower" | "higher" | "equivalent" | "undecided";
}

export interface Comparisons {
  readonly cells: readonly Cell[];
  readonly compared: readonly CellComparison[];
  /** Comparisons left out: both sides are the same weights by construction, or each the same as those of another one. */
  readonly identical: readonly string[];
}

export function cellsOf(rows: readonly ResultRow[], alpha: number): Cell[] {
  const groups = groupBy(rows, ({ schedule, labels, budget }) => canonicalJson([schedule, labels, budget]));
  return [...groups.values()].map((group): Cell => {
    const { schedule, labels, budget, nominal, control } = group[0]!;
    const losses = group.flatMap(({ loss }) => (loss === null ? [] : [loss]));
    const gains = group.flatMap(({ loss, controlLoss }) =>
      loss === null || controlLoss === null ? [] : [controlLoss - loss],
    );
    return {
      schedule,
      labels,
      budget,
      nominal,
      control,
      rows: group,
      loss: losses.length > 0 ? estimate(losses, alpha) : null,
      gain: gains.length > 0 ? estimate(gains, alpha) : null,
    };
  });
}

/** The comparisons a study declares; without any, all schedules with the first one. */
export function declaredComparisons(plan: StudyPlan): StudySpec["compare"] {
  if (plan.spec.compare.length > 0) return plan.spec.compare;
  const schedules = [...new Set(plan.runs.filter((run) => !run.control).map((run) => run.schedule))];
  return schedules.length > 1 ? [{ of: "schedule", baseline: schedules[0]! }] : [];
}

/** Compares every cell with its baseline, pair by pair, and adjusts the p values over all comparisons at once. */
export function compareCells(plan: StudyPlan, rows: readonly ResultRow[]): Comparisons {
  const { alpha, margin } = plan.spec;
  const cells = cellsOf(rows, alpha);
  const compared: CellComparison[] = [];
  const identical: string[] = [];
  const made = new Map<string, string>();
  for (const { of, baseline } of declaredComparisons(plan)) {
    for (const cell of cells) {
      if (cell.control || sideOf(cell, of) === baseline || sideOf(cell, of) === undefined) continue;
      const other = cells.find((c) => !c.control && sideOf(c, of) === baseline && sameBut(c, cell, of));
      if (!other) continue;
      const pairs = pairsOf(cell, other);
      const name = `${sideOf(cell, of)} and ${baseline}, ${whereOf(cell, of)}`;
      if (pairs.length === 0) continue;
      // The other way round, or between other names of the same weights, it is the same test: it counts once for Holm.
      const key = pairs.map(([x, y]) => [x.state, y.state].sort().join(" ")).join();
      const before = made.get(key);
      if (pairs.every(([x, y]) => x.state === y.state)) identical.push(name);
      else if (before === undefined) compared.push(compare(cell, of, baseline, pairs, alpha, margin));
      else if (before !== `${baseline} and ${sideOf(cell, of)}, ${whereOf(cell, of)}`)
        identical.push(`${name} (as ${before})`);
      made.set(key, before ?? name);
    }
  }
  return { cells, compared: adjusted(compared, alpha), identical };
}

const sideOf = (cell: Cell, of: string): string | undefined => (of === "schedule" ? cell.schedule : cell.labels[of]);

function sameBut(a: Cell, b: Cell, of: string): boolean {
  const rest = ({ schedule, labels, budget }: Cell) => {
    const { [of]: _, ...others } = labels;
    return canonicalJson([of === "schedule" ? null : schedule, others, budget]);
  };
  return rest(a) === rest(b);
}

const whereOf = (cell: Cell, of: string): string =>
  [
    ...(of === "schedule" ? [] : [cell.schedule]),
    `budget ${cell.budget + 1}`,
    ...Object.entries(cell.labels)
      .filter(([axis]) => axis !== of)
      .map(([axis, label]) => `${axis}=${label}`),
  ].join(", ");

type Pair = readonly [ResultRow, ResultRow];

/** Rows of the same replicate that both have a loss. */
function pairsOf(a: Cell, b: Cell): Pair[] {
  const others = new Map(b.rows.map((row) => [canonicalJson(row.replicate), row]));
  return a.rows.flatMap((row): Pair[] => {
    const other = others.get(canonicalJson(row.replicate));
    return row.loss !== null && other && other.loss !== null ? [[row, other]] : [];
  });
}

function compare(
  cell: Cell,
  of: string,
  baseline: string,
  pairs: readonly Pair[],
  alpha: number,
  margin: number | undefined,
): CellComparison {
  const found = comparePairs(
    pairs.map(([a]) => a.loss!),
    pairs.map(([, b]) => b.loss!),
    { alpha, margin },
  );
  const ratio = (key: "tokens" | "cumulativeTokens" | "aloneTokens") =>
    mean(pairs.map(([a]) => a[key])) / mean(pairs.map(([, b]) => b[key]));
  const { mean: difference, sd } = found;
  const known = found.n > 1 && sd > 0;
  return {
    ...found,
    of,
    a: sideOf(cell, of)!,
    b: baseline,
    where: whereOf(cell, of),
    pHolm: null,
    pEquivalentHolm: null,
    compute: { path: ratio("tokens"), cumulative: ratio("cumulativeTokens"), alone: ratio("aloneTokens") },
    pairsForDifference: known ? pairsNeeded((n) => pairedPower(difference, sd, n, alpha)) : null,
    pairsForEquivalence:
      known && margin !== undefined ? pairsNeeded((n) => equivalencePower(margin, sd, n, alpha)) : null,
    verdict: "undecided",
  };
}

function adjusted(compared: readonly CellComparison[], alpha: number): CellComparison[] {
  const adjust = (p: (c: CellComparison) => number | null): (number | null)[] => {
    const known = compared.flatMap((c, i) => (p(c) === null ? [] : [i]));
    const values = holm(known.map((i) => p(compared[i]!)!));
    const all = compared.map((): number | null => null);
    for (const [k, i] of known.entries()) all[i] = values[k]!;
    return all;
  };
  const differences = adjust((c) => c.p);
  const equivalences = adjust((c) => c.pEquivalent);
  return compared.map((c, i) => {
    const [pHolm, pEquivalentHolm] = [differences[i]!, equivalences[i]!];
    return { ...c, pHolm, pEquivalentHolm, verdict: verdictOf(c.mean, pHolm, pEquivalentHolm, alpha) };
  });
}

/** Equivalence is the stronger word: a difference may be certain and still within the margin. */
function verdictOf(
  difference: number,
  pHolm: number | null,
  pEquivalent: number | null,
  alpha: number,
): CellComparison["verdict"] {
  if (pEquivalent !== null && pEquivalent <= alpha) return "equivalent";
  if (pHolm === null || pHolm > alpha) return "undecided";
  return difference < 0 ? "lower" : "higher";
}
