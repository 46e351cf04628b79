/**
 * What has gone wrong at resume in other trainers, by its public report, as promises of this one. Values of schedules are
 * compared without training; one real run shows that the rate used is the rate of the plan.
 */
import { join } from "node:path";
import test from "ava";
import { buildSchedule } from "../../ts/schedule/schedule.ts";
import { readMetrics } from "../../ts/train/metrics.ts";
import { resolveModel } from "../../ts/train/model_config.ts";
import { type DriftPolicy, findDrift, resolveDrift } from "../../ts/train/resume.ts";
import { runSchedule } from "../../ts/train/setup.ts";
import { makeWorkplace, stopAt, trainSmall } from "./support/runs.ts";
import { fakeState, smallConfig } from "./support/states.ts";

const lrOf = () => smallConfig().schedule.lr;

function asked(lr: object) {
  const config = smallConfig({ schedule: { lr } });
  const model = resolveModel(config.model, { length: config.batch.length, vocab: 257 });
  return { config, model, ...runSchedule(config, model), dataHash: "a".repeat(64) };
}

const decide = (step: number, lr: object, policy: DriftPolicy) =>
  resolveDrift({ path: "checkpoints/step", state: fakeState({ step }) }, { ...asked(lr), savedEnd: 42 }, policy);

test("the same number of phases of another kind is refused, not taken for the same (pith-train 55)", (t) => {
  const wsd_s = lrOf().wsd_s!;
  const linear = { ...lrOf(), wsd_s: { ...wsd_s, decay: { ...wsd_s.decay, shape: "linear" as const } } };
  t.deepEqual(
    buildSchedule(linear).phases.map((p) => [p.kind, p.start, p.end]),
    buildSchedule(lrOf()).phases.map((p) => [p.kind, p.start, p.end]),
  );
  const [drift] = findDrift(fakeState({ step: 25 }), asked(linear));
  t.is(drift?.field, "schedule.lr");
  t.throws(() => decide(25, linear, "refuse"), { code: "BAD_CONFIG" });
});

test("a changed peak is never dropped in silence: refused, or used from the first step on (Megatron 1138, 1533, 5213)", (t) => {
  const higher = { ...lrOf(), peak: 0.02 };
  t.throws(() => decide(10, higher, "refuse"), { message: /schedule\.lr/ });
  const { config, reason } = decide(10, higher, "replace");
  t.is(reason, "replace");
  t.is(runSchedule(config).schedule.valueAt(10), 0.02);
});

test("a longer cooldown may be chosen when resuming in the stable phase (epfml 3)", (t) => {
  const wsd_s = { ...lrOf().wsd_s!, decay: { ...lrOf().wsd_s!.decay, steps: [2, 12] } };
  t.is(decide(25, { ...lrOf(), wsd_s }, "refuse").reason, "extend");
});

test("nothing of a schedule needs saving: a plan without state gives every later value (torchtune 1551, nanotron 253)", (t) => {
  const { schedule } = asked(lrOf());
  const again = buildSchedule(JSON.parse(JSON.stringify(lrOf())));
  for (let step = 0; step <= 50; step++) t.is(again.valueAt(step), schedule.valueAt(step));
});

test("a resumed run neither restarts its schedule nor steps it twice, and logs the rate it uses (verl 7953, miles 1627, kohya 1653, prime-rl 983)", async (t) => {
  const workplace = await makeWorkplace();
  for (const step of [7, 19, 22]) {
    const name = `stopped-${step}`;
    await trainSmall(workplace, name, stopAt(step));
    await trainSmall(workplace, name, { resume: "auto" });
    const records = await readMetrics(join(workplace, name, "metrics.jsonl"));
    const { schedule } = asked(lrOf());
    const steps = records.filter((r) => r.type === "step");
    t.deepEqual(
      steps.map((r) => [r.step, r.lr]),
      Array.from({ length: 42 }, (_, i) => [i + 1, schedule.valueAt(i)]),
    );
  }
  const changed = { config: { schedule: { lr: { ...lrOf(), peak: 0.02 } } }, onDrift: "replace" as const };
  await trainSmall(workplace, "replaced", stopAt(9));
  const { step } = (await trainSmall(workplace, "replaced", { ...changed, resume: "auto", ...stopAt(12) })) ?? {};
  const records = await readMetrics(join(workplace, "replaced", "metrics.jsonl"));
  const lrs = new Map(records.flatMap((r) => (r.type === "step" ? [[r.step, r.lr]] : [])));
  const turned = records.findLast((r) => r.type === "resume")!.step;
  t.is(lrs.get(turned), 0.01);
  t.is(lrs.get(turned + 1), 0.02, `the first step after the resume, of ${step}`);
});
