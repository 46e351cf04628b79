import test from "ava";
import { budgetRows, budgetTable, medianGain } from "../../ts/report/budgets.ts";
import { comparisonReport, lrSum } from "../../ts/report/compare.ts";
import { curvesFigure, curvesSvg, focusRange, lossPlot, smooth } from "../../ts/report/curves.ts";
import { showSchedule } from "../../ts/report/schedule_report.ts";
import type { Point } from "../../ts/report/svg_path.ts";
import { buildSchedule } from "../../ts/schedule/schedule.ts";
import { checkXml, madeUpRun } from "./helpers.ts";

const budgets = [300, 600, 1200];
const wsds = madeUpRun("wsds", budgets, true);
const control = madeUpRun("control", budgets, false);

test("budget rows tell the losses before and after each decay, and the control's at the same steps", (t) => {
  const rows = budgetRows(wsds, control);
  t.deepEqual(
    rows.map(({ budget, start, end }) => [budget, start, end]),
    [
      [0, 270, 300],
      [1, 570, 630],
      [2, 1170, 1290],
    ],
  );
  for (const row of rows) {
    t.is(row.drop, row.before - row.after);
    t.true(row.drop > 0.1 && row.controlDrop! < 0.03);
  }
  t.true(medianGain(rows)! > 0.08);
  t.is(medianGain(budgetRows(wsds)), null);
  t.deepEqual(budgetRows(control), []);
  t.regex(budgetTable(wsds, control), /^ *3 +1290 +\d\.\d{4}/m);
});

test("a decay that was not finished has no row", (t) => {
  const cut = { ...wsds, evaluations: wsds.evaluations.filter((evaluation) => evaluation.step < 630) };
  t.is(budgetRows(cut).length, 1);
});

test("a run of which nothing was recorded is shown as nothing", (t) => {
  const empty = { name: "empty", steps: [], evaluations: [] };
  const { text, svg } = comparisonReport([empty, wsds]);
  t.regex(text, /^empty +0 +0 +- +- +- +- +- +- +0 +-$/m);
  t.notThrows(() => checkXml(svg));
});

test("runs of equal name are told apart by number", (t) => {
  t.deepEqual(
    comparisonReport([wsds, control, wsds]).summaries.map((run) => run.name),
    ["wsds", "control", "wsds (2)"],
  );
});

test("the sum of the learning rate is that of the schedule, also from every tenth record", (t) => {
  const schedule = buildSchedule({ peak: 4e-3, warmup: 30, wsd_s: { budgets } });
  const exact = showSchedule(schedule).sums.sum;
  t.true(Math.abs(lrSum(wsds) - exact) < 1e-9);
  const sparse = wsds.steps.filter((record) => record.step % 10 === 0);
  // a record stands for the ten steps up to it: within a part of a per cent over the ramps
  t.true(Math.abs(lrSum({ steps: sparse }) / exact - 1) < 0.01);
});

test("figures of runs are well formed; decays are shaded and budgets marked", (t) => {
  const figure = curvesFigure([wsds]);
  t.deepEqual(
    figure.guides?.map((guide) => guide.label),
    ["budget 1: 300", "budget 2: 630", "budget 3: 1290"],
  );
  t.deepEqual(figure.bands, [
    { from: 270, to: 300 },
    { from: 570, to: 630 },
    { from: 1170, to: 1290 },
  ]);
  t.is(figure.panels.length, 2);
  for (const runs of [[wsds], [wsds, control], [{ name: "empty", steps: [], evaluations: [] }]])
    t.notThrows(() => checkXml(curvesSvg(runs)));
  t.true(curvesSvg([wsds]).length < 40_000);
});

test("comparing gives a line for each run and a column for each budget", (t) => {
  const { text, csv } = comparisonReport([wsds, control]);
  const lines = text.split("\n");
  t.is(lines.length, 4);
  t.regex(lines[0]!, /budget 1 +budget 2 +budget 3/);
  t.is(csv.split("\n").filter((line) => line.startsWith("control,training,")).length, 1290);
});

test("smoothing never mixes losses across a break, and leaves a constant alone", (t) => {
  const step = Array.from({ length: 40 }, (_, i): Point => [i, i <= 20 ? 1 : 3]);
  t.deepEqual(smooth(step, 11, [20]), step);
  t.notDeepEqual(smooth(step, 11), step);
});

test("the loss axis leaves out the first tenth's fall but no later value", (t) => {
  const curve = Array.from({ length: 100 }, (_, i): Point => [i, i < 5 ? 10 : i === 60 ? 4 : 2]);
  const [low, high] = focusRange([curve])!;
  t.true(low < 2 && high > 4 && high < 5);
  t.is(focusRange([[]]), undefined);
});

test("the loss plot names the run and its last loss", (t) => {
  t.regex(lossPlot(wsds), /^wsds: training loss, 1\.\d+ at step 1290\n/);
});

test("a schedule's report has its phases, budgets, totals and every value", (t) => {
  const schedule = buildSchedule(
    { peak: 1, warmup: 10, wsd: { steps: 100, decay: { shape: "linear", floor: 0 } } },
    { tokensPerStep: 1000 },
  );
  const report = showSchedule(schedule, { name: "small" });
  t.deepEqual(
    report.rows.map(({ kind, start, end, steps, tokens, from }) => [kind, start, end, steps, tokens, from]),
    [
      ["warmup", 0, 10, 10, 10_000, 0],
      ["stable", 10, 90, 80, 80_000, 1],
      ["decay", 90, 100, 10, 10_000, 1],
    ],
  );
  // warm-up 0 + 0.1 + ... + 0.9 = 4.5, stable 80, decay 1 + 0.9 + ... + 0.1 = 5.5
  t.true(Math.abs(report.sums.sum - 90) < 1e-9);
  t.is(report.sums.atPeak, 0.81);
  const rows = report.csv.trim().split("\n");
  t.is(rows.length, 101);
  t.is(rows[1], "0,0");
  t.is(Number(rows[96]!.split(",")[1]), schedule.valueAt(95));
  t.notThrows(() => checkXml(report.svg));
  t.regex(report.text, /100 steps, 100k tokens; sum of lr 90, mean 0.9, 81% at the peak/);
});

test("a run that stops before its schedule's end shows only what it reaches", (t) => {
  const schedule = buildSchedule({ peak: 1, wsd_s: { budgets: [100, 200] } });
  const report = showSchedule(schedule, { steps: 150 });
  t.is(report.sums.steps, 150);
  t.is(report.rows.at(-1)?.start, 100);
  t.regex(showSchedule(schedule, { steps: 205 }).text, /210 \(not reached\)/);
});

test("a schedule without an end is shown for a while, as open", (t) => {
  const report = showSchedule(buildSchedule({ peak: 1, warmup: 10, constant: {} }));
  t.is(report.rows.at(-1)?.end, null);
  t.regex(report.text, /stable +10 +open/);
});
