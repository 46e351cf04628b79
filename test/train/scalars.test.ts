import { join } from "node:path";
import test from "ava";
import type { RunConfig } from "../../ts/config/schema.ts";
import { adamScalars } from "../../ts/optim/adamw.ts";
import { buildScalars } from "../../ts/schedule/scalars.ts";
import { readMetrics } from "../../ts/train/metrics.ts";
import { decisive } from "../../ts/train/resume.ts";
import { checkpointFile, deterministicMetrics, makeWorkplace, stopAt, trainSmall } from "./support/runs.ts";
import { smallConfig, smallModel } from "./support/states.ts";

const lr = smallConfig().schedule.lr;
const scalars = (schedule: object, more: object = {}) => buildScalars(smallConfig({ schedule, ...more }));

test("without schedules every scalar is the optimizer's, at every step", (t) => {
  const { at, end } = scalars({});
  t.is(end, 42);
  t.deepEqual(at(10), { lr: 0.01, weightDecay: 0.1, beta1: 0.9, beta2: 0.95, clip: 1 });
});

test("weight decay, betas and clip have schedules of their own, with the optimizer's value as peak and the run's end as end", (t) => {
  const made = scalars({
    weightDecay: { linear: { floor: 0 } },
    beta2: { peak: 0.999, phases: [{ steps: 38, from: 0.95 }, { to: 1 }] },
    clip: {
      peak: 2,
      table: {
        points: [
          [0, 1],
          [20, 0.5],
        ],
        interpolation: "hold",
      },
    },
  });
  t.is(made.at(0).weightDecay, 0.1);
  t.true(Math.abs(made.at(21).weightDecay - 0.05) < 1e-15);
  t.is(made.at(42).weightDecay, 0);
  t.deepEqual(
    [0, 19, 20, 41].map((s) => made.at(s).clip),
    [2, 2, 1, 1],
  );
  t.true(Math.abs(made.at(10).beta2 - 0.999 * 0.95) < 1e-15 && made.at(41).beta2 > made.at(39).beta2);
});

test("weight decay that follows the learning rate keeps their ratio (AdamC), also through a decay that cuts in", (t) => {
  const interruptions = [{ at: 10, steps: 6, shape: "linear", floor: 0 }];
  const { at } = scalars({ lr: { ...lr, interruptions }, weightDecay: { follow_lr: {} } });
  for (const step of [0, 2, 9, 12, 15]) t.true(Math.abs(at(step).weightDecay - 10 * at(step).lr) < 1e-15);
});

test("bias corrections of scheduled betas are products of the betas used; a constant schedule gives the constant's", (t) => {
  const varying = scalars({ beta2: { peak: 0.99, linear: { steps: 40, floor: 0.5 } } });
  let product = 1;
  for (let step = 0; step < 30; step++) product *= Math.fround(varying.at(step).beta2);
  t.is(varying.at(29).beta2Product, product);
  t.is(
    scalars({ beta2: { peak: 0.99, linear: { steps: 40, floor: 0.5 } } }).at(29).beta2Product,
    product,
    "asked at once",
  );
  const flat = scalars({ beta1: { constant: {} } }).at(5);
  const given = { step: 5, eps: 1e-8, lossScale: 1 };
  const [a, b] = [adamScalars({ ...given, ...flat }), adamScalars({ ...given, ...scalars({}).at(5) })];
  // A product of six factors against a power: an ulp of float64, gone in float32.
  t.deepEqual(a, b);
});

test("refused: a beta of 1 or more, a scalar without a value to begin with", (t) => {
  t.throws(() => scalars({ beta2: { peak: 1, constant: {} } }), {
    message: /schedule\.beta2\.peak is 1; expected above 0 and below 1/,
  });
  t.throws(() => scalars({ clip: { constant: {} } }, { optimizer: { clip: 0 } }), {
    message: /schedule\.clip\.peak is 0/,
  });
});

const batch = {
  stages: [
    { at: 10, sequences: 8 },
    { at: "4608 tokens", sequences: 16 },
  ],
};

