import type { Phase, Schedule } from "../schedule/schedule.ts";
import { csvText } from "./csv.ts";
import { shortNumber } from "./scale.ts";
import { svgFigure } from "./svg.ts";
import type { Point } from "./svg_path.ts";
import { formatTable } from "./table.ts";
import { terminalPlot } from "./terminal.ts";

export interface ScheduleReportOptions {
  /** Title of the curve. */
  readonly name?: string;
  readonly tokensPerStep?: number | null;
  /** Steps the run takes; what the schedule plans after them is not shown. Default: the schedule's end. */
  readonly steps?: number | null;
  /** Size of the terminal plot. */
  readonly width?: number;
  readonly height?: number;
}

/** A phase with the values of its first and last update. */
export interface PhaseRow {
  readonly cycle: number;
  readonly kind: Phase["kind"];
  readonly start: number;
  readonly end: number | null;
  readonly steps: number | null;
  readonly tokens: number | null;
  readonly from: number;
  readonly to: number;
}

/** Totals over the shown updates. */
export interface ScheduleSums {
  readonly steps: number;
  readonly tokens: number | null;
  /** Sum of the values: how far along the river the run goes. */
  readonly sum: number;
  readonly mean: number;
  /** Share of the updates made at the peak. */
  readonly atPeak: number;
}

export interface ScheduleReport {
  readonly rows: readonly PhaseRow[];
  readonly sums: ScheduleSums;
  /** Phases, budgets, totals and curve for the terminal. */
  readonly text: string;
  readonly svg: string;
  /** `step,lr` for every update. */
  readonly csv: string;
  /** All but the drawings. */
  readonly json: Record<string, unknown>;
}

/** Steps shown of a schedule without an end, after its last phase began. */
const openSteps = 1000;

/** Steps of a schedule that are shown: those of the run, of the schedule, or a stretch of one without an end. */
export const shownSteps = (schedule: Schedule, steps?: number | null): number =>
  steps ?? schedule.end ?? (schedule.phases.at(-1)?.start ?? 0) + openSteps;

/** The value of each of the first `steps` updates. */
export const valuesOf = (schedule: Schedule, steps: number): number[] =>
  Array.from({ length: steps }, (_, step) => schedule.valueAt(step));

/** Everything there is to see of a schedule. */
export function showSchedule(schedule: Schedule, options: ScheduleReportOptions = {}): ScheduleReport {
  const tokensPerStep = options.tokensPerStep ?? schedule.tokensPerStep;
  const shown = shownSteps(schedule, options.steps);
  const values = valuesOf(schedule, shown);
  const rows = schedule.phases
    .filter((phase) => phase.start < shown)
    .map((phase) => rowOf(schedule, phase, tokensPerStep));
  const sums = sumsOf(values, schedule.peak, tokensPerStep);
  const budgets = schedule.budgets.filter((budget) => budget.end <= shown);
  const name = options.name ?? "schedule";
  const json = { name, hash: schedule.hash, peak: schedule.peak, end: schedule.end, phases: rows, budgets, sums };
  const points = values.map((value, step): Point => [step, value]);
  const { width, height } = options;
  const plot = terminalPlot(points, {
    title: "learning rate",
    xLabel: "step",
    range: [0, schedule.peak],
    ...(width === undefined ? {} : { width }),
    ...(height === undefined ? {} : { height }),
  });
  const text = [phaseTable(rows, tokensPerStep), budgetTable(schedule, shown, tokensPerStep), sumsText(sums), "", plot];
  return {
    rows,
    sums,
    json,
    text: text.filter((part) => part !== null).join("\n"),
    // Drawn when asked for: a long schedule's CSV is large.
    get svg() {
      return svgFigure({
        title: name,
        subtitle: sumsText(sums),
        xLabel: "step",
        panels: [
          {
            label: "learning rate",
            series: [{ name: "learning rate", legend: false, points }],
            range: [0, schedule.peak * 1.04],
          },
        ],
        guides: budgets.map(({ index, end }) => ({ x: end, label: `budget ${index + 1}: ${end}` })),
        bands: budgets.map(({ decayStart, end }) => ({ from: decayStart, to: end })),
      });
    },
    get csv() {
      return csvText(["step", "lr"], points);
    },
  };
}

function rowOf(schedule: Schedule, { cycle, kind, start, end }: Phase, tokensPerStep: number | null): PhaseRow {
  const steps = end === null ? null : end - start;
  const tokens = steps === null || tokensPerStep === null ? null : steps * tokensPerStep;
  return {
    cycle,
    kind,
    start,
    end,
    steps,
    tokens,
    from: schedule.valueAt(start),
    to: schedule.valueAt((end ?? start + 1) - 1),
  };
}

export function sumsOf(values: readonly number[], peak: number, tokensPerStep: number | null): ScheduleSums {
  let sum = 0;
  let atPeak = 0;
  for (const value of values) {
    sum += value;
    if (value === peak) atPeak++;
  }
  const steps = values.length;
  const tokens = tokensPerStep === null ? null : steps * tokensPerStep;
  return { steps, tokens, sum, mean: sum / Math.max(1, steps), atPeak: atPeak / Math.max(1, steps) };
}

const right = (title: string) => ({ title, align: "right" as const });
const count = (value: number | null): string => (value === null ? "" : String(value));
const tokensText = (value: number | null): string => (value === null ? "" : shortNumber(value, 4));

function phaseTable(rows: readonly PhaseRow[], tokensPerStep: number | null): string {
  const columns = [right("cycle"), { title: "phase" }, right("from step"), right("to step"), right("steps")];
  const tokens = tokensPerStep === null ? [] : [right("tokens")];
  const cells = rows.map((row) => [
    String(row.cycle + 1),
    row.kind,
    String(row.start),
    row.end === null ? "open" : String(row.end),
    count(row.steps),
    ...(tokensPerStep === null ? [] : [tokensText(row.tokens)]),
    shortNumber(row.from, 4),
    shortNumber(row.to, 4),
  ]);
  return formatTable([...columns, ...tokens, right("first lr"), right("last lr")], cells);
}

function budgetTable(schedule: Schedule, shown: number, tokensPerStep: number | null): string | null {
  const budgets = schedule.budgets.filter((budget) => budget.decayStart < shown);
  if (budgets.length === 0) return "";
  const tokens = tokensPerStep === null ? [] : [right("tokens")];
  const cells = budgets.map(({ index, budget, decayStart, end }) => [
    String(index + 1),
    String(budget),
    String(decayStart),
    end > shown ? `${end} (not reached)` : String(end),
    String(end - decayStart),
    ...(tokensPerStep === null ? [] : [tokensText(end * tokensPerStep)]),
  ]);
  const columns = [
    right("budget"),
    right("nominal steps"),
    right("decay from"),
    right("ready at"),
    right("decay steps"),
  ];
  return `\n${formatTable([...columns, ...tokens], cells)}\n`;
}

function sumsText({ steps, tokens, sum, mean, atPeak }: ScheduleSums): string {
  const read = tokens === null ? "" : `, ${shortNumber(tokens, 4)} tokens`;
  return `${steps} steps${read}; sum of lr ${shortNumber(sum, 4)}, mean ${shortNumber(mean, 4)}, ${Math.round(atPeak * 100)}% at the peak`;
}
