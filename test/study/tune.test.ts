import test from "ava";
import { loadStudy } from "../../ts/study/load.ts";
import { lowestOf, PeakSearch, tuneStudy } from "../../ts/study/tune.ts";
import { work } from "../../ts/study/worker.ts";
import { makeStudyPlace, type StudyPlace } from "./support/studies.ts";

/** Searches a loss that is best at `best` (on the grid's logarithm), and tells what was tried. */
function search(start: number, lossOf: (peak: number) => number | null, limit = 8) {
  const peaks = new PeakSearch(2, limit, start);
  do peaks.record(new Map(peaks.tried.map((peak) => [peak, [lossOf(peak)]])));
  while (peaks.next());
  return peaks.result();
}

test("the grid grows until the best peak has worse ones on both sides", (t) => {
  const bowl = (best: number) => (peak: number) => Math.log2(peak / best) ** 2;
  for (const best of [0.25, 1, 4, 16]) {
    const { peak, interior, grid } = search(1, bowl(best));
    t.deepEqual([peak, interior], [best, true]);
    t.true(grid.length >= 3);
  }
});

test("an optimum beyond the limit is taken, and said to lie at the edge", (t) => {
  const { interior, grid } = search(1, (peak) => -peak, 5);
  t.deepEqual([interior, grid.length], [false, 5]);
});

test("a peak that diverges is worse than any other; when all do, the search goes down", (t) => {
  const { peak, interior } = search(8, (p) => (p > 2 ? null : Math.log2(p) ** 2));
  t.deepEqual([peak, interior], [1, true]);
});

test("the range test suggests the rate at the lowest smoothed loss, not at a lucky batch", (t) => {
  const steps = Array.from({ length: 100 }, (_, i) => ({ lr: i, loss: Math.abs(i - 60) / 10 + (i === 20 ? -2 : 0) }));
  const found = lowestOf(steps);
  t.true(found > 55 && found < 80, `${found}`);
});

let place: StudyPlace;
test.before(async () => {
  place = await makeStudyPlace();
});

test("tuning tries peaks on its own seeds and finds one for each schedule and size; a second call trains nothing", async (t) => {
  const { file, store } = await place.study("tuned", {
    budgets: [6, 12],
    schedules: { "wsd-s": { lr: { wsd_s: { budgets: "$budgets", decay: { fraction: 0.2 } } } } },
  });
  const { spec } = await loadStudy(file, [
    "schedules={wsd-s: {lr: {peak: tuned, wsd_s: {budgets: $budgets, decay: {fraction: 0.2}}}}}",
    "axes={size: [{label: narrow, set: {model: {dim: 16}}}, {label: wide, set: {model: {dim: 32}}}], seed: [1, 2]}",
    "tuning={seeds: [7], start: 0.01, limit: 3, per: [size], set: {evaluation: {sequences: 4, skip: 4}}}",
  ]);
  let trained = 0;
  const train: Parameters<typeof tuneStudy>[2]["train"] = async (plan, part) => {
    t.true(
      plan.runs.every((run) => run.replicate.seed === "7"),
      "never on the seeds of the result",
    );
    t.true(
      plan.segments.every((s) => s.config.evaluation.skip === 4),
      "on the text kept for it",
    );
    return work(plan, part, { onSegment: () => void trained++ });
  };
  const tuned = (await tuneStudy(spec, store.folder, { train }))!;
  t.deepEqual(Object.keys(tuned.peaks), ["wsd-s size=narrow", "wsd-s size=wide"]);
  for (const { grid } of Object.values(tuned.peaks)) {
    t.deepEqual(
      grid.map(({ peak }) => peak),
      [0.005, 0.01, 0.02],
    );
    t.true(grid.every(({ losses }) => losses.length === 1 && losses.every((loss) => loss! > 0)));
  }
  t.true(trained > 0);
  trained = 0;
  t.deepEqual(await tuneStudy(spec, store.folder, { train }), tuned);
  t.is(trained, 0);
});

test("without a start a range test suggests one", async (t) => {
  const { store, file } = await place.study("range", {
    budgets: [20],
    schedules: { wsd: { lr: { wsd: { steps: "$budget" } } } },
  });
  const { spec } = await loadStudy(file, [
    "schedules={wsd: {lr: {peak: tuned, wsd: {steps: $budget}}}}",
    "rangeTest={steps: 40, from: 1e-3, to: 10}",
    "tuning={seeds: [7], limit: 3}",
  ]);
  const notes: string[] = [];
  const tuned = await tuneStudy(spec, store.folder, { train: work, onNote: (text) => notes.push(text) });
  t.regex(notes[0]!, /lowest at/);
  t.is(tuned!.peaks.wsd!.grid.length, 3);
});
