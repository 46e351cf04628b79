import test from "ava";
import { exitCodeOf } from "../../ts/base/errors.ts";
import { adamDefaults } from "../../ts/optim/adamw.ts";
import { DetectorSet } from "../../ts/train/detectors.ts";
import { type LoopOptions, type SavePoint, TrainingLoop } from "../../ts/train/loop.ts";
import { planMilestones } from "../../ts/train/milestones.ts";
import type { EvaluationRecord, MetricsRecord, StepRecord } from "../../ts/train/records.ts";
import { silentReporter } from "../../ts/train/reporter.ts";
import { FakeMachine, fakeBatch } from "./support/fake_machine.ts";
import { smallConfig, smallSchedule } from "./support/states.ts";

/** A loop over the small schedule with everything it did written down. */
function rig(replace: Partial<LoopOptions> = {}) {
  const machine = new FakeMachine();
  const controller = new AbortController();
  const records: MetricsRecord[] = [];
  const saves: (SavePoint & { weight: number; required: boolean })[] = [];
  const schedule = smallSchedule();
  let given = 0;
  const options: LoopOptions = {
    machine,
    nextBatch: async () => fakeBatch(given++),
    plan: {
      schedule,
      scalarsAt: (step) => ({ ...adamDefaults, lr: schedule.valueAt(step) }),
      milestones: planMilestones(smallConfig(), schedule, 42),
      end: 42,
    },
    from: { step: 0, tokens: 0, cursor: { position: 0, offset: 0 }, evaluated: true },
    logEvery: 1,
    peakFlops: 1e9,
    flopsPerToken: (length) => 250 * length,
    detectors: new DetectorSet([]),
    reporter: silentReporter,
    record: (record) => void records.push(record),
    evaluate: async () => ({ loss: 5 - machine.weight, tokens: 64 }),
    save: async (at, required) => void saves.push({ ...at, weight: machine.weight, required }),
    lastGood: async () => "The last good checkpoint is step-00000005.",
    signal: controller.signal,
    ...replace,
  };
  const steps = () => records.filter((r): r is StepRecord => r.type === "step");
  const evaluations = () => records.filter((r): r is EvaluationRecord => r.type === "evaluation");
  return { loop: new TrainingLoop(options), machine, controller, records, saves, steps, evaluations, schedule };
}

test("each step uses the rate of its own update and is recorded once, in order", async (t) => {
  const { loop, steps, schedule } = rig();
  const result = await loop.run();
  t.like(result, { step: 42, tokens: 42 * 8, stoppedBy: "end" });
  t.deepEqual(
    steps().map((s) => s.step),
    Array.from({ length: 42 }, (_, i) => i + 1),
  );
  t.true(steps().every((s) => s.lr === schedule.valueAt(s.step - 1)));
  t.true(steps().every((s) => s.phase === schedule.phaseAt(s.step - 1).kind));
  t.is(result.finalLoss, steps().at(-1)!.loss);
});

test("a step's share of the peak counts the pairs its documents have, else those of its sequences", async (t) => {
  const seen: number[] = [];
  const flopsPerToken = (length: number) => {
    seen.push(length);
    return 1000 * length;
  };
  const contexts = [undefined, 3, 1.5];
  let given = 0;
  const nextBatch = async () => {
    const context = contexts[given % 3];
    return { ...fakeBatch(given++), ...(context === undefined ? {} : { context }) };
  };
  const { loop, steps } = rig({ flopsPerToken, nextBatch, peakFlops: 1e9 });
  await loop.run();
  t.deepEqual(seen.slice(0, 4), [4, 3, 1.5, 4]);
  steps().forEach((s, i) => {
    const want = (s.tokensPerSecond * 1000 * (contexts[i % 3] ?? 4)) / 1e9;
    t.true(Math.abs(s.share! - want) <= 1e-12 * want, `step ${s.step}`);
  });
});

test("the next step is queued before the last one's numbers are awaited, and nothing is queued across a checkpoint", async (t) => {
  const { loop, machine } = rig();
  await loop.run();
  const at = (entry: string) => machine.log.indexOf(entry);
  t.true(at("queue 2") < at("update 1"), "step 2 waits on the device while step 1 runs");
  t.true(at("queue 5") > at("update 4"), "step 5 is queued after the checkpoint of step 5");
});

test("a checkpoint stands for exactly the steps before it: weight, tokens and data position", async (t) => {
  const { loop, saves, schedule } = rig();
  await loop.run();
  t.is(saves.length, 11);
  for (const save of saves) {
    let weight = 0;
    for (let step = 0; step < save.step; step++) weight += schedule.valueAt(step);
    t.is(save.weight, weight, `weight at step ${save.step}`);
    t.is(save.tokens, 8 * save.step);
    t.deepEqual(save.cursor, { position: 2 * save.step, offset: 0 });
    t.is(save.required, save.step === 42);
  }
});

