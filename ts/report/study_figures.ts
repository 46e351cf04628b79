import type { Cell } from "../study/comparisons.ts";
import { groupBy } from "../study/group.ts";
import type { StudyPlan } from "../study/plan.ts";
import type { StudyCurve } from "../study/results.ts";
import { focusRange } from "./curves.ts";
import { type Figure, type Point, palette, type Series } from "./svg.ts";

/** A colour for each schedule, the same in every figure; controls are grey. */
export type Colors = ReadonlyMap<string, string>;

const grey = "#8a93a3";

export function colorsOf(plan: StudyPlan): Colors {
  const colors = new Map<string, string>();
  const usable = palette.slice(0, -1);
  let next = 0;
  for (const { schedule, control } of plan.runs)
    if (!colors.has(schedule)) colors.set(schedule, control ? grey : usable[next++ % usable.length]!);
  return colors;
}

/** Loss against tokens, the learning rate below it on the same axis: the first replicate in full, others faintly. */
export function curvesFigure(curves: readonly StudyCurve[], tokensPerStep: number, colors: Colors): Figure {
  const first = JSON.stringify(curves[0]?.run.replicate ?? {});
  const { shown, nameOf, colorOf, subtitle } = chooseCurves(curves, first, colors);
  const named = new Set<string>();
  // Controls first: what they are compared with is drawn over them.
  const ordered = shown.toSorted((a, b) => Number(b.run.control) - Number(a.run.control));
  const losses: Series[] = [];
  const rates: Series[] = [];
  for (const { run, steps, evaluations } of ordered) {
    const main = JSON.stringify(run.replicate) === first;
    const [name, color] = [nameOf(run), colorOf(run)];
    const points = evaluations.map(({ tokens, loss }): Point => [tokens, loss]);
    const legend = main && !named.has(name);
    if (legend) named.add(name);
    losses.push({ name, points, color, width: main ? 1.8 : 1, opacity: main ? 1 : 0.35, legend });
    const lr = steps.map(({ step, lr: rate }): Point => [step * tokensPerStep, rate]);
    if (main) rates.push({ name, points: lr, color, width: 1.5, legend: false });
  }
  const range = focusRange(losses.map((series) => series.points));
  return {
    title: "Validation loss and learning rate",
    subtitle: `Nats per token; ${subtitle}`,
    xLabel: "tokens read by the delivered weights",
    panels: [
      { label: "validation loss", series: losses, height: 300, ...(range ? { range } : {}) },
      { label: "learning rate", series: rates, height: 110 },
    ],
  };
}

/** Colours of values in order, from blue to red. */
const shade = (share: number): string => `hsl(${Math.round(215 - 205 * share)},60%,45%)`;

type Run = StudyCurve["run"];

/** Of several schedules the first combination of labels with every seed; of one schedule all combinations of one seed. */
function chooseCurves(curves: readonly StudyCurve[], first: string, colors: Colors) {
  const labelled = ({ labels }: Run) => Object.values(labels).join(" ");
  const own = [...new Set(curves.filter(({ run }) => !run.control).map(({ run }) => run.schedule))];
  const combinations = [...new Set(curves.map(({ run }) => labelled(run)))];
  if (own.length !== 1 || combinations.length < 2 || combinations.length > 12)
    return {
      shown: curves.filter(({ run }) => labelled(run) === combinations[0]),
      nameOf: (run: Run) => run.schedule,
      colorOf: (run: Run) => colors.get(run.schedule)!,
      subtitle: "one line for each run, the first seed in full",
    };
  return {
    shown: curves.filter(
      ({ run }) => JSON.stringify(run.replicate) === first && (!run.control || labelled(run) === combinations[0]),
    ),
    nameOf: (run: Run) => (run.control ? run.schedule : `${run.schedule} ${labelled(run)}`),
    colorOf: (run: Run) =>
      run.control ? grey : shade(combinations.indexOf(labelled(run)) / (combinations.length - 1)),
    subtitle: "every run of the first seed",
  };
}

interface Place {
  readonly x: number;
  readonly cell: Cell;
}

/** Means with their intervals, joined by a line for each schedule (and combination of labels). */
function cellSeries(
  cells: readonly Cell[],
  place: (cell: Cell) => number,
  value: (cell: Cell) => Cell["loss"],
  colors: Colors,
): Series[] {
  const groups = groupBy(cells, ({ schedule, labels }) => JSON.stringify([schedule, labels]));
  return [...groups.values()].flatMap((group): Series[] => {
    const { schedule, labels } = group[0]!;
    const places = group.filter((cell) => value(cell) !== null).map((cell): Place => ({ x: place(cell), cell }));
    const points = places.map(({ x, cell }): Point => [x, value(cell)!.mean]);
    const intervals = places.map(({ x, cell }) => [x, value(cell)!.low, value(cell)!.high] as const);
    const name = [schedule, ...Object.values(labels)].join(" ");
    const color = colors.get(schedule)!;
    return [
      { name, points, color, width: 1.6 },
      { name: "", points, intervals, color, style: "dots", legend: false },
    ];
  });
}

/** Schedules side by side at one budget instead of over one another. */
const beside = (schedules: readonly string[], schedule: string): number =>
  1 + 0.03 * (schedules.indexOf(schedule) - (schedules.length - 1) / 2);

/** An x axis that leaves room for the bars of its outermost points. */
function axisOf(panels: Figure["panels"], log: boolean): Pick<Figure, "xScale" | "xRange"> {
  const xs = panels.flatMap(({ series }) => series.flatMap(({ points }) => points.map(([x]) => x)));
  const [low, high] = [Math.min(...xs), Math.max(...xs)];
  if (xs.length === 0) return {};
  if (log) return { xScale: "log", xRange: [low / 1.08, high * 1.08] };
  const slack = 0.04 * (high - low || 1);
  return { xScale: "linear", xRange: [low - slack, high + slack] };
}

