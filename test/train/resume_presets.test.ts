import test from "ava";
import fc from "fast-check";
import { buildSchedule } from "../../ts/schedule/schedule.ts";
import { uniforms } from "../../ts/train/random.ts";
import { presets } from "../schedule/specs.ts";
import { checkpointFile, deterministicMetrics, makeWorkplace, stopAt, trainSmall } from "./support/runs.ts";

const seed = Number(process.env.THALWEG_TEST_SEED ?? Date.now() % 1e8);
/** Enough for the first cycles of most presets. */
const most = 150;

let workplace: string;
test.before(async () => {
  workplace = await makeWorkplace();
});

/** A random spec of a preset that fits a run of at most so many steps, and the run's last step. */
function draw(name: string) {
  for (const spec of fc.sample(presets[name]!, { seed, numRuns: 50 })) {
    const lr = { peak: 0.01, ...spec };
    try {
      const measures = { tokensPerStep: 64, sequencesPerStep: 4, totalSteps: most };
      const steps = Math.min(most, buildSchedule(lr, measures).end ?? most);
      if (steps >= 10) return { lr, steps };
    } catch {
      // does not fit: the next one
    }
  }
  throw new Error(`no spec of ${name} fits ${most} steps`);
}

for (const name of Object.keys(presets))
  test(`${name}: a run stopped twice at random steps and resumed has the bits and records of one that was not`, async (t) => {
    t.log(`seed ${seed}`);
    const { lr, steps } = draw(name);
    t.log(JSON.stringify(lr));
    const config = {
      model: { dim: 16, layers: 1, heads: 1, ffn: 16 },
      batch: { length: 16, sequences: 4, microBatch: 4 },
      evaluation: { every: 50, sequences: 4 },
      checkpoints: { every: 0, atDecays: false },
      schedule: { lr },
      steps,
    };
    const run = name.replaceAll(/\W+/g, "-");
    await trainSmall(workplace, run, { config });
    const uniform = uniforms(seed);
    const stops = [uniform(), uniform()].map((u) => 1 + Math.floor(u * (steps - 2))).sort((a, b) => a - b);
    t.log(`stopped after ${stops.join(" and ")} of ${steps}`);
    const again = `${run}-again`;
    for (const step of stops) await trainSmall(workplace, again, { config, resume: "auto", ...stopAt(step) });
    await trainSmall(workplace, again, { config, resume: "auto" });
    for (const file of ["model.safetensors", "optimizer.safetensors"])
      t.true(checkpointFile(workplace, again, steps, file).equals(checkpointFile(workplace, run, steps, file)), file);
    t.deepEqual(await deterministicMetrics(workplace, again), await deterministicMetrics(workplace, run));
  });
