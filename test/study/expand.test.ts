import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import test from "ava";
import { type StudySpec, type StudySpecInput, studySchema } from "../../ts/config/study_schema.ts";
import { combinations } from "../../ts/study/combine.ts";
import { expandStudy } from "../../ts/study/expand.ts";
import { loadStudy } from "../../ts/study/load.ts";
import { makeStudyPlace, type StudyPlace, schedules } from "./support/studies.ts";

let place: StudyPlace;
test.before(async () => {
  place = await makeStudyPlace();
});

const specOf = (given: Partial<StudySpecInput>): StudySpec =>
  studySchema.parse({ name: "s", base: join(place.folder, "base.yaml"), ...given });

const labels = (given: Partial<StudySpecInput>): string[] =>
  combinations(specOf(given)).map((one) =>
    Object.values(one)
      .map((choice) => choice.label)
      .join(" "),
  );

test("axes combine all with all, zipped axes step together, a list adds what it says", (t) => {
  t.deepEqual(labels({ axes: { seed: [1, 2], "optimizer.beta2": [0.9, 0.95] } }), [
    "1 0.9",
    "1 0.95",
    "2 0.9",
    "2 0.95",
  ]);
  const zip = { axes: { a: [1, 2], b: ["x", "y"], seed: [7] }, combine: { zip: [["a", "b"]] } };
  t.deepEqual(labels(zip), ["1 x 7", "2 y 7"]);
  t.deepEqual(labels({ axes: { a: [1], b: [2] }, combine: { list: [{ a: 5, b: 6 }] } }), ["1 2", "5 6"]);
  t.throws(() => labels({ axes: { a: [1, 2], b: [3] }, combine: { zip: [["a", "b"]] } }), {
    message: /the same number/,
  });
  t.throws(() => labels({ axes: { a: [1], b: [2] }, combine: { list: [{ a: 5 }] } }), { message: /lacks b/ });
});

test("a random combination is the same for its seed, never repeats while the grid lasts, and keeps all replicates", (t) => {
  const spec = (seed: number) => ({
    axes: { a: [1, 2, 3, 4], seed: [1, 2], peak: { logUniform: [1e-3, 1e-1] as [number, number] } },
    combine: { random: { seed, count: 4 } },
  });
  t.deepEqual(labels(spec(5)), labels(spec(5)));
  t.notDeepEqual(labels(spec(5)), labels(spec(6)));
  const drawn = combinations(specOf(spec(5)));
  t.is(drawn.length, 8);
  t.is(new Set(drawn.map((one) => one.a!.label)).size, 4);
  for (const { peak } of drawn) t.true(Number(peak!.label) >= 1e-3 && Number(peak!.label) <= 1e-1);
  t.throws(() => labels({ axes: { peak: { uniform: [1, 2] } } }), { message: /combine.random/ });
});

test("a schedule that says $budget has a run for each budget, one that says $budgets is a chain", async (t) => {
  const runs = await expandStudy(specOf({ budgets: [10, 20, 40], schedules, axes: { seed: [1] } }));
  const of = (name: string) => runs.filter((run) => run.schedule === name);
  t.deepEqual(
    of("wsd").map((run) => run.end),
    [10, 20, 40],
  );
  t.deepEqual(
    of("wsd-s").map((run) => run.deliverables.map((d) => d.step)),
    [[10, 22, 46]],
  );
  t.deepEqual(
    of("cosine").map((run) => run.deliverables.map((d) => [d.budget, d.nominal, d.step])),
    [[[0, 10, 10]], [[1, 20, 20]], [[2, 40, 40]]],
  );
  t.deepEqual(
    of("constant").map((run) => run.deliverables.map((d) => d.step)),
    [[10, 20, 40]],
  );
  t.true(of("constant")[0]!.control);
});

test("$end lays a schedule out at N_k, the budgets with the decays before them", async (t) => {
  const more = { ...schedules, "cosine-n": { lr: { cosine: { steps: "$end" } } } };
  const runs = await expandStudy(specOf({ budgets: [10, 20, 40], schedules: more }));
  t.deepEqual(
    runs.filter((run) => run.schedule === "cosine-n").map((run) => run.end),
    [10, 22, 46],
  );
  const { "wsd-s": _, ...without } = more;
  await t.throwsAsync(expandStudy(specOf({ budgets: [10, 20], schedules: without })), {
    message: /\$budgets in one run/,
  });
});

test("an axis sets a field, stands for a $NAME, or brings fields with it; one that does nothing is refused", async (t) => {
  const runs = await expandStudy(
    specOf({
      budgets: [20],
      schedules: { wsd: { lr: { peak: "$peak", wsd: { steps: "$budget", decay: { fraction: "$fraction" } } } } },
      axes: {
        fraction: [0.1, 0.2],
        peak: [0.02],
        "optimizer.beta2": [0.9],
        size: [{ label: "wide", set: { model: { dim: 32 } } }],
      },
    }),
  );
  t.deepEqual(
    runs.map((run) => run.plan.budgets[0]!.decayStart),
    [18, 16],
  );
  for (const { config, plan } of runs) {
    t.is(plan.peak, 0.02);
    t.is(config.optimizer.beta2, 0.9);
    t.is(config.model.dim, 32);
  }
  await t.throwsAsync(expandStudy(specOf({ axes: { nonsense: [1] } })), { message: /changes nothing/ });
  await t.throwsAsync(expandStudy(specOf({ schedules: { a: { lr: { peak: "$pek" } } } })), {
    message: /\$pek; known here/,
  });
});

test("a tuned peak comes from tuning; without one the study is refused unless it is only planned", async (t) => {
  const spec = specOf({ budgets: [20], schedules: { wsd: { lr: { peak: "tuned", wsd: { steps: "$budget" } } } } });
  const [tuned] = await expandStudy(spec, { tuned: { wsd: 0.03 } });
  t.is(tuned!.plan.peak, 0.03);
  const [assumed] = await expandStudy(spec, { assumePeaks: true });
  t.is(assumed!.plan.peak, 0.01);
  await t.throwsAsync(expandStudy(spec), { message: /thalweg tune/ });
});

test("a study extends another, mapping by mapping, and tells the line of what is wrong", async (t) => {
  const parent = join(place.folder, "parent.yaml");
  const child = join(place.folder, "child.yaml");
  await writeFile(parent, "name: parent\nbase: base.yaml\nbudgets: [10, 20]\naxes:\n  seed: [1, 2]\nmargin: 0.01\n");
  await writeFile(child, "extends: parent.yaml\nname: child\naxes:\n  seed: [3]\n");
  const { spec } = await loadStudy(child, ["alpha=0.1"]);
  t.deepEqual([spec.name, spec.budgets, spec.axes.seed, spec.margin, spec.alpha], ["child", [10, 20], [3], 0.01, 0.1]);
  await writeFile(child, "extends: parent.yaml\nmargin: null\naxes: { seed: null, peak: [1] }\n");
  const { margin, axes } = (await loadStudy(child)).spec;
  t.deepEqual({ margin, axes }, { margin: undefined, axes: { peak: [1] } }, "null takes back");
  await writeFile(child, "extends: parent.yaml\nname: child\nbudget: [3]\n");
  await t.throwsAsync(loadStudy(child), { message: /child\.yaml:3 .*Did you mean budgets\?/ });
  await writeFile(parent, "name: parent\nextends: child.yaml\n");
  await t.throwsAsync(loadStudy(child), { message: /circle/ });
});
