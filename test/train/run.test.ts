import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import test from "ava";
import { exitCodeOf } from "../../ts/base/errors.ts";
import type { LockHolder } from "../../ts/base/lock.ts";
import { prepare } from "../../ts/data/prepare.ts";
import { listCheckpoints } from "../../ts/train/checkpoint_folder.ts";
import { readCheckpoint } from "../../ts/train/checkpoint_verify.ts";
import { readMetrics } from "../../ts/train/metrics.ts";
import type { RunResult } from "../../ts/train/run.ts";
import { checkpointFile, deterministicMetrics, makeWorkplace, stopAt, trainSmall } from "./support/runs.ts";

let workplace: string;
let whole: RunResult;

test.before("one uninterrupted run to compare with", async () => {
  workplace = await makeWorkplace();
  whole = await trainSmall(workplace, "whole");
});

const sameBits = (run: string, step: number, files = ["model.safetensors", "optimizer.safetensors"]) =>
  files.every((file) =>
    checkpointFile(workplace, run, step, file).equals(checkpointFile(workplace, "whole", step, file)),
  );

test("a run trains: the loss falls, every budget has its losses, checkpoints are whole", async (t) => {
  t.like(whole, { step: 42, tokens: 42 * 128, stoppedBy: "end" });
  const first = whole.evaluations[0]!;
  t.true(whole.evaluations.at(-1)!.loss < first.loss - 0.05, "42 steps on words teach something");
  t.deepEqual(
    whole.decays.map((d) => [d.budget, d.step, d.drop !== null]),
    [
      [0, 20, true],
      [1, 42, true],
    ],
  );
  for (const { path, bytes } of whole.checkpoints.slice(-2)) {
    const checkpoint = await readCheckpoint(join(workplace, "whole", path));
    t.is(checkpoint.bytes, bytes);
  }
  const kept = readdirSync(join(workplace, "whole", "checkpoints")).sort();
  t.deepEqual(
    kept,
    [18, 20, 35, 38, 40, 42].map((s) => `step-000000${s}`),
  );
});

test("a checkpoint folder has what transformers loads: names, shapes, config, tokenizer", (t) => {
  const bytes = checkpointFile(workplace, "whole", 42, "model.safetensors");
  const header = JSON.parse(bytes.subarray(8, 8 + Number(bytes.readBigUInt64LE(0))).toString());
  t.deepEqual(header.__metadata__, { format: "pt" });
  t.deepEqual(header["model.layers.1.self_attn.k_proj.weight"].shape, [32, 32]);
  t.deepEqual(header["model.layers.0.mlp.up_proj.weight"].shape, [64, 32]);
  t.deepEqual(header["model.norm.weight"].shape, [32]);
  t.is(Object.keys(header).length - 1, 2 + 1 + 2 * 9);
  const config = JSON.parse(checkpointFile(workplace, "whole", 42, "config.json").toString());
  t.like(config, { architectures: ["LlamaForCausalLM"], vocab_size: 257, head_dim: 16, max_position_embeddings: 32 });
  t.true(checkpointFile(workplace, "whole", 42, "tokenizer.json").length > 0);
});

test("run.json states the config, the device and the lineage", (t) => {
  const run = JSON.parse(readFileSync(join(workplace, "whole", "run.json"), "utf8"));
  t.is(run.config.schedule.lr.peak, 0.01);
  t.is(run.device.device, "cpu");
  t.is(run.lineage.length, 1);
  t.is(run.microBatch, 2);
});

const moments: Record<string, number> = {
  "the warm-up": 2,
  "the stable phase": 12,
  "the first decay": 19,
  "the stable phase after the decay": 22,
  "the last decay": 40,
};

for (const [phase, step] of Object.entries(moments)) {
  test(`a run stopped in ${phase} and resumed ends with the same bits and metrics`, async (t) => {
    const name = `stopped-${step}`;
    const first = await trainSmall(workplace, name, stopAt(step));
    t.is(first.stoppedBy, "signal");
    t.true(first.step >= step && first.step < 42);
    const second = await trainSmall(workplace, name, { resume: "auto" });
    t.is(second.step, 42);
    t.true(sameBits(name, 42));
    t.true(sameBits(name, 38));
    t.deepEqual(await deterministicMetrics(workplace, name), await deterministicMetrics(workplace, "whole"));
  });
}

