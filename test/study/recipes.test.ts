import { readdirSync } from "node:fs";
import { join } from "node:path";
import test from "ava";
import { studyPlanText } from "../../ts/report/study_plan.ts";
import { loadStudy } from "../../ts/study/load.ts";
import { checkMethod } from "../../ts/study/method.ts";
import { planStudy } from "../../ts/study/plan.ts";

const folder = "configs/studies";
const recipes = (within: string) =>
  readdirSync(within)
    .filter((name) => name.endsWith(".yaml"))
    .sort();

test("each recipe has the size that runs here and the paper's", (t) => {
  t.deepEqual(
    recipes(join(folder, "paper")),
    recipes(folder).filter((name) => name !== "quickstart.yaml"),
  );
  t.true(recipes(folder).length >= 8);
});

for (const file of [
  ...recipes(folder).map((f) => join(folder, f)),
  ...recipes(join(folder, "paper")).map((f) => join(folder, "paper", f)),
  ...["facts.yaml", "text.yaml"].map((f) => join(folder, "one-gpu", f)),
])
  test(`${file} loads, and its plan fits together`, async (t) => {
    const { spec } = await loadStudy(file);
    const plan = await planStudy(spec, { assumePeaks: true });
    t.true(plan.segments.length > 0 && plan.sharing.steps > 0);
    t.true(plan.sharing.steps <= plan.sharing.byHand && plan.sharing.byHand <= plan.sharing.fromScratch);
    for (const { deliverables, path } of plan.runs)
      for (const { state } of deliverables) t.true(path.includes(state), "every deliverable is the end of a segment");
    for (const run of plan.runs) t.is(plan.segments.find((s) => s.id === run.path.at(-1))!.to, run.end);
    const costs = { speeds: plan.shapes.map(() => 1e5), jobs: 1, threads: 1, seconds: 1, stepsDone: 0 };
    t.true(studyPlanText(plan, costs).includes(spec.name));
    // A claim declares its margin and has seeds enough; what only running can show is not asked here.
    if (spec.kind === "claim")
      t.deepEqual(
        checkMethod(plan, null, []).filter(({ ok, text }) => !ok && /seed|margin/i.test(text)),
        [],
      );
  });
