import test from "ava";
import { exitCodeOf } from "../../ts/base/errors.ts";
import { buildModule } from "../../ts/model/build.ts";
import { adamw } from "../../ts/optim/adamw.ts";
import { formatDryRun } from "../../ts/report/dry_run.ts";
import { buildScalars } from "../../ts/schedule/scalars.ts";
import { dryRun } from "../../ts/train/dryrun.ts";
import { checkMicroBatch, chooseMicroBatch } from "../../ts/train/microbatch.ts";
import { planMilestones } from "../../ts/train/milestones.ts";
import { groupRules, resolveModel } from "../../ts/train/model_config.ts";
import { planWarnings } from "../../ts/train/plan.ts";
import { planRun } from "../../ts/train/setup.ts";
import { smallConfig, smallModel, smallSchedule } from "./support/states.ts";

const brief = (config = smallConfig(), end: number | null = 42) =>
  planMilestones(config, smallSchedule(), end)
    .between(0, end ?? 100)
    .map(
      (m) =>
        `${m.step} ${m.occasion}${m.budget === null ? "" : m.budget}${m.evaluate ? " e" : ""}${m.save ? " s" : ""}`,
    );

test("a run evaluates and saves before and after each decay, at regular steps and at the end", (t) => {
  t.deepEqual(brief(), [
    "5 periodic s",
    "10 periodic e s",
    "15 periodic s",
    "18 pre-decay0 e s",
    "20 post-decay0 e s",
    "25 periodic s",
    "30 periodic e s",
    "35 periodic s",
    "38 pre-decay1 e s",
    "40 periodic e s",
    "42 post-decay1 e s",
  ]);
});

test("finalOnly saves at the end alone; a run stopped early ends with a final checkpoint", (t) => {
  const config = smallConfig({ checkpoints: { finalOnly: true }, evaluation: { every: 0 } });
  t.deepEqual(brief(config, 30), ["18 pre-decay0 e", "20 post-decay0 e", "30 final e s"]);
});

test("an open run has regular milestones without end", (t) => {
  const config = smallConfig({
    evaluation: { every: 0, atDecays: false },
    checkpoints: { every: 40, atDecays: false },
  });
  t.deepEqual(brief(config, null), ["40 periodic s", "80 periodic s"]);
});

test("the micro-batch is the largest divisor of the batch that fits the limit", (t) => {
  const question = { sequences: 12, length: 32, needs: (n: number) => 100 * n };
  t.is(chooseMicroBatch({ ...question, limit: 10_000 }), 12);
  t.is(chooseMicroBatch({ ...question, limit: 599 }), 4);
  t.is(chooseMicroBatch({ ...question, limit: 100 }), 1);
  const error = t.throws(() => chooseMicroBatch({ ...question, limit: 99 }), {
    message: /100 B, but 99 B may be used/,
  });
  t.is(exitCodeOf(error), 4);
});

test("a micro-batch that does not divide the batch is refused with those that do", (t) => {
  const plan = { sequences: 12, limit: 300, needs: (n: number) => 100 * n };
  t.is(checkMicroBatch(3, plan), 3);
  t.throws(() => checkMicroBatch(5, plan), { code: "BAD_CONFIG", message: /12, 6, 4, 3, 2, 1/ });
  t.throws(() => checkMicroBatch(4, plan), {
    code: "OUT_OF_MEMORY",
    message: /needs 400 B, but memory.limit is 300 B/,
  });
});

const question = {
  config: smallConfig(),
  schedule: smallSchedule(),
  end: 42,
  epochSequences: 1000,
  validationSequences: 100,
};

test("plan-does-not-fit is silent about a plan that fits, but for decays shorter than AdamW's memory", (t) => {
  const calm = { ...question, config: smallConfig({ optimizer: { beta2: 0.5 } }) };
  t.deepEqual(planWarnings(calm), []);
  const [warning] = planWarnings(question);
  t.regex(warning!.message, /budget 1 takes 2 steps, less than the 20 steps/);
  t.is(warning!.detector, "plan-does-not-fit");
});

test("plan-does-not-fit names budgets that the run never reaches", (t) => {
  const messages = planWarnings({ ...question, end: 30 }).map((w) => w.message);
  t.true(messages.some((m) => /stops at step 30, before the end of budget 2 \(decay of steps 38 to 42\)/.test(m)));
});

test("plan-does-not-fit says how often data repeat, or where they end", (t) => {
  const config = (onEnd: string) => smallConfig({ optimizer: { beta2: 0.5 }, data: { onEnd } });
  const scarce = { ...question, epochSequences: 84 };
  t.regex(planWarnings({ ...scarce, config: config("repeat") })[0]!.message, /2\.0 times: 42 steps of 4 sequences/);
  t.regex(planWarnings({ ...scarce, config: config("stop") })[0]!.message, /ends after 21 steps, but the plan has 42/);
});

