import { readFileSync } from "node:fs";
import { join } from "node:path";
import test from "ava";
import { expandStudy } from "../../ts/study/expand.ts";
import { loadStudy } from "../../ts/study/load.ts";
import { standings } from "../../ts/study/store.ts";
import { work } from "../../ts/study/worker.ts";
import { runTraining } from "../../ts/train/run.ts";
import { makeStudyPlace, type StudyPlace, schedules } from "./support/studies.ts";

let place: StudyPlace;
test.before(async () => {
  place = await makeStudyPlace();
});

const tensors = ["model.safetensors", "optimizer.safetensors"];

test("every deliverable of a study has the bits that its run has when it is trained alone", async (t) => {
  const { file, plan, store } = await place.study("bits", { budgets: [10, 20, 40], schedules, axes: { seed: [3] } });
  t.true(await work(plan, store));
  const runs = await expandStudy((await loadStudy(file)).spec);
  for (const [i, run] of runs.entries()) {
    const runDir = join(place.folder, "alone", String(i));
    await runTraining({
      config: { ...run.config, checkpoints: { ...run.config.checkpoints, every: 1, keep: 99 } },
      runDir,
      measurePeak: false,
    });
    for (const { state, step } of plan.runs[i]!.deliverables) {
      const shared = store.checkpoint({ id: state, to: step });
      const alone = join(runDir, "checkpoints", `step-${String(step).padStart(8, "0")}`);
      for (const name of tensors)
        t.true(
          readFileSync(join(shared, name)).equals(readFileSync(join(alone, name))),
          `${run.config.name} ${step} ${name}`,
        );
      const [a, b] = [shared, alone].map((folder) => JSON.parse(readFileSync(join(folder, "state.json"), "utf8")));
      t.deepEqual(a.data, b.data, "the data go on where they stood");
    }
  }
});

test("an axis value that is added trains only what is new", async (t) => {
  const small = { schedules: { wsd: schedules.wsd, "wsd-s": schedules["wsd-s"] } };
  const first = await place.study("first", { ...small, budgets: [10, 20], axes: { seed: [1] } });
  t.true(await work(first.plan, first.store));
  const more = await place.study("more", { ...small, budgets: [10, 20, 40], axes: { seed: [1, 2] } });
  await first.store.savePlan(more.plan);
  const trained: string[] = [];
  t.true(await work(more.plan, first.store, { onSegment: ({ id }) => trained.push(id) }));
  const old = new Set(first.plan.segments.map((s) => s.id));
  t.true(first.plan.segments.every((s) => more.plan.segments.some((m) => m.id === s.id)));
  t.deepEqual(
    trained.toSorted(),
    more.plan.segments
      .map((s) => s.id)
      .filter((id) => !old.has(id))
      .sort(),
  );
});

test("two workers on one folder never train the same segment", async (t) => {
  const { plan, store } = await place.study("two", { budgets: [6, 12], schedules, axes: { seed: [1, 2] } });
  const trained: string[] = [];
  const onSegment = ({ id }: { id: string }) => trained.push(id);
  t.deepEqual(await Promise.all([work(plan, store, { onSegment }), work(plan, store, { onSegment })]), [true, true]);
  t.deepEqual(trained.toSorted(), plan.segments.map((s) => s.id).sort());
});

test("a run that diverges is recorded, what follows it is not tried, and everything else is finished", async (t) => {
  const { plan, store } = await place.study("diverges", {
    set: { optimizer: { clip: 0 }, checkpoints: { every: 0 } },
    budgets: [10, 20],
    schedules: { wsd: { lr: { peak: "$peak", wsd: { steps: "$budget", decay: { fraction: 0.2 } } } } },
    axes: { peak: [0.01, 1e30] },
  });
  t.true(await work(plan, store));
  const all = [...(await standings(plan, store)).entries()];
  const of = (standing: string) => all.filter(([, found]) => found === standing).length;
  t.is(of("failed"), 1);
  t.is(of("blocked"), plan.segments.length / 2 - 1);
  t.is(of("done"), plan.segments.length / 2);
});
