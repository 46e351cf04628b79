import { writeFileSync } from "node:fs";
import { join } from "node:path";
import test from "ava";
import { prepare } from "../../ts/data/prepare.ts";
import { buildScalars } from "../../ts/schedule/scalars.ts";
import { readMetrics } from "../../ts/train/metrics.ts";
import { mixtureStages } from "../../ts/train/mixture.ts";
import type { EvaluationRecord } from "../../ts/train/records.ts";
import { makeWorkplace, trainSmall } from "./support/runs.ts";
import { smallConfig } from "./support/states.ts";

const budgets = [
  { decayStart: 90, end: 100 },
  { decayStart: 190, end: 210 },
] as never;

function stages(data: Record<string, unknown>) {
  const config = smallConfig({ data: { train: "data", ...data } });
  return mixtureStages(config, { budgets })?.map(({ from, weights }) => [from / config.batch.sequences, weights]);
}

test("weights change at stated steps, and in each decay, and come back after it", (t) => {
  const a = { web: 3, code: 1 };
  const b = { web: 1, code: 1 };
  const decay = { code: 1 };
  t.is(stages({}), undefined);
  t.deepEqual(stages({ weights: a }), [[0, a]]);
  t.deepEqual(stages({ weights: a, changes: [{ at: 50, weights: b }] }), [
    [0, a],
    [50, b],
  ]);
  const changes = [
    { at: "decay", weights: decay },
    { at: 95, weights: b },
  ];
  t.deepEqual(stages({ weights: a, changes }), [
    [0, a],
    [90, decay],
    [100, b],
    [190, decay],
    [210, b],
  ]);
});

test("a run over a mixture evaluates each named set, and stopped anywhere goes on with the same bits", async (t) => {
  const workplace = await makeWorkplace();
  for (const [name, words] of Object.entries({ web: "the river runs ", code: "let x = y; " })) {
    const input = join(workplace, `${name}.txt`);
    writeFileSync(input, Array.from({ length: 900 }, (_, i) => `${words.repeat(1 + (i % 5))}${i}\n`).join(""));
    const output = join(workplace, "mixed", name);
    await prepare({ inputs: [input], output, tokenizer: "bytes", validationFraction: 0.2, splitBy: "tail" });
  }
  const data = {
    train: join(workplace, "mixed"),
    weights: { web: 3, code: 1 },
    changes: [{ at: "decay", weights: { code: 1 } }],
  };
  const evaluations = async (run: string) =>
    (await readMetrics(join(workplace, run, "metrics.jsonl"))).filter(
      (r): r is EvaluationRecord => r.type === "evaluation",
    );
  const whole = await trainSmall(workplace, "whole", { config: { data } });
  const measured = await evaluations("whole");
  for (const { sets, loss, evaluatedTokens } of measured) {
    const { web, code } = sets!;
    t.is(web!.tokens + code!.tokens, evaluatedTokens);
    t.true(Math.abs(loss - (web!.loss * web!.tokens + code!.loss * code!.tokens) / evaluatedTokens) < 1e-12);
    // A byte is a token here, but for the one end token of each set.
    t.true(Math.abs(code!.bitsPerByte! / (code!.loss / Math.LN2) - 1) < 0.01);
  }
  const half = Math.floor(whole.step / 2);
  const config = { data, checkpoints: { every: half } };
  const controller = new AbortController();
  await trainSmall(workplace, "parts", { config, until: half, signal: controller.signal });
  await trainSmall(workplace, "parts", { config, resume: "auto" });
  t.deepEqual((await evaluations("parts")).at(-1)!.sets, measured.at(-1)!.sets);
  await t.throwsAsync(trainSmall(workplace, "bad", { config: { data: { ...data, weights: { web: 1, none: 1 } } } }), {
    code: "BAD_INPUT",
    message: /none/,
  });
});

test("where the batch changes, stages count the blocks that were read by then", (t) => {
  const config = smallConfig({
    data: { train: "data", weights: { a: 1, b: 1 }, changes: [{ at: 20, weights: { a: 1, b: 3 } }] },
  });
  const { batch } = buildScalars({
    ...config,
    schedule: { ...config.schedule, batch: { stages: [{ at: 10, sequences: 8 }], lr: "keep" } },
  });
  const stages = mixtureStages(config, { budgets: [] }, (step) => batch.tokensAt(step) / config.batch.length);
  t.deepEqual(
    stages?.map((stage) => stage.from),
    [0, 10 * 4 + 10 * 8],
  );
});