test("the loss before and after each decay is measured where the decay starts and ends", async (t) => {
  const { loop, evaluations } = rig();
  await loop.run();
  t.deepEqual(
    evaluations().map((e) => `${e.step} ${e.occasion} ${e.budget}`),
    [
      "10 periodic null",
      "18 pre-decay 0",
      "20 post-decay 0",
      "30 periodic null",
      "38 pre-decay 1",
      "40 periodic null",
      "42 post-decay 1",
    ],
  );
});

test("a signal saves the last finished step, and only that", async (t) => {
  const seen: number[] = [];
  const reporter = {
    ...silentReporter,
    step: ({ record }: { record: StepRecord }) => {
      seen.push(record.step);
      if (record.step === 12) controller.abort();
    },
  };
  const { loop, saves, machine, controller, schedule } = rig({ reporter });
  const result = await loop.run();
  t.is(result.stoppedBy, "signal");
  t.is(result.step, seen.at(-1)!);
  const last = saves.at(-1)!;
  t.like(last, { step: result.step, occasion: "signal", required: true, tokens: 8 * result.step });
  let weight = 0;
  for (let step = 0; step < result.step; step++) weight += schedule.valueAt(step);
  t.is(machine.weight, weight, "no partial step counts");
});

test("a signal during the last evaluation leaves the run unfinished: its loss is measured when it goes on", async (t) => {
  const evaluate = async (signal: AbortSignal) => {
    if (first.steps().length === 42) first.controller.abort();
    signal.throwIfAborted();
    return { loss: 1, tokens: 64 };
  };
  const first = rig({ evaluate });
  t.like(await first.loop.run(), { step: 42, stoppedBy: "signal" });
  t.deepEqual(
    first.saves.filter((s) => s.step === 42).map((s) => s.occasion),
    ["post-decay"],
  );
  const from = { step: 42, tokens: 336, cursor: { position: 84, offset: 0 }, evaluated: false };
  const second = rig({ from });
  t.like(await second.loop.run(), { step: 42, stoppedBy: "end" });
  t.like(second.evaluations()[0], { step: 42, occasion: "post-decay" });
});

test("a step that is not finite stops the run with exit 3 and names the last good checkpoint", async (t) => {
  const { loop, machine, steps, saves, records } = rig();
  machine.poisonAt = 7;
  const before = saves.length;
  const error = await t.throwsAsync(() => loop.run(), {
    code: "NOT_FINITE",
    message: /step 8 is not finite.*step-00000005/s,
  });
  t.is(exitCodeOf(error), 3);
  t.is(steps().length, 7, "the bad step is no record");
  t.is(records.at(-1)!.type, "warning");
  t.true(saves.length > before);
  t.is(saves.at(-1)!.step, 5, "nothing is saved after it");
});

test("data that end stop the run with a final evaluation and checkpoint", async (t) => {
  let left = 13;
  const { loop, saves, evaluations } = rig({ nextBatch: async () => (left-- > 0 ? fakeBatch(12 - left) : null) });
  const result = await loop.run();
  t.like(result, { step: 13, stoppedBy: "data" });
  t.like(saves.at(-1), { step: 13, occasion: "final", required: true, cursor: { position: 26, offset: 0 } });
  t.is(evaluations().at(-1)!.step, 13);
});

test("a run that goes on continues step, tokens and rates, and makes up an evaluation that was cut short", async (t) => {
  const from = { step: 18, tokens: 144, cursor: { position: 36, offset: 0 }, evaluated: false };
  const { loop, steps, evaluations, saves, schedule } = rig({ from });
  const result = await loop.run();
  t.is(result.tokens, 42 * 8);
  t.is(steps()[0]!.step, 19);
  t.is(steps()[0]!.lr, schedule.valueAt(18));
  t.like(evaluations()[0], { step: 18, occasion: "pre-decay" });
  t.is(saves[0]!.step, 20, "the checkpoint it came from is not written again");
});

test("the reporter hears of every logEvery-th step and of the last", async (t) => {
  const heard: number[] = [];
  const reporter = { ...silentReporter, step: ({ record }: { record: StepRecord }) => void heard.push(record.step) };
  await rig({ reporter, logEvery: 10 }).loop.run();
  t.deepEqual(heard, [1, 10, 20, 30, 40, 42]);
});

test("an error of the device ends the run with that error", async (t) => {
  const { loop, machine } = rig();
  machine.step = () => Promise.reject(Object.assign(new Error("out of memory"), { code: "OUT_OF_MEMORY" }));
  await t.throwsAsync(() => loop.run(), { message: "out of memory" });
});
