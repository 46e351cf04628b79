import { execFile } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import test from "ava";
import { Engine } from "../../ts/engine/engine.ts";
import { buildModule } from "../../ts/model/build.ts";
import { benchTrain } from "../../ts/train/benchmark.ts";
import { loadRun, summarize } from "../../ts/train/compare.ts";
import { evaluateCheckpoint } from "../../ts/train/evaluate_checkpoint.ts";
import { generateText } from "../../ts/train/generate.ts";
import { huggingFaceConfig, modelOfHuggingFace } from "../../ts/train/hf_config.ts";
import { modelEntries, playIntegers } from "../../ts/train/module_machine.ts";
import { measurePeak } from "../../ts/train/peak.ts";
import { openPretrained } from "../../ts/train/pretrained.ts";
import type { RunResult } from "../../ts/train/run.ts";
import { makeWorkplace, trainSmall } from "./support/runs.ts";
import { smallModel } from "./support/states.ts";

let workplace: string;
let run: RunResult;

test.before(async () => {
  workplace = await makeWorkplace();
  run = await trainSmall(workplace, "run");
});

const last = () => join(workplace, "run", "checkpoints", "step-00000042");

test("evaluating a saved checkpoint gives the loss that the run measured", async (t) => {
  const result = await evaluateCheckpoint({ path: last() });
  const measured = run.evaluations.at(-1)!;
  t.is(result.step, 42);
  t.is(result.tokens, measured.evaluatedTokens);
  // The batch of the evaluation differs, so float32 sums of a few hundred losses are rounded elsewhere.
  t.true(Math.abs(result.loss - measured.loss) < 1e-6 * measured.loss);
  t.is(result.perplexity, Math.exp(result.loss));
});

test("a run directory stands for its newest checkpoint", async (t) => {
  t.is((await openPretrained(join(workplace, "run"))).folder, last());
});

test("generation is a function of seed, prompt and options, and greedy text needs no seed", async (t) => {
  const generate = (options: object) =>
    generateText({ path: last(), prompt: "the ", maxTokens: 16, temperature: 1, threads: 1, ...options });
  const [a, b, c] = [await generate({ seed: 1 }), await generate({ seed: 1 }), await generate({ seed: 2 })];
  t.deepEqual(a, b);
  t.notDeepEqual(a.tokens, c.tokens);
  t.is(a.tokens.length, 16);
  const pieces: string[] = [];
  const greedy = await generate({ temperature: 0, seed: 1, onText: (piece: string) => pieces.push(piece) });
  t.deepEqual((await generate({ temperature: 0, seed: 2 })).tokens, greedy.tokens);
  t.is(pieces.join(""), greedy.text);
});

test("generation ends with the model's last position and refuses a prompt beyond it", async (t) => {
  const { tokens } = await generateText({ path: last(), prompt: "the", maxTokens: 1000, temperature: 1, threads: 1 });
  t.is(tokens.length, 32 - 3);
  const long = "x".repeat(33);
  await t.throwsAsync(() => generateText({ path: last(), prompt: long, threads: 1 }), {
    code: "BAD_OPTION",
    message: /33 tokens, expected 1 to 32/,
  });
  for (const maxTokens of [-1, 1.5])
    await t.throwsAsync(() => generateText({ path: last(), prompt: "the", maxTokens, threads: 1 }), {
      code: "BAD_OPTION",
      message: /tokens is -?1.*whole number/,
    });
});

test("decoding with the cache gives the logits of the whole sequence at each position", async (t) => {
  const model = smallModel();
  const built = buildModule(model, { precision: "f32", microBatch: 1, length: 12, kinds: ["decode", "logits"] });
  await using engine = await Engine.create({ device: "cpu" });
  const module = await engine.load(built.spec);
  for (const [name, value] of Object.entries(built.constants)) await module.write(name, value);
  await module.loadFile(join(last(), "model.safetensors"), modelEntries(built.parameters));
  const tokens = Int32Array.from(Buffer.from("the river ru"));
  await module.play([{ program: "logits", inputs: { "io/tokens": tokens } }]);
  const all = (await module.read("out/all_logits")) as Float32Array;
  for (const [position, token] of tokens.entries()) {
    const integers = playIntegers({ positionOffset: position, cacheLength: position });
    await module.play([{ program: "decode", inputs: { "io/tokens": Int32Array.of(token) }, integers }]);
    const one = (await module.read("out/logits")) as Float32Array;
    const row = all.subarray(position * model.vocab, (position + 1) * model.vocab);
    // Same sums in another order: about 1e-6 of logits of size 5.
    const worst = Math.max(...one.map((v, i) => Math.abs(v - row[i]!)));
    t.true(worst < 1e-4, `position ${position}: ${worst}`);
  }
});

