/** Studies that keep weights only while something goes on from them, and what is carried from one machine to the next. */
import { cpSync, existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import test from "ava";
import { studyReport } from "../../ts/report/study_report.ts";
import { loadStudy } from "../../ts/study/load.ts";
import { prepareData } from "../../ts/study/local.ts";
import { checkMethod } from "../../ts/study/method.ts";
import { planStudy, type StudyPlan } from "../../ts/study/plan.ts";
import { collectResults } from "../../ts/study/results.ts";
import { StudyStore, standings } from "../../ts/study/store.ts";
import { work } from "../../ts/study/worker.ts";
import { makeStudyPlace, type StudyPlace, schedules } from "./support/studies.ts";

let place: StudyPlace;
test.before(async () => {
  place = await makeStudyPlace();
});

const sparing = { order: "replicate", checkpoints: "needed" } as const;
const two = { wsd: schedules.wsd, "wsd-s": schedules["wsd-s"] };

/** Works on a study; returns the segments it trained, in order. */
async function trained(plan: StudyPlan, store: StudyStore): Promise<string[]> {
  const ids: string[] = [];
  if (!(await work(plan, store, { onDone: ({ id }) => ids.push(id) }))) throw new Error("not finished");
  return ids;
}

const rowsOf = async (plan: StudyPlan, store: StudyStore) => (await collectResults(plan, store)).rows;

test("by replicate, one seed is finished before the next begins; weights that nothing needs go, results stay", async (t) => {
  const spec = { budgets: [8, 16], schedules: two, axes: { seed: [1, 2] } };
  const usual = await place.study("usual", spec);
  await trained(usual.plan, usual.store);
  const { plan, store } = await place.study("sparing", { ...spec, execution: sparing });
  const seeds = (await trained(plan, store)).map((id) => plan.segments.find((s) => s.id === id)!.config.seed);
  t.deepEqual(seeds, seeds.toSorted());
  t.is(seeds.length, plan.segments.length);
  t.true(plan.segments.every((s) => !store.hasWeights(s) && store.isMeasured(s)));
  t.true([...(await standings(plan, store)).values()].every((s) => s === "done"));
  for (const { id, to } of plan.segments) {
    const saved = (await store.records(id)).some((r) => r.type === "checkpoint" && r.step === to);
    t.is(
      saved,
      plan.segments.some((s) => s.parent === id),
      "an end that nothing goes on from is not written",
    );
  }
  t.deepEqual(await trained(plan, store), [], "nothing is trained again");
  t.deepEqual(await rowsOf(plan, store), await rowsOf(usual.plan, usual.store));
});

test("stopped in between, weights that something still goes on from are there", async (t) => {
  const spec = { budgets: [10, 20], schedules: two, axes: { seed: [1] }, execution: sparing };
  const { plan, store } = await place.study("between", spec);
  const stop = new AbortController();
  let left = 2;
  const finished = await work(plan, store, { signal: stop.signal, onDone: () => --left === 0 && stop.abort() });
  t.false(finished);
  const done = plan.segments.filter((s) => store.isMeasured(s));
  t.is(done.length, 2);
  const waited = done.filter((s) => plan.segments.some((c) => c.parent === s.id && !store.isMeasured(c)));
  t.true(waited.length > 0 && waited.every((s) => store.hasWeights(s)));
  t.is((await trained(plan, store)).length, plan.segments.length - 2);
});

test("metrics carried to another folder count: what is new is trained, and again only the way to it", async (t) => {
  const spec = { schedules: two, execution: sparing, axes: { seed: [1] } };
  const small = await place.study("small", { ...spec, budgets: [6, 12] });
  await trained(small.plan, small.store);
  const whole = await place.study("whole", { ...spec, budgets: [6, 12, 18] });
  await trained(whole.plan, whole.store);
  const carried = new StudyStore(join(place.folder, "carried"));
  cpSync(small.store.folder, carried.folder, { recursive: true, filter: (path) => !path.endsWith("checkpoints") });
  await carried.savePlan(small.plan);
  t.deepEqual(await trained(small.plan, carried), []);
  const again = await trained(whole.plan, carried);
  const old = new Set(small.plan.segments.map((s) => s.id));
  const wanted = whole.plan.segments.filter((s) => !old.has(s.id));
  const onTheWay = new Set(wanted.map((s) => s.id));
  for (const s of whole.plan.segments.toReversed()) if (s.parent && onTheWay.has(s.id)) onTheWay.add(s.parent);
  t.deepEqual(again.toSorted(), [...onTheWay].sort());
  t.true(again.length < whole.plan.segments.length, "branches of the first two budgets are not trained again");
  t.deepEqual(await rowsOf(whole.plan, carried), await rowsOf(whole.plan, whole.store));
});

test("a seed counts for a claim when all its losses are there", async (t) => {
  const { plan, store } = await place.study("count", { budgets: [8], schedules: two, axes: { seed: [1, 2, 3, 4, 5] } });
  const finding = (rows: Awaited<ReturnType<typeof rowsOf>>) =>
    checkMethod(plan, null, rows).find(({ text }) => text.includes("seeds"))!;
  t.true(finding([]).ok, "of the plan, before anything is trained");
  t.like(finding(await rowsOf(plan, store)), { ok: false });
  t.regex(finding(await rowsOf(plan, store)).text, /^0 of 5 seeds/);
});

test("a study makes its synthetic data, and its report says what is left above the true entropy", async (t) => {
  const data = join(place.folder, "facts");
  const { file } = await place.study("entropy", {
    budgets: [10, 20],
    schedules: two,
    set: { data: { train: data }, model: { vocab: 257 } },
    prepare: { synthetic: { language: "facts", people: 8, tokens: 4000, validationTokens: 1000, seed: 3 } },
  });
  const { spec } = await loadStudy(file);
  t.true(await prepareData(spec, data));
  t.deepEqual(readdirSync(data).sort(), ["train", "validation"]);
  t.false(await prepareData(spec, data), "what is there is not made again");
  const plan = await planStudy(spec);
  const store = new StudyStore(join(place.folder, "studies", "with-entropy"));
  await store.savePlan(plan);
  await trained(plan, store);
  const results = await collectResults(plan, store);
  for (const { loss, entropy, byEntropy } of results.rows) {
    const tokens = byEntropy!.map((c) => c.tokens).reduce((a, b) => a + b);
    const mean = byEntropy!.map((c) => c.tokens * c.loss).reduce((a, b) => a + b) / tokens;
    t.true(
      Math.abs(mean - loss!) < 1e-4,
      "the classes' losses are those of the whole, but for float32 sums of 32 tokens",
    );
    t.true(entropy! > 0.1 && entropy! < 1.5 && loss! > entropy!);
  }
  const { html, csv } = studyReport(plan, results, null);
  const { loss, entropy } = results.rows[0]!;
  t.true(html.includes("Above the true entropy") && html.includes((loss! - entropy!).toFixed(4)));
  t.regex(csv.split("\n")[0]!, /,entropy,/);
  t.false(existsSync(`${data}.partial`));
});

test("data are of text or of a language, not of both or neither", async (t) => {
  const synthetic = { language: "facts", tokens: 100 } as const;
  for (const prepare of [{}, { inputs: ["a.txt"], synthetic }])
    await t.throwsAsync(place.study("neither", { budgets: [8], schedules: two, prepare }), {
      message: /one of inputs, synthetic/,
    });
});
