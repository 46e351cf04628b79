import { existsSync } from "node:fs";
import { join } from "node:path";
import test from "ava";
import { evaluateCheckpoint } from "../../ts/train/evaluate_checkpoint.ts";
import { type MergeOptions, mergeCheckpoints } from "../../ts/train/merge.ts";
import { mergeWeights } from "../../ts/train/merge_weights.ts";
import { SafetensorsFile } from "../../ts/train/safetensors.ts";
import { makeWorkplace, trainSmall } from "./support/runs.ts";

let workplace: string;
const run = () => join(workplace, "trunk");

test.before("a trunk at a constant rate with four checkpoints", async () => {
  workplace = await makeWorkplace();
  const schedule = { lr: { peak: 0.01, warmup: 4, constant: {} } };
  await trainSmall(workplace, "trunk", { config: { schedule, steps: 40, checkpoints: { every: 10, keep: 9 } } });
});

const checkpoint = (step: number) => join(run(), "checkpoints", `step-${String(step).padStart(8, "0")}`);
const merge = (name: string, options: Partial<MergeOptions> = {}) =>
  mergeCheckpoints({ paths: [run()], weighing: { kind: "uniform" }, out: join(workplace, name), ...options });

async function values(folder: string, name = "model.norm.weight"): Promise<Float32Array> {
  await using file = await SafetensorsFile.open(join(folder, "model.safetensors"));
  const tensor = file.tensors.find((t) => t.name === name)!;
  return file.read(tensor, 0, tensor.bytes / 4);
}

const sum = (weights: readonly number[]) => weights.reduce((a, b) => a + b, 0);

test("weights sum to 1: uniform, as listed, exponential, and like a decay", (t) => {
  const steps = [100, 130, 170, 200];
  t.deepEqual(mergeWeights({ kind: "uniform" }, steps), [0.25, 0.25, 0.25, 0.25]);
  t.deepEqual(mergeWeights({ kind: "list", weights: [1, 1, 2, 4] }, steps), [0.125, 0.125, 0.25, 0.5]);
  t.deepEqual(mergeWeights({ kind: "ema", decay: 0.5 }, steps), [0.125, 0.125, 0.25, 0.5]);
  for (const shape of ["inverse", "linear", "1-sqrt", "lowered_linear", "half_life"] as const) {
    const weights = mergeWeights({ kind: "decay", shape, floor: 0.1 }, steps);
    t.true(Math.abs(sum(weights) - 1) < 1e-15, shape);
    t.true(
      weights.every((w) => w >= 0),
      `${shape}: ${weights}`,
    );
  }
});

test("weights like a decay weigh the updates between checkpoints as its mean there does", (t) => {
  const steps = [0, 10, 20, 40];
  const weights = mergeWeights({ kind: "decay", shape: "linear", floor: 0 }, steps);
  // Updates of a linear decay to 0 over 40 steps: 1 - t/40. Means over [0,10), [10,20), [20,40): 35.5/40, 25.5/40, 10.5/40.
  const updates = [1, 2, 3].map((i) => sum(weights.slice(i)));
  for (const [i, mean] of [35.5, 25.5, 10.5].entries()) t.true(Math.abs(updates[i]! - mean / 40) < 1e-15);
});

test("merged weights are the weighted mean of the checkpoints' weights", async (t) => {
  const { path, sources } = await merge("weighted", {
    window: [20, 40],
    weighing: { kind: "list", weights: [1, 2, 5] },
  });
  t.deepEqual(
    sources.map((s) => [s.step, s.weight]),
    [
      [20, 0.125],
      [30, 0.25],
      [40, 0.625],
    ],
  );
  const [merged, a, b, c] = await Promise.all(
    [path, checkpoint(20), checkpoint(30), checkpoint(40)].map((folder) => values(folder)),
  );
  for (const [k, value] of merged!.entries()) t.is(value, Math.fround(0.125 * a![k]! + 0.25 * b![k]! + 0.625 * c![k]!));
});

test("equal checkpoints merge to themselves, bit for bit, and are evaluated like any checkpoint", async (t) => {
  const paths = [checkpoint(40), checkpoint(40)];
  const { path } = await merge("same", { paths, weighing: { kind: "list", weights: [1, 3] } });
  t.deepEqual(
    await values(path, "model.embed_tokens.weight"),
    await values(checkpoint(40), "model.embed_tokens.weight"),
  );
  const [merged, whole] = [
    await evaluateCheckpoint({ path: join(workplace, "same") }),
    await evaluateCheckpoint({ path: checkpoint(40) }),
  ];
  t.is(merged.loss, whole.loss);
  t.is(merged.step, 40);
});

test("merged weights start a run, but cannot be resumed or forked: they have no optimizer state", async (t) => {
  const { path } = await merge("last-two", { last: 2 });
  t.false(existsSync(join(path, "optimizer.safetensors")));
  for (const start of [{ resume: path }, { forkFrom: path }])
    await t.throwsAsync(trainSmall(workplace, "no", { config: { steps: 42 }, ...start }), {
      message: /holds merged weights without optimizer state: start from them with --init-from/,
    });
  const started = await trainSmall(workplace, "from-merged", { config: { steps: 2 }, initFrom: path });
  t.is(started.step, 2);
});

test("one checkpoint is nothing to merge, and nothing is overwritten", async (t) => {
  await t.throwsAsync(merge("none", { last: -1 }), { code: "BAD_OPTION", message: /newest -1 checkpoints/ });
  await t.throwsAsync(merge("one", { last: 1 }), { message: /1 checkpoint to merge; expected at least 2/ });
  await merge("twice");
  await t.throwsAsync(merge("twice"), { message: /exists already/ });
});