test("the batch changes at steps or tokens, tokens are counted, and the learning rate follows its rule", (t) => {
  const grown = scalars({ batch: { ...batch, lr: "sqrt" } });
  // 10 steps of 4 x 32 tokens = 1280, then 8 x 32 a step: 4608 tokens are read after 10 + 13 steps.
  t.deepEqual([0, 9, 10, 22, 23, 40].map(grown.batch.sequencesAt), [4, 4, 8, 8, 16, 16]);
  t.deepEqual([0, 10, 23, 24].map(grown.batch.tokensAt), [0, 1280, 4608, 5120]);
  t.is(grown.batch.stepAt(4608), 23);
  const kept = scalars({ batch });
  for (const [step, factor] of [
    [9, 1],
    [12, Math.SQRT2],
    [19, Math.SQRT2],
    [30, 2],
    [41, 2],
  ] as const)
    t.true(Math.abs(grown.at(step).lr - factor * kept.at(step).lr) < 1e-15, `step ${step}`);
  const linear = scalars({ batch: { ...batch, lr: "linear" } });
  t.true(Math.abs(linear.at(30).lr - 4 * kept.at(30).lr) < 1e-15);
});

test("where the batch changes, lengths in tokens count from the start, and those that do not are refused", (t) => {
  const stages = [{ at: 10, sequences: 8 }];
  const lrOf = (budget: string, steps: number | string = 2) => ({
    peak: 1,
    wsd_s: { budgets: [budget], decay: { steps } },
  });
  t.is(scalars({ lr: lrOf("6400 tokens"), batch: { stages } }).end, 30); // 1280 + 20 * 256
  t.throws(() => scalars({ lr: lrOf("6400 tokens", "512 tokens"), batch: { stages } }), {
    message: /decay\.steps is 512 tokens, but the batch changes under way/,
  });
});

test("scheduled scalars decide bits: they are drift; one that follows the learning rate is known by its spec", (t) => {
  const identity = (schedule: object) => {
    const config = smallConfig({ schedule }) as RunConfig;
    return decisive({ config, model: smallModel() });
  };
  t.false(Object.keys(identity({})).some((key) => key.startsWith("schedule.")));
  t.notDeepEqual(
    identity({ weightDecay: { linear: { floor: 0 } } }),
    identity({ weightDecay: { linear: { floor: 0.5 } } }),
  );
  t.notDeepEqual(identity({ batch }), identity({}));
  const following = (peak: number) => identity({ lr: { ...lr, peak }, weightDecay: { follow_lr: {} } });
  t.deepEqual(following(0.01), following(0.02));
});

test("a run under schedules of every scalar and a growing batch has the same bits when stopped and resumed", async (t) => {
  const workplace = await makeWorkplace();
  const schedule = {
    batch: { stages: [{ at: 12, sequences: 8 }], lr: "sqrt" },
    weightDecay: { follow_lr: {} },
    beta1: { peak: 0.95, warmup: { steps: 10, from: 0.9 }, constant: {} },
    beta2: { peak: 0.99, linear: { floor: 0.96 } },
    clip: { peak: 1, cosine: { floor: 0.5 } },
  };
  const config = { schedule };
  const whole = await trainSmall(workplace, "whole", { config });
  t.is(whole.tokens, (12 * 4 + 30 * 8) * 32);
  for (const step of [11, 25]) {
    const name = `stopped-${step}`;
    await trainSmall(workplace, name, { config, ...stopAt(step) });
    await trainSmall(workplace, name, { config, resume: "auto" });
    for (const file of ["model.safetensors", "optimizer.safetensors"])
      t.true(
        checkpointFile(workplace, name, 42, file).equals(checkpointFile(workplace, "whole", 42, file)),
        `${name} ${file}`,
      );
    t.deepEqual(await deterministicMetrics(workplace, name), await deterministicMetrics(workplace, "whole"));
  }
  const steps = (await readMetrics(join(workplace, "whole", "metrics.jsonl"))).filter((r) => r.type === "step");
  t.true(steps.at(-1)!.loss < steps[0]!.loss);
  await t.throwsAsync(trainSmall(workplace, "whole", { resume: "auto" }), {
    message: /schedule\.weightDecay: the checkpoint has/,
  });
});