test("a config.json written for transformers reads back as the same network", (t) => {
  const model = smallModel();
  for (const qkNorm of [false, true]) {
    const json = huggingFaceConfig({ ...model, qkNorm }, { eos: 256 });
    t.deepEqual(modelOfHuggingFace(json, "config.json"), { ...model, qkNorm });
  }
  const llama = huggingFaceConfig(model, { eos: 0 });
  for (const [field, value] of [
    ["hidden_act", "gelu"],
    ["partial_rotary_factor", 0.5],
    ["use_sliding_window", true],
  ] as const)
    t.throws(() => modelOfHuggingFace({ ...llama, [field]: value }, "config.json"), { code: "BAD_INPUT" }, field);
  t.throws(() => modelOfHuggingFace({ architectures: ["GPT2LMHeadModel"] }, "config.json"), {
    code: "BAD_INPUT",
    message: /GPT2LMHeadModel/,
  });
});

const call = promisify(execFile);

const script = `
import sys, json, torch
from transformers import AutoModelForCausalLM, AutoTokenizer
folder, out = sys.argv[1:]
model = AutoModelForCausalLM.from_pretrained(folder, torch_dtype=torch.float32)
ids = AutoTokenizer.from_pretrained(folder)("the river ru")["input_ids"]
with torch.no_grad(): logits = model(torch.tensor([ids])).logits[0]
json.dump({"ids": ids, "logits": logits.flatten().tolist()}, open(out, "w"))
`;

test("transformers loads a checkpoint folder as it is, with equal tokens and logits", async (t) => {
  const python = process.env.THALWEG_PYTHON ?? "python3";
  try {
    await call(python, ["-c", "import torch, transformers"]);
  } catch {
    t.log(`skipped: ${python} has no transformers (THALWEG_PYTHON names another one)`);
    t.pass();
    return;
  }
  const out = join(workplace, "logits.json");
  writeFileSync(join(workplace, "load.py"), script);
  await call(python, [join(workplace, "load.py"), last(), out]);
  const { ids, logits } = JSON.parse(readFileSync(out, "utf8")) as { ids: number[]; logits: number[] };
  t.deepEqual(ids, [...Buffer.from("the river ru")]);
  const built = buildModule(smallModel(), { precision: "f32", microBatch: 1, length: 12, kinds: ["logits"] });
  await using engine = await Engine.create({ device: "cpu" });
  const module = await engine.load(built.spec);
  for (const [name, value] of Object.entries(built.constants)) await module.write(name, value);
  await module.loadFile(join(last(), "model.safetensors"), modelEntries(built.parameters));
  await module.play([{ program: "logits", inputs: { "io/tokens": Int32Array.from(ids) } }]);
  const ours = (await module.read("out/all_logits")) as Float32Array;
  const scale = Math.sqrt(logits.reduce((sum, v) => sum + v * v, 0));
  const error = Math.sqrt(logits.reduce((sum, v, i) => sum + (v - ours[i]!) ** 2, 0)) / scale;
  t.true(error < 1e-4, `relative error ${error}`);
});

test("a summary of a run has its last losses and each decay's drop", async (t) => {
  const summary = summarize(await loadRun(join(workplace, "run")));
  t.like(summary, { name: "small", steps: 42, tokens: 42 * 128 });
  t.is(summary.validationLoss, run.evaluations.at(-1)!.loss);
  t.deepEqual(summary.decays, run.decays);
  t.true(summary.decays.every((d) => d.drop === d.before! - d.after));
  await t.throwsAsync(() => loadRun(workplace), { code: "BAD_INPUT", message: /no run directory/ });
});

test("a benchmark trains on the same random tokens for the same seed, and says what it measured", async (t) => {
  const options = { model: smallModel(), precision: "fp32", batch: 2, length: 32, steps: 2, warmup: 1 } as const;
  const [a, b] = [await benchTrain(options), await benchTrain({ ...options, threads: 1 })];
  t.deepEqual(a.losses, b.losses);
  t.is(a.losses.length, 3);
  t.true(a.tokensPerSecond > 0 && a.gflops > 0 && a.peakRssBytes > 2 ** 20 && a.share > 0);
  t.is(a.parameters, 2 * (4 * 32 * 32 + 3 * 64 * 32) + 2 * 257 * 32 + 5 * 32);
});

test("the measured peak is a positive rate for both precisions", async (t) => {
  await using engine = await Engine.create({ device: "cpu" });
  for (const precision of ["f32", "bf16"] as const) t.true((await measurePeak(engine, precision)) > 1e6);
});