test("going on from an older checkpoint gives the same bits and sets the later ones aside", async (t) => {
  await trainSmall(workplace, "older");
  const resume = join(workplace, "older", "checkpoints", "step-00000018");
  const result = await trainSmall(workplace, "older", { resume });
  t.is(result.step, 42);
  t.true(sameBits("older", 42));
  t.deepEqual(await deterministicMetrics(workplace, "older"), await deterministicMetrics(workplace, "whole"));
  const names = readdirSync(join(workplace, "older", "checkpoints"));
  t.is(names.filter((n) => n.startsWith("superseded-")).length, 5);
});

test("any number of threads gives the same bits", async (t) => {
  await trainSmall(workplace, "two-threads", { config: { threads: 2 } });
  t.true(sameBits("two-threads", 42));
});

test("recompute on and off give the same bits", async (t) => {
  await trainSmall(workplace, "recompute", { config: { memory: { recompute: "block" } } });
  t.true(sameBits("recompute", 42));
});

test("another micro-batch keeps the data order: same positions, losses equal within rounding", async (t) => {
  const losses = async (run: string) =>
    (await readMetrics(join(workplace, run, "metrics.jsonl"))).flatMap((r) => (r.type === "step" ? [r.loss] : []));
  const reference = await losses("whole");
  for (const microBatch of [1, 4]) {
    const name = `micro-${microBatch}`;
    await trainSmall(workplace, name, { config: { batch: { microBatch } } });
    const found = await losses(name);
    // fp32 sums in another order: about 1e-7 a step, growing over 42 steps. Another order of data differs by 1e-2.
    for (const [i, loss] of found.entries()) t.true(Math.abs(loss - reference[i]!) < 1e-4, `step ${i + 1}`);
    const position = (run: string) => JSON.parse(checkpointFile(workplace, run, 42, "state.json").toString()).data;
    t.deepEqual(position(name), position("whole"));
  }
});

test("a bf16 run stopped and resumed ends with the same bits", async (t) => {
  const config = { precision: "bf16" };
  await trainSmall(workplace, "bf16", { config });
  await trainSmall(workplace, "bf16-stopped", { config, ...stopAt(25) });
  await trainSmall(workplace, "bf16-stopped", { config, resume: "auto" });
  const model = (run: string) => checkpointFile(workplace, run, 42, "model.safetensors");
  t.true(model("bf16-stopped").equals(model("bf16")));
  t.false(model("bf16").equals(model("whole")));
});

test("a changed schedule is refused on resume; keep ends with the old run's bits, replace does not", async (t) => {
  const changed = { schedule: { lr: { ...smallLr(), peak: 0.02 } } };
  for (const name of ["keep", "replace"]) await trainSmall(workplace, name, stopAt(12));
  await t.throwsAsync(() => trainSmall(workplace, "keep", { config: changed, resume: "auto" }), {
    code: "BAD_CONFIG",
    message: /schedule\.lr/,
  });
  await trainSmall(workplace, "keep", { config: changed, resume: "auto", onDrift: "keep" });
  t.true(sameBits("keep", 42));
  await trainSmall(workplace, "replace", { config: changed, resume: "auto", onDrift: "replace" });
  t.false(sameBits("replace", 42));
  const { state } = await readCheckpoint(join(workplace, "replace", "checkpoints", "step-00000042"));
  t.deepEqual(
    state.lineage.map((e) => e.reason),
    ["start", "replace"],
  );
});

const smallLr = () =>
  whole && JSON.parse(readFileSync(join(workplace, "whole", "run.json"), "utf8")).config.schedule.lr;

