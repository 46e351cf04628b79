import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import test from "ava";
import { evaluateCheckpoint } from "../../ts/train/evaluate_checkpoint.ts";
import { mergeCheckpoints } from "../../ts/train/merge.ts";
import { readMetrics } from "../../ts/train/metrics.ts";
import { SafetensorsFile } from "../../ts/train/safetensors.ts";
import { checkpointFile, makeWorkplace, stopAt, trainSmall } from "./support/runs.ts";

let workplace: string;
test.before(async () => {
  workplace = await makeWorkplace();
});

/** Values of one tensor of a run's checkpoint. */
async function values(run: string, step: number, file: string, name: string): Promise<Float32Array> {
  const folder = join(workplace, run, "checkpoints", `step-${String(step).padStart(8, "0")}`);
  await using opened = await SafetensorsFile.open(join(folder, file));
  const tensor = opened.tensors.find((tensor) => tensor.name === name)!;
  return opened.read(tensor, 0, tensor.bytes / 4);
}

const files = ["model.safetensors", "optimizer.safetensors", "ema.safetensors"];
const ema = { schedule: { ema: { peak: 0.9, warmup: 10, phases: [{ steps: 15 }, { to: 0.5 }] } } };

test("the average is the weights' moving average under the scheduled decay, and the weights do not change by it", async (t) => {
  // Every step saves: the average follows from the checkpoints in float64.
  const config = { ...ema, checkpoints: { every: 1, keep: 100 } };
  await trainSmall(workplace, "every", { config });
  await trainSmall(workplace, "without", {});
  t.true(checkpointFile(workplace, "every", 42, files[0]!).equals(checkpointFile(workplace, "without", 42, files[0]!)));
  t.false(existsSync(join(workplace, "without", "checkpoints", "step-00000042", files[2]!)));
  // Decay of the update after s finished ones: 0.9 s / 10 in the warm-up, 0.9 for 15 steps, down to 0.45 at step 42.
  const decay = (s: number) => (s < 10 ? 0.09 * s : s < 25 ? 0.9 : 0.9 - (0.45 * (s - 25)) / 17);
  const name = "model.layers.1.mlp.down_proj.weight";
  let want: Float64Array | null = null;
  for (let step = 1; step <= 42; step++) {
    const weights = await values("every", step, files[0]!, name);
    const d = decay(step - 1);
    want = Float64Array.from(weights, (w, i) => (want === null ? w : d * want[i]! + (1 - d) * w));
  }
  const got = await values("every", 42, files[2]!, name);
  // Forty roundings of fp32, each forgotten at the rate of the average: weights lie below 1.
  for (const [i, w] of want!.entries()) t.true(Math.abs(got[i]! - w) < 1e-6, `${i}: ${got[i]} against ${w}`);
});

test("a run with an average has the same bits when stopped and resumed, its records too", async (t) => {
  await trainSmall(workplace, "whole", { config: ema });
  for (const step of [7, 26]) {
    const name = `stopped-${step}`;
    await trainSmall(workplace, name, { config: ema, ...stopAt(step) });
    await trainSmall(workplace, name, { config: ema, resume: "auto" });
    for (const file of files)
      t.true(checkpointFile(workplace, name, 42, file).equals(checkpointFile(workplace, "whole", 42, file)), file);
  }
  await t.throwsAsync(trainSmall(workplace, "whole", { resume: "auto" }), {
    message: /schedule\.ema: the checkpoint has/,
  });
});

test("averaged weights are evaluated with each evaluation, by `eval --average`, and as any weights", async (t) => {
  await trainSmall(workplace, "evaluated", { config: { optimizer: { ema: 0.8 } } });
  const folder = join(workplace, "evaluated", "checkpoints", "step-00000042");
  const records = await readMetrics(join(workplace, "evaluated", "metrics.jsonl"));
  const last = records.findLast((r) => r.type === "evaluation")!;
  const average = await evaluateCheckpoint({ path: folder, average: true, threads: 1, batch: 2 });
  t.is(average.loss, last.averageLoss!);
  const live = await evaluateCheckpoint({ path: folder, threads: 1, batch: 2 });
  t.is(live.loss, last.loss);
  t.not(live.loss, average.loss);
  const from = {
    initFrom: join(folder, files[2]!),
    config: { schedule: { lr: { peak: 1e-9, constant: {} } }, steps: 1 },
  };
  const begun = await trainSmall(workplace, "begun", from);
  t.true(Math.abs(begun.evaluations.at(-1)!.loss - average.loss) < 1e-6, "a step of almost nothing from there");
  await t.throwsAsync(evaluateCheckpoint({ path: join(workplace, "begun"), average: true }), { code: "BAD_OPTION" });
});

test("a fork from a checkpoint without an average begins it with its weights, one with an average goes on with it", async (t) => {
  await trainSmall(workplace, "plain", {});
  const from = (run: string) => ({ forkFrom: join(workplace, run, "checkpoints", "step-00000018") });
  const config = { optimizer: { ema: 0.999999 } };
  await trainSmall(workplace, "fork", { ...from("plain"), config });
  const name = "model.embed_tokens.weight";
  const start = await values("plain", 18, files[0]!, name);
  const end = await values("fork", 42, files[2]!, name);
  // At this decay 24 updates move it by less than 24 * 1e-6 of what the weights moved, which is below 1.
  t.true(start.every((w, i) => Math.abs(w - end[i]!) < 3e-5));
  await trainSmall(workplace, "with", { config: ema });
  await trainSmall(workplace, "on", { ...from("with"), config: ema });
  t.true(checkpointFile(workplace, "on", 42, files[2]!).equals(checkpointFile(workplace, "with", 42, files[2]!)));
});

test("merging leaves the average of one run out", async (t) => {
  await trainSmall(workplace, "merged", { config: { ...ema, checkpoints: { every: 5, keep: 9 } } });
  const { path } = await mergeCheckpoints({
    paths: [join(workplace, "merged")],
    last: 3,
    weighing: { kind: "uniform" },
    out: join(workplace, "mean"),
  });
  t.false(existsSync(join(path, files[2]!)));
  t.true(readFileSync(join(path, files[0]!)).length > 0);
});
