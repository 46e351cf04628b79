import { existsSync } from "node:fs";
import { rm } from "node:fs/promises";
import { join } from "node:path";
import test from "ava";
import type { StudySpecInput } from "../../ts/config/study_schema.ts";
import { mergesOf } from "../../ts/study/merge_plan.ts";
import type { StudyPlan } from "../../ts/study/plan.ts";
import { collectResults } from "../../ts/study/results.ts";
import type { StudyStore } from "../../ts/study/store.ts";
import { work } from "../../ts/study/worker.ts";
import { evaluateCheckpoint } from "../../ts/train/evaluate_checkpoint.ts";
import { mergeCheckpoints } from "../../ts/train/merge.ts";
import { makeStudyPlace, type StudyPlace } from "./support/studies.ts";

let place: StudyPlace;
test.before(async () => {
  place = await makeStudyPlace();
});

const constant = { constant: {} };
const spec = {
  set: { optimizer: { ema: 0.7 } },
  budgets: [10, 20],
  schedules: {
    decay: { lr: { wsd: { steps: "$budget", decay: { fraction: 0.4, shape: "linear" } } } },
    even: { lr: constant, weights: { merge: { over: 0.4, count: 3 } } },
    "as-decay": { lr: constant, weights: { merge: { over: "$window", count: 5, like: "linear", floor: 0.1 } } },
    ema: { lr: constant, weights: "ema" },
    last: { lr: constant },
  },
  axes: { window: [8], seed: [1] },
} satisfies Partial<StudySpecInput>;

const lossesOf = async (plan: StudyPlan, store: StudyStore) =>
  Object.fromEntries(
    (await collectResults(plan, store)).rows.map((row) => [`${row.schedule} ${row.step}`, row.loss]),
  ) as Record<string, number>;

test("merges train nothing of their own: their checkpoints are ends of segments of the trunk", async (t) => {
  const { plan } = await place.study("plan", spec);
  const { plan: without } = await place.study("without", {
    ...spec,
    schedules: { decay: spec.schedules.decay, last: spec.schedules.last },
    axes: { seed: [1] },
  });
  t.is(plan.sharing.steps, without.sharing.steps);
  t.is(mergesOf(plan).length, 4);
  const run = plan.runs.find((r) => r.schedule === "as-decay")!;
  const ends = (ids: readonly string[]) => ids.map((id) => plan.segments.find((s) => s.id === id)!.to);
  t.deepEqual(
    run.deliverables.map((d) => ends(d.merge!.sources)),
    [
      [2, 4, 6, 8, 10],
      [12, 14, 16, 18, 20],
    ],
  );
  t.deepEqual(
    run.deliverables.map((d) => d.steps.alone),
    [10, 20],
  );
});

test("merged weights and moving averages are measured as `merge` and `eval` measure them, by whichever worker", async (t) => {
  const { plan, store } = await place.study("work", spec);
  t.deepEqual(await Promise.all([work(plan, store), work(plan, store)]), [true, true]);
  const losses = await lossesOf(plan, store);
  t.is(Object.values(losses).filter((loss) => Number.isFinite(loss)).length, 10);
  const checkpoints = [12, 16, 20].map((to) => {
    const id = plan.runs
      .find((r) => r.schedule === "last")!
      .path.find((id) => plan.segments.find((s) => s.id === id)!.to === to)!;
    return store.checkpoint({ id, to });
  });
  const byHand = await mergeCheckpoints({
    paths: checkpoints,
    weighing: { kind: "uniform" },
    out: join(place.folder, "by-hand"),
  });
  const measure = { threads: 1, batch: 2 };
  t.is(losses["even 20"], (await evaluateCheckpoint({ path: byHand.path, ...measure })).loss);
  t.is(losses["ema 20"], (await evaluateCheckpoint({ path: checkpoints[2]!, average: true, ...measure })).loss);
  t.is(losses["last 20"], (await evaluateCheckpoint({ path: checkpoints[2]!, ...measure })).loss);
  t.is(new Set(Object.values(losses)).size, 10, "ten different weights");
  const states = (await collectResults(plan, store)).rows.map((row) => row.state);
  t.is(new Set(states).size, 10, "none passes for the same weights as another");
  // A merge cut short before it was measured is made again, to the same loss.
  const [first] = mergesOf(plan);
  await rm(join(store.mergedFolder(first!.id), "loss.json"));
  t.true(await work(plan, store));
  t.deepEqual(await lossesOf(plan, store), losses);
  t.true(existsSync(join(store.mergedFolder(first!.id), "loss.json")));
});

test("a merge without room and an average that no run keeps are refused by name", async (t) => {
  const one = (weights: unknown, set = {}) =>
    place.study(`refused-${JSON.stringify(weights).length}`, {
      set,
      budgets: [10],
      schedules: { only: { lr: constant, weights } as never },
    });
  await t.throwsAsync(one({ merge: { over: 2, count: 5 } }), { message: /weights\.merge\.over.*room for 5/s });
  await t.throwsAsync(one({ merge: { over: 12, count: 3 } }), { message: /weights\.merge\.over/ });
  await t.throwsAsync(one({ merge: { over: 4, count: 3, like: "linear", ema: 0.5 } }), { message: /one of like, ema/ });
  await t.throwsAsync(one("ema"), { message: /schedules\.only delivers the moving average.*optimizer\.ema/ });
});