test("a run extended by a budget has the bits of one planned so from the start", async (t) => {
  const wsd_s = { budgets: [20, 40, 50], decay: { steps: [2, 4, 2], shape: "inverse" } };
  const config = { schedule: { lr: { ...smallLr(), wsd_s } } };
  await trainSmall(workplace, "extended");
  await trainSmall(workplace, "extended", { config, resume: "auto", onDrift: "extend" });
  const planned = await trainSmall(workplace, "planned", { config });
  t.is(planned.step, 56);
  const model = (run: string) => checkpointFile(workplace, run, 56, "model.safetensors");
  t.true(model("extended").equals(model("planned")));
});

test("a fork counts on from its checkpoint under its own schedule; init-from takes weights alone", async (t) => {
  const checkpoint = join(workplace, "whole", "checkpoints", "step-00000018");
  const forked = await trainSmall(workplace, "fork", { forkFrom: checkpoint });
  t.is(forked.step, 42);
  t.true(sameBits("fork", 42), "the same plan from the same state is the same run");
  const started = await trainSmall(workplace, "init", { initFrom: checkpoint, config: { steps: 10 } });
  t.like(started, { step: 10, tokens: 10 * 128 });
  const first = (await readMetrics(join(workplace, "init", "metrics.jsonl"))).find((r) => r.type === "step")!;
  const begin = (await readMetrics(join(workplace, "whole", "metrics.jsonl"))).find((r) => r.type === "step")!;
  t.true(first.loss < begin.loss - 0.1, "trained weights start lower");
});

test("a run directory in use is not overwritten", async (t) => {
  const error = await t.throwsAsync(() => trainSmall(workplace, "whole"), { message: /holds a run already.*--resume/ });
  t.is(exitCodeOf(error), 2);
});

test("a loss that is not finite stops the run with exit 3; the last good checkpoint is kept and named", async (t) => {
  const wild = { schedule: { lr: { peak: 1e30, warmup: 0, wsd_s: smallLr().wsd_s } }, checkpoints: { every: 1 } };
  const error = await t.throwsAsync(() => trainSmall(workplace, "wild", { config: wild }), { code: "NOT_FINITE" });
  t.is(exitCodeOf(error), 3);
  t.regex(error!.message, /update was skipped/);
  const named = /The last good checkpoint is (\S+)\./.exec(error!.message);
  t.truthy(named, error!.message);
  const checkpoint = await readCheckpoint(named![1]!);
  t.true(checkpoint.state.step >= 1);
});

test("data that end stop the run, say so beforehand, and leave a final checkpoint", async (t) => {
  const config = { data: { onEnd: "stop" }, batch: { sequences: 72, microBatch: 8 } };
  const result = await trainSmall(workplace, "short", { config });
  t.is(result.stoppedBy, "data");
  t.true(result.warnings.some((w) => w.detector === "plan-does-not-fit" && /data ends after/.test(w.message)));
  t.is(result.checkpoints.at(-1)!.occasion, "final");
  t.is(result.evaluations.at(-1)!.step, result.step);
});

test("an open run goes on until it is told to stop, and resumes", async (t) => {
  const config = { steps: "open", schedule: { lr: { peak: 0.01, warmup: 4, constant: {} } } };
  const lr = { ...config.schedule.lr };
  const open = { ...config, schedule: { lr } };
  const first = await trainSmall(workplace, "open", { config: open, ...stopAt(9) });
  t.is(first.stoppedBy, "signal");
  const second = await trainSmall(workplace, "open", { config: open, resume: "auto", ...stopAt(15) });
  t.true(second.step >= 15);
});

test("two processes cannot train into one run directory: the second is refused with exit 2, and the first goes on", async (t) => {
  let second: Promise<unknown> | null = null;
  const nothing = stopAt(Number.POSITIVE_INFINITY);
  const reporter = {
    ...nothing.reporter!,
    step: () => {
      second ??= trainSmall(workplace, "locked", { resume: "auto" }).catch((error) => error);
    },
  };
  const first = await trainSmall(workplace, "locked", { reporter });
  t.is(first.stoppedBy, "end");
  const error = (await second!) as Error;
  t.is(exitCodeOf(error), 2);
  t.regex(
    error.message,
    /^the run directory .*locked is held by process \d+ on .*"train", since .*remove .*run\.lock/s,
  );
  t.true(sameBits("locked", 42));
  t.false(existsSync(join(workplace, "locked", "run.lock")));
});

