import { decaysOf as allDecays, type RunMetrics } from "../train/compare.ts";
import type { EvaluationRecord } from "../train/records.ts";
import { shortNumber } from "./scale.ts";
import { type Figure, type Panel, palette, type Series, svgFigure } from "./svg.ts";
import type { Point } from "./svg_path.ts";
import { terminalPlot } from "./terminal.ts";

/** What figures and tables need of a run; `loadRun` of ts/train/compare.ts reads it. */
export type Run = Pick<RunMetrics, "name" | "steps" | "evaluations">;

export interface CurveOptions {
  readonly title?: string;
  readonly subtitle?: string;
}

/** One evaluation for each step, the last one made there. */
export function evaluationsOf({ evaluations }: Run): EvaluationRecord[] {
  const byStep = new Map(evaluations.map((evaluation) => [evaluation.step, evaluation]));
  return [...byStep.values()].sort((a, b) => a.step - b.step);
}

/** A decay that a run has finished: validation losses before and after it. */
export interface FinishedDecay {
  readonly budget: number;
  readonly start: number;
  readonly end: number;
  readonly before: number;
  readonly after: number;
}

/** The decays whose two evaluations stand in the records, in order. */
export function decaysOf({ evaluations }: Run): FinishedDecay[] {
  return allDecays(evaluations).flatMap(({ budget, start, step: end, before, after }) =>
    start === null || before === null ? [] : [{ budget, start, end, before, after }],
  );
}

/**
 * Mean over the window of points around each, at most `window` wide. No window reaches across `breaks`: the loss jumps
 * where a budget ends, and a mean over the jump would show a ramp.
 */
export function smooth(points: readonly Point[], window: number, breaks: readonly number[] = []): Point[] {
  const half = Math.floor(window / 2);
  const sums = new Float64Array(points.length + 1);
  for (const [i, point] of points.entries()) sums[i + 1] = sums[i]! + point[1];
  // Stretches of points between breaks: [stretch[k], stretch[k + 1]).
  const inner = breaks.map((x) => points.findIndex((point) => point[0] > x)).filter((i) => i > 0);
  const stretch = [0, ...inner.sort((a, b) => a - b), points.length];
  let k = 0;
  return points.map(([x], i) => {
    while (i >= stretch[k + 1]!) k++;
    const from = Math.max(stretch[k]!, i - half);
    const to = Math.min(stretch[k + 1]!, i + half + 1);
    return [x, (sums[to]! - sums[from]!) / (to - from)];
  });
}

/**
 * The range that shows a loss curve best: from the lowest value to the highest after the first tenth of the steps, since
 * the fall from the initial loss would flatten everything else.
 */
export function focusRange(curves: readonly (readonly Point[])[]): [number, number] | undefined {
  const points = curves.flat().filter(([x, y]) => Number.isFinite(x) && Number.isFinite(y));
  if (points.length === 0) return undefined;
  const last = points.reduce((most, [x]) => Math.max(most, x), 0);
  let [low, high] = [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY];
  for (const [x, y] of points) {
    low = Math.min(low, y);
    if (x >= last / 10) high = Math.max(high, y);
  }
  const slack = (high - low) * 0.05 || Math.abs(high) * 0.05 || 1;
  return [low - slack, high + slack];
}

const trainingPoints = (run: Run): Point[] => run.steps.map(({ step, loss }) => [step, loss]);
const validationPoints = (run: Run): Point[] => evaluationsOf(run).map(({ step, loss }) => [step, loss]);
const lrPoints = (run: Run): Point[] => run.steps.map(({ step, lr }) => [step, lr]);

/** Loss curves of one run: training (each step, and smoothed) and validation. */
function lossSeries(run: Run): Series[] {
  const training = trainingPoints(run);
  const validation = validationPoints(run);
  const window = 2 * Math.ceil(training.length / 200) + 1;
  const series: Series[] = [
    { name: "training", points: training, color: palette[0], opacity: 0.3, width: 1, legend: false },
    {
      name: `training, mean of ${window} records`,
      points: smooth(
        training,
        window,
        decaysOf(run).map((decay) => decay.end),
      ),
      color: palette[0],
    },
  ];
  if (validation.length > 0)
    series.push(
      { name: "validation", points: validation, color: palette[1], width: 2 },
      { name: "", points: validation, color: palette[1], style: "dots", width: 2.2, legend: false },
    );
  return series;
}