test("plan-does-not-fit says when there is nothing to validate on", (t) => {
  const config = smallConfig({ optimizer: { beta2: 0.5 } });
  const [warning] = planWarnings({ ...question, config, validationSequences: 0 });
  t.regex(warning!.message, /asks for 8 validation sequences, the data has 0/);
});

test("a plan whose device gives other bits each time is warned of, and only that one", (t) => {
  const ask = (repeatable: boolean) => planWarnings({ ...question, config: smallConfig(), repeatable });
  const said = (repeatable: boolean) => ask(repeatable).filter((w) => w.detector === "other-bits");
  t.deepEqual(said(true), []);
  t.regex(said(false)[0]!.message, /gradientSums is any, .* no two runs will have the same bits/);
  const plan = planRun(smallConfig({ gradientSums: "any" }), facts);
  t.true(plan.dryRun.repeatable, "the CPU's order costs nothing, so it keeps it");
});

test("a dry run counts parameters, memory, FLOPs, tokens, epochs, checkpoints and disk", (t) => {
  const config = smallConfig();
  const model = smallModel();
  const built = buildModule(model, {
    precision: "f32",
    microBatch: 2,
    length: 32,
    kinds: ["accumulate", "update", "evaluate"],
    update: adamw({ groups: groupRules(config.optimizer.groups) }),
  });
  const engine = { packedBytes: 1000, workspaceBytes: 500, repeatable: true };
  const run = dryRun({
    ...question,
    scalars: buildScalars(config),
    config,
    model,
    built,
    engine,
    microBatch: 2,
    epochSequences: 84,
  });
  // 2 embeddings of 257 x 32; per layer 4 x 32 x 32 attention, 3 x 64 x 32 MLP, 2 norms; the final norm.
  const linear = 2 * (4 * 32 * 32 + 3 * 64 * 32) + 257 * 32;
  t.deepEqual(run.parameters.byKind, { embedding: 257 * 32, linear, norm: 5 * 32 });
  t.is(run.parameters.total, linear + 257 * 32 + 5 * 32);
  const { total, ...purposes } = run.memory;
  const { scratchByPurpose: _, ...bytes } = purposes;
  t.is(
    Object.values(bytes).reduce((a, b) => a + b, 0),
    total,
    "the purposes sum to the total",
  );
  t.is(run.tokens, 42 * 128);
  t.is(run.epochs, (42 * 4) / 84);
  t.is(run.checkpoints.length, 11);
  t.is(run.checkpointBytes, 12 * run.parameters.total);
  t.is(run.diskBytes, (4 + 2 + 1) * run.checkpointBytes, "4 pinned, 2 kept, 1 being written");
});

test("a dry run says that FLOPs of whole sequences are the most there are inside documents", (t) => {
  const page = (attention: string) =>
    formatDryRun(planRun(smallConfig({ data: { attention }, threads: 1 }), facts).dryRun);
  t.regex(page("documents"), /FLOPs per token +\S+ at most, less inside documents\nFLOPs of the run +\S+ at most/);
  t.notRegex(page("sequence"), /FLOPs.* at most/);
});

test("the model takes the tokenizer's vocabulary and the batch's length, and refuses a smaller vocabulary", (t) => {
  const context = { length: 64, vocab: 257 };
  t.like(resolveModel({ preset: "quickstart" }, context), { vocab: 257, maxLength: 64, dim: 64, headDim: 16 });
  t.like(resolveModel({ preset: "quickstart", dim: 96, heads: 2 }, context), { dim: 96, kvHeads: 2, headDim: 48 });
  t.throws(() => resolveModel({ preset: "quickstart", vocab: 256 }, context), { message: /tokenizer has 257 tokens/ });
  t.throws(() => resolveModel({ preset: "quickstart", dim: 33, heads: 2 }, context), {
    message: /model\.dim is 33 and model\.heads 2; expected a multiple/,
  });
});

const facts = { vocab: 257, epochSequences: 1000, validationSequences: 100 };

test("auto takes the micro-batch that fits memory.limit, the saved one on resume, and a dry run describes any run", (t) => {
  const limited = (limit: number) => smallConfig({ batch: { microBatch: "auto" }, memory: { limit } });
  const total = (microBatch: number) => planRun(smallConfig({ batch: { microBatch } }), facts).dryRun.memory.total;
  t.true(total(2) < total(4));
  t.is(planRun(limited(total(4)), facts).microBatch, 4);
  t.is(planRun(limited(total(4) - 1), facts).microBatch, 2);
  t.is(planRun(limited(total(4)), facts, { savedMicroBatch: 1 }).microBatch, 1);
  t.throws(() => planRun(limited(1000), facts), { code: "OUT_OF_MEMORY" });
  const fixed = smallConfig({ batch: { microBatch: 4 }, memory: { limit: total(4) - 1 } });
  t.throws(() => planRun(fixed, facts), { code: "OUT_OF_MEMORY" });
  const described = planRun(limited(1000), facts, { describeOnly: true });
  t.is(described.microBatch, 1);
  t.regex(described.dryRun.warnings.at(-1)!.message, /this machine: one sequence of 32 tokens needs/);
});