const schedulesOf = (cells: readonly Cell[]): string[] => [...new Set(cells.map((cell) => cell.schedule))];

/** Loss of each deliverable against compute in each of its meanings. */
export function computeFigure(cells: readonly Cell[], colors: Colors): Figure {
  const own = cells.filter((cell) => !cell.control);
  const meanings = [
    ["updates that the delivered weights have seen", "tokens"],
    ["all training for this schedule's budgets up to this one", "cumulativeTokens"],
    ["all training, had only this budget been wanted", "aloneTokens"],
  ] as const;
  // For plain runs the third is the first again.
  const differs = own.some(({ rows }) => rows.some((row) => row.aloneTokens !== row.tokens));
  const panels = meanings.slice(0, differs ? 3 : 2).map(([label, key], i) => ({
    label,
    series: cellSeries(
      own,
      (cell) => cell.rows[0]![key],
      (cell) => cell.loss,
      colors,
    ).map((series) => (i === 0 ? series : { ...series, legend: false })),
    height: 210,
  }));
  return {
    title: "Loss against compute",
    subtitle: `Means over seeds with intervals${differs ? "" : "; training for one budget alone is the same as the first panel"}`,
    xLabel: "tokens trained on",
    ...axisOf(panels, true),
    panels,
  };
}

/** Final loss for each budget and schedule. */
export function budgetFigure(cells: readonly Cell[], tokensPerStep: number, colors: Colors): Figure {
  const own = cells.filter((cell) => !cell.control);
  const names = schedulesOf(own);
  const place = (cell: Cell) => cell.nominal * tokensPerStep * beside(names, cell.schedule);
  const series = cellSeries(own, place, (cell) => cell.loss, colors);
  const panels = [{ label: "validation loss", series, height: 260 }];
  return {
    title: "Loss at each budget",
    subtitle: "Means over seeds with intervals; schedules stand side by side at one budget",
    xLabel: "nominal budget, tokens",
    ...axisOf(panels, true),
    panels,
  };
}

/** How much lower a decayed loss is than the control's at the same step; null when nothing has a control. */
export function gainFigure(cells: readonly Cell[], tokensPerStep: number, colors: Colors): Figure | null {
  const own = cells.filter((cell) => cell.gain !== null);
  if (own.length === 0) return null;
  const names = schedulesOf(own);
  const place = (cell: Cell) => cell.nominal * tokensPerStep * beside(names, cell.schedule);
  const series = cellSeries(own, place, (cell) => cell.gain, colors);
  const panels = [{ label: "gain, nats per token", series, height: 220 }];
  return {
    title: "Gain over the control",
    subtitle: "Loss of the constant rate at the same step, on the same data, less the schedule's own",
    xLabel: "nominal budget, tokens",
    ...axisOf(panels, true),
    panels,
  };
}

/** Loss against the values of an axis that are numbers, for each schedule and budget; null when they are not. */
export function axisFigure(cells: readonly Cell[], axis: string, colors: Colors): Figure | null {
  const own = cells.filter((cell) => !cell.control && Number.isFinite(Number(cell.labels[axis])));
  const values = [...new Set(own.map((cell) => Number(cell.labels[axis])))];
  if (values.length < 2) return null;
  const budgets = [...new Set(own.map((cell) => cell.budget))].sort((a, b) => a - b);
  const log = Math.min(...values) > 0 && Math.max(...values) / Math.min(...values) > 8;
  const panels = budgets.flatMap((budget) => {
    const here = own.filter((cell) => cell.budget === budget);
    const of = budgets.length > 1 ? `, budget ${budget + 1}` : "";
    const height = budgets.length > 1 ? 180 : 260;
    const losses = axisSeries(here, axis, (cell) => cell.loss, colors);
    const gains = axisSeries(here, axis, (cell) => cell.gain, colors).map((s) => ({ ...s, legend: false }));
    return [
      { label: `validation loss${of}`, series: losses, height },
      ...(budgets.length === 1 && gains.length > 0
        ? [{ label: "gain over the constant rate", series: gains, height: 160 }]
        : []),
    ];
  });
  return {
    title: `Loss against ${axis}`,
    subtitle: "Means over seeds with intervals",
    xLabel: axis,
    ...axisOf(panels, log),
    panels,
  };
}

/** One line for each schedule and each combination of the other axes. */
function axisSeries(
  cells: readonly Cell[],
  axis: string,
  value: (cell: Cell) => Cell["loss"],
  colors: Colors,
): Series[] {
  const other = ({ labels }: Cell) => Object.entries(labels).filter(([name]) => name !== axis);
  const groups = groupBy(cells, (cell) => JSON.stringify([cell.schedule, other(cell)]));
  return [...groups.values()].flatMap((group, i): Series[] => {
    const sorted = group.filter(value).sort((a, b) => Number(a.labels[axis]) - Number(b.labels[axis]));
    if (sorted.length === 0) return [];
    const name = [group[0]!.schedule, ...other(group[0]!).map(([, label]) => label)].join(" ");
    // With one schedule its lines are told apart by the other axes.
    const color = groups.size > colors.size ? palette[i % palette.length]! : colors.get(group[0]!.schedule)!;
    const at = (cell: Cell) => Number(cell.labels[axis]);
    const points = sorted.map((cell): Point => [at(cell), value(cell)!.mean]);
    const intervals = sorted.map((cell) => [at(cell), value(cell)!.low, value(cell)!.high] as const);
    return [
      { name, points, color, width: 1.6 },
      { name: "", points, intervals, color, style: "dots", legend: false },
    ];
  });
}