/** Earlier runs are drawn wider, so that they show behind those that coincide with them. */
const runWidth = (index: number, runs: number): number => (runs === 1 ? 1.8 : Math.max(1.4, 3 - index * 0.8));

/** Runs of one name are pieces of one curve: drawn in one colour, with a gap between them. */
function piecesByName(runs: readonly Run[]): Run[][] {
  const byName = new Map<string, Run[]>();
  for (const run of runs) byName.set(run.name, [...(byName.get(run.name) ?? []), run]);
  return [...byName.values()];
}

const withGaps = (pieces: readonly Run[], pointsOf: (run: Run) => Point[]): Point[] =>
  pieces.flatMap((piece, i) => (i === 0 ? pointsOf(piece) : [[Number.NaN, Number.NaN] as const, ...pointsOf(piece)]));

/** Loss curves of several runs: validation where every run has some, else smoothed training loss. */
function comparedSeries(curves: readonly Run[][]): { label: string; series: Series[] } {
  const validated = curves.flat().every((run) => validationPoints(run).length > 1);
  const smoothed = (run: Run) => {
    const training = trainingPoints(run);
    return smooth(training, 2 * Math.ceil(training.length / 100) + 1);
  };
  const series = curves.map((pieces, i): Series => {
    const points = withGaps(pieces, validated ? validationPoints : smoothed);
    return { name: pieces[0]!.name, points, color: palette[i % palette.length]!, width: runWidth(i, curves.length) };
  });
  return { label: `${validated ? "validation" : "training"} loss (nats per token)`, series };
}

/** Loss above, learning rate below, over the same steps; decays shaded, ends of budgets marked. */
export function curvesFigure(runs: readonly Run[], options: CurveOptions = {}): Figure {
  const single = runs.length === 1 ? runs[0]! : undefined;
  const curves = piecesByName(runs);
  const loss = single ? { label: "loss (nats per token)", series: lossSeries(single) } : comparedSeries(curves);
  const range = focusRange(loss.series.map((series) => series.points));
  const rates = curves.map(
    (pieces, i): Series => ({
      name: pieces[0]!.name,
      points: withGaps(pieces, lrPoints),
      color: palette[i % palette.length]!,
      width: runWidth(i, curves.length),
      legend: false,
    }),
  );
  const highest = rates.flatMap((series) => series.points).reduce((most, [, lr]) => Math.max(most, lr), 0);
  const panels: Panel[] = [
    { ...loss, height: 280, ...(range ? { range } : {}) },
    { label: "learning rate", series: rates, height: 110, ...(highest > 0 ? { range: [0, highest * 1.05] } : {}) },
  ];
  // Runs with other budgets would shade over one another: decays are those of the first run that has any.
  const decays = runs.map(decaysOf).find((found) => found.length > 0) ?? [];
  return {
    title: options.title ?? runs.map((run) => run.name).join(" and "),
    ...(options.subtitle ? { subtitle: options.subtitle } : {}),
    xLabel: "step",
    panels,
    guides: decays.map(({ budget, end }) => ({ x: end, label: `budget ${budget + 1}: ${end}` })),
    bands: decays.map(({ start, end }) => ({ from: start, to: end })),
  };
}

/** The figure of one or several runs as SVG. */
export function curvesSvg(runs: readonly Run[], options: CurveOptions = {}): string {
  return svgFigure(curvesFigure(runs, options));
}

/** A run's smoothed training loss, drawn for the terminal. */
export function lossPlot(run: Run, size: { width?: number; height?: number } = {}): string {
  const training = trainingPoints(run);
  const curve = smooth(training, 2 * Math.ceil(training.length / 100) + 1);
  const range = focusRange([curve]);
  const last = curve.at(-1);
  return terminalPlot(curve, {
    ...size,
    title: `${run.name}: training loss${last ? `, ${shortNumber(last[1], 4)} at step ${last[0]}` : ""}`,
    xLabel: "step",
    ...(range ? { range } : {}),
  });
}
