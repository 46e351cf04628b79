import { readFileSync } from "node:fs";
import { join } from "node:path";
import test from "ava";
import { expandStudy } from "../../ts/study/expand.ts";
import { loadStudy } from "../../ts/study/load.ts";
import { work } from "../../ts/study/worker.ts";
import { runTraining } from "../../ts/train/run.ts";
import { makeStudyPlace, type StudyPlace, schedules } from "./support/studies.ts";

let place: StudyPlace;
test.before(async () => {
  place = await makeStudyPlace();
});

const tensors = ["model.safetensors", "optimizer.safetensors"];

test("every deliverable of a study has the bits that its run has when it is trained alone", async (t) => {
  const { file, plan, store } = await place.study("bits", { budgets: [10, 20, 40], schedules, axes: { seed: [1, 2] } });
  t.true(await work(plan, store));
  const runs = await expandStudy((await loadStudy(file)).spec);
  for (const [i, run] of runs.entries()) {
    const runDir = join(place.folder, "alone", String(i));
    await runTraining({ config: { ...run.config, checkpoints: { ...run.config.checkpoints, every: 1, keep: 99 } }, runDir, measurePeak: false });
    for (const { state, step } of plan.runs[i]!.deliverables) {
      const shared = store.checkpoint({ id: state, to: step });
      const alone = join(runDir, "checkpoints", `step-${String(step).padStart(8, "0")}`);
      for (const name of tensors)
        t.true(readFileSync(join(shared, name)).equals(readFileSync(join(alone, name))), `${run.config.name} ${step} ${name}`);
      const [a, b] = [shared, alone].map((folder) => JSON.parse(readFileSync(join(folder, "state.json"), "utf8")));
      t.deepEqual(a.data, b.data, "the data go on where they stood");
    }
  }
});