const holderOf = (lock: string) => JSON.parse(readFileSync(lock, "utf8")) as LockHolder;

test("a run whose directory another one has taken over meanwhile stops with exit 2 and writes no other checkpoint", async (t) => {
  const folder = join(workplace, "overtaken");
  const lock = join(folder, "run.lock");
  const sleep = new Int32Array(new SharedArrayBuffer(4));
  const nothing = stopAt(Number.POSITIVE_INFINITY).reporter!;
  const reporter = {
    ...nothing,
    step: ({ record }: { record: { step: number } }) => {
      if (record.step < 20) return;
      // As if this process had stood still for longer than the patience of a process on another host.
      if (record.step === 20)
        writeFileSync(lock, JSON.stringify({ ...holderOf(lock), token: "f".repeat(16), host: "far" }));
      Atomics.wait(sleep, 0, 0, 1100);
    },
  };
  const error = (await trainSmall(workplace, "overtaken", { config: { checkpoints: { every: 2 } }, reporter }).catch(
    (caught) => caught,
  )) as Error;
  t.is(exitCodeOf(error), 2, error.message);
  t.regex(error.message, /overtaken is no longer locked by this process: .* is held by process \d+ on far/);
  // The one of step 20 may have been on its way.
  t.deepEqual(
    (await listCheckpoints(join(folder, "checkpoints"))).filter(({ step }) => step > 20),
    [],
  );
  t.is(holderOf(lock).host, "far", "the other's lock stays");
});

test("a run that never began leaves no directory behind", async (t) => {
  await t.throwsAsync(() => trainSmall(workplace, "never", { resume: "no/such/checkpoint" }), { code: "BAD_OPTION" });
  t.false(existsSync(join(workplace, "never")));
});

test("a run that began from given weights and has no checkpoint yet is not started anew by --resume auto", async (t) => {
  const checkpoint = join(workplace, "whole", "checkpoints", "step-00000018");
  const stopped = AbortSignal.abort();
  for (const [name, option, from] of [
    ["lost-fork", "--fork-from", { forkFrom: checkpoint }],
    ["lost-init", "--init-from", { initFrom: checkpoint }],
    ["lost-resume", "--resume", { resume: checkpoint }],
  ] as const) {
    const first = await trainSmall(workplace, name, { ...from, signal: stopped });
    t.is(first.stoppedBy, "signal");
    const error = await t.throwsAsync(() => trainSmall(workplace, name, { resume: "auto" }), { code: "BAD_OPTION" });
    t.true(error.message.includes(option), error.message);
    const again = await trainSmall(workplace, name, { resume: "auto", ...from });
    t.is(again.step, 42);
    if (option !== "--init-from") t.true(sameBits(name, 42), "the same state under the same plan is the same run");
  }
});

test("another run's checkpoint is not resumed into a directory that holds a run", async (t) => {
  await trainSmall(workplace, "taken", { config: { steps: 4 } });
  const resume = join(workplace, "whole", "checkpoints", "step-00000018");
  await t.throwsAsync(() => trainSmall(workplace, "taken", { resume }), { message: /holds a run already/ });
});

test("a validation split shorter than one sequence is a warning, not the end of the run", async (t) => {
  const inputs = [join(workplace, "text.txt")];
  const output = join(workplace, "thin");
  await prepare({ inputs, output, tokenizer: "bytes", validationFraction: 0.0005, splitBy: "tail" });
  const { step, warnings, evaluations } = await trainSmall(workplace, "thin-run", {
    config: { data: { train: output } },
  });
  t.is(step, 42);
  t.is(evaluations.length, 0);
  t.true(warnings.some((w) => /the data has 0/.test(w.message)));
});
