import { existsSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { stringify } from "yaml";
import type { StudySpecInput } from "../../../ts/config/study_schema.ts";
import { loadStudy } from "../../../ts/study/load.ts";
import { planStudy, type StudyPlan } from "../../../ts/study/plan.ts";
import { StudyStore } from "../../../ts/study/store.ts";
import { makeWorkplace } from "../../train/support/runs.ts";

/** A run small enough to train hundreds of steps in a second. */
const base = (data: string) => ({
  name: "tiny",
  precision: "fp32",
  threads: 1,
  model: { dim: 16, layers: 1, heads: 2, ffn: 32 },
  data: { train: data },
  batch: { length: 16, sequences: 4, microBatch: 2 },
  schedule: { lr: { peak: 0.01, warmup: 2, wsd_s: { budgets: [10, 20], decay: { steps: [2, 4] } } } },
  evaluation: { every: 5, sequences: 8 },
  checkpoints: { every: 4 },
  log: { every: 1 },
});

/** Schedules over the study's budgets, decays a fifth of each. */
export const schedules = {
  wsd: { lr: { wsd: { steps: "$budget", decay: { fraction: 0.2 } } } },
  "wsd-s": { lr: { wsd_s: { budgets: "$budgets", decay: { fraction: 0.2 } } } },
  cosine: { lr: { cosine: { steps: "$budget" } } },
  constant: { lr: { constant: {} }, control: true },
};

export interface StudyPlace {
  folder: string;
  /** Writes a study file over the tiny base and works it out, with a folder of its own to run in. */
  study(name: string, spec: Partial<StudySpecInput>): Promise<{ file: string; plan: StudyPlan; store: StudyStore }>;
}

/** A place with data, a tiny base configuration and studies. */
export async function makeStudyPlace(): Promise<StudyPlace> {
  const folder = await makeWorkplace();
  const baseFile = join(folder, "base.yaml");
  await writeFile(baseFile, stringify(base(join(folder, "data"))));
  return {
    folder,
    study: async (name, spec) => {
      const file = join(folder, `${name}.yaml`);
      await writeFile(file, stringify({ name, base: "base.yaml", ...spec }));
      const plan = await planStudy((await loadStudy(file)).spec);
      const store = new StudyStore(join(folder, "studies", name));
      if (!existsSync(store.folder)) await store.savePlan(plan);
      return { file, plan, store };
    },
  };
}
