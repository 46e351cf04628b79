import type { Schedule } from "../schedule/schedule.ts";
import { csvText } from "./csv.ts";
import { shortNumber } from "./scale.ts";
import { type ScheduleSums, shownSteps, sumsOf, valuesOf } from "./schedule_report.ts";
import { svgFigure } from "./svg.ts";
import type { Point } from "./svg_path.ts";
import { formatTable } from "./table.ts";
import { terminalPlot } from "./terminal.ts";

/** A schedule among others. */
export interface NamedSchedule {
  readonly name: string;
  readonly schedule: Schedule;
  /** Steps the run takes. Default: the schedule's end. */
  readonly steps?: number | null;
}

export interface ScheduleComparison {
  readonly rows: readonly (ScheduleSums & {
    readonly name: string;
    readonly peak: number;
    readonly last: number;
    /** Finished updates at which a decayed checkpoint stands. */
    readonly delivered: readonly number[];
    readonly hash: string;
  })[];
  /** Table and picture for the terminal. */
  readonly text: string;
  readonly svg: string;
  /** `step` and one column for each schedule; empty where a schedule is over. */
  readonly csv: string;
}

const right = (title: string) => ({ title, align: "right" as const });

/** Several schedules in one table and one picture. */
export function compareSchedules(list: readonly NamedSchedule[]): ScheduleComparison {
  const curves = list.map(({ name, schedule, steps }) => {
    const values = valuesOf(schedule, shownSteps(schedule, steps));
    return { name, schedule, values };
  });
  const rows = curves.map(({ name, schedule, values }) => ({
    name,
    ...sumsOf(values, schedule.peak, schedule.tokensPerStep),
    peak: schedule.peak,
    last: values.at(-1) ?? 0,
    delivered: schedule.budgets.filter((b) => b.end <= values.length).map((b) => b.end),
    hash: schedule.hash,
  }));
  const points = curves.map(({ values }) => values.map((value, step): Point => [step, value]));
  const top = Math.max(...rows.map((row) => row.peak));
  return {
    rows,
    text: `${table(rows)}\n\n${overlay(points, top)}`,
    get svg() {
      return svgFigure({
        title: `${rows.length} schedules`,
        xLabel: "step",
        panels: [
          {
            label: "learning rate",
            series: rows.map(({ name }, i) => ({ name, points: points[i]! })),
            range: [0, top * 1.04],
            height: 260,
          },
        ],
      });
    },
    get csv() {
      const longest = Math.max(...curves.map(({ values }) => values.length));
      const lines = Array.from({ length: longest }, (_, step) => [step, ...curves.map((c) => c.values[step] ?? null)]);
      return csvText(["step", ...rows.map((row) => row.name)], lines);
    },
  };
}

/** All curves in one drawing; a point that is not finite lifts the pen between two. */
function overlay(curves: readonly Point[][], top: number): string {
  const points = curves.flatMap((curve) => [...curve, [Number.NaN, Number.NaN] as Point]);
  return terminalPlot(points, { title: "learning rate", xLabel: "step", range: [0, top] });
}

function table(rows: ScheduleComparison["rows"]): string {
  const columns = ["steps", "tokens", "peak", "last lr", "sum of lr", "mean lr", "at peak"].map(right);
  const cells = rows.map((row) => [
    row.name,
    String(row.steps),
    row.tokens === null ? "" : shortNumber(row.tokens, 4),
    shortNumber(row.peak, 4),
    shortNumber(row.last, 4),
    shortNumber(row.sum, 4),
    shortNumber(row.mean, 4),
    `${Math.round(100 * row.atPeak)}%`,
    row.delivered.join(", "),
  ]);
  return formatTable(["schedule", ...columns, "delivered at"], cells);
}
