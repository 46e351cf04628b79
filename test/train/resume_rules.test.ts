import test from "ava";
import { exitCodeOf } from "../../ts/base/errors.ts";
import { buildSchedule } from "../../ts/schedule/schedule.ts";
import { resolveModel } from "../../ts/train/model_config.ts";
import {
  type AskedRun,
  compareSchedule,
  type DriftPolicy,
  realisedValueAt,
  resolveDrift,
} from "../../ts/train/resume.ts";
import { runSchedule } from "../../ts/train/setup.ts";
import { extendLineage } from "../../ts/train/start.ts";
import { fakeState, smallConfig, smallSchedule } from "./support/states.ts";

const hash = "a".repeat(64);

function asked(replace: Record<string, unknown> = {}, dataHash = hash): AskedRun {
  const config = smallConfig(replace);
  const model = resolveModel(config.model, { length: config.batch.length, vocab: 257 });
  return { config, model, ...runSchedule(config), dataHash };
}

const decide = (step: number, replace: Record<string, unknown>, policy: DriftPolicy = "refuse", dataHash = hash) =>
  resolveDrift(
    { path: "checkpoints/step", state: fakeState({ step }) },
    { ...asked(replace, dataHash), savedEnd: 42 },
    policy,
  );

const schedule = (replace: object) => ({ schedule: { lr: { ...smallConfig().schedule.lr, ...replace } } });

test("an unchanged configuration goes on without a word in the lineage", (t) => {
  t.like(decide(10, {}), { reason: "resume", changed: [] });
});

test("threads, micro-batch, recompute, logging and the regular steps may change", (t) => {
  const free = {
    threads: 1,
    batch: { microBatch: 4 },
    memory: { recompute: "block" },
    log: { every: 2 },
    evaluation: { every: 3 },
    checkpoints: { every: 7, keep: 1 },
  };
  t.like(decide(10, free), { reason: "resume" });
});

test("a changed peak is refused with both values and the step, exit code 2", (t) => {
  const error = t.throws(() => decide(10, schedule({ peak: 0.02 })), {
    message: /schedule\.lr: the checkpoint has 0\.0025 at step 1, the configuration 0\.005 at step 1/,
  });
  t.is(exitCodeOf(error), 2);
});

test("model, batch, optimizer, seeds and data are refused by name", (t) => {
  const cases: [Record<string, unknown>, RegExp, string?][] = [
    [{ model: { dim: 64 } }, /model\.dim: the checkpoint has 32, the configuration 64/],
    [{ batch: { sequences: 8 } }, /batch\.sequences: the checkpoint has 4, the configuration 8/],
    [{ optimizer: { beta2: 0.99 } }, /optimizer\.beta2: the checkpoint has 0\.95/],
    [{ precision: "bf16" }, /precision: the checkpoint has fp32/],
    [{ gradientSums: "any" }, /gradientSums: the checkpoint has nothing, the configuration any/],
    [{ seed: 2 }, /\n {2}seed: /],
    [{ data: { seed: 9 } }, /data\.seed: the checkpoint has 1/],
    [{ data: { attention: "documents" } }, /data\.attention: the checkpoint has nothing, the configuration documents/],
    [{}, /data: the checkpoint has aaaaaaaaaaaa, the configuration cccccccccccc/, "c".repeat(64)],
  ];
  for (const [replace, message, data] of cases)
    t.throws(() => decide(10, replace, "refuse", data), { code: "BAD_CONFIG", message });
});

test("another future is fine while everything up to the checkpoint stays the same", (t) => {
  const longer = { ...smallConfig().schedule.lr, wsd_s: { budgets: [20, 40, 80], decay: { steps: [2, 4, 8] } } };
  t.like(decide(30, { schedule: { lr: longer } }), { reason: "extend" });
  t.like(decide(30, { schedule: { lr: longer } }, "extend"), { reason: "extend" });
});

test("extend refuses a past that differs and an end that is not later", (t) => {
  t.throws(() => decide(10, schedule({ peak: 0.02 }), "extend"), {
    message: /everything up to the checkpoint must stay/,
  });
  t.throws(() => decide(10, {}, "extend"), { message: /ends at step 42 and ended at 42 before/ });
});

test("keep trains on under the checkpoint's configuration, replace under the new one and says what changed", (t) => {
  const kept = decide(10, { ...schedule({ peak: 0.02 }), gradientSums: "any", log: { every: 3 } }, "keep");
  t.is(kept.config.schedule.lr.peak, 0.01);
  t.is(kept.config.gradientSums, "ordered");
  t.is(kept.config.log.every, 3);
  const replaced = decide(10, schedule({ peak: 0.02 }), "replace");
  t.is(replaced.config.schedule.lr.peak, 0.02);
  t.deepEqual([replaced.reason, replaced.changed], ["replace", ["schedule.lr"]]);
});

test("other data cannot be kept away, another network cannot be replaced", (t) => {
  t.throws(() => decide(10, {}, "keep", "c".repeat(64)), { message: /keep cannot bring other data back/ });
  t.throws(() => decide(10, { model: { dim: 64 } }, "replace"), { message: /model\.dim/ });
});

test("a replaced schedule is the realised one from then on, and need not be replaced again", (t) => {
  const old = smallSchedule();
  const { schedule: next } = runSchedule(smallConfig(schedule({ peak: 0.02 })));
  const lineage = extendLineage(fakeState().lineage, {
    fromStep: 10,
    reason: "replace",
    parent: "step-00000010",
    scheduleHash: next.hash,
    schedule: next.canonical,
  });
  const realised = realisedValueAt(lineage);
  t.is(realised(9), old.valueAt(9));
  t.is(realised(10), next.valueAt(10));
  const state = fakeState({ step: 20, lineage });
  t.true(compareSchedule(state, next).equal);
  t.false(compareSchedule(state, old).equal);
});

test("the realised values of a lineage are those of its schedule at every step, in and past the end", (t) => {
  const shapes = [
    smallConfig().schedule.lr,
    { peak: 1, warmup: 3, cosine: { steps: 30, floor: 0.1 } },
    { peak: 1, warmup: 0, wsd: { steps: 40, decay: { fraction: 0.2, shape: "linear" as const, floor: 0 } } },
    { peak: 1, warmup: 5, constant: {} },
  ];
  for (const spec of shapes) {
    const schedule = buildSchedule(spec, { tokensPerStep: 128 });
    const { hash: scheduleHash, canonical } = schedule;
    const realised = realisedValueAt([
      { fromStep: 0, reason: "start", parent: null, scheduleHash, schedule: canonical },
    ]);
    for (let step = 0; step < 50; step++) t.is(realised(step), schedule.valueAt(step));
  }
});

test("an interruption that changes nothing leaves no entry in the lineage", (t) => {
  const { lineage } = fakeState();
  const { scheduleHash, schedule: canonical } = lineage[0]!;
  const entry = { fromStep: 10, reason: "resume" as const, parent: "x", scheduleHash, schedule: canonical };
  t.deepEqual(extendLineage(lineage, entry), lineage);
});
