/**
 * The CUDA backend without a GPU: device `simt` of the test addon runs the CUDA kernels' own source on the host, `cuda` may be
 * the emulator of their PTX. What the CPU backend computes is the reference; test/native/cuda holds each kernel against float64.
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { DeviceChoice } from "../../ts/base/device.ts";
import { Engine, planMemory, type TensorData } from "../../ts/engine/engine.ts";
import { type BuildOptions, buildModule } from "../../ts/model/build.ts";
import { llamaConfig } from "../../ts/model/presets.ts";
import { adamDefaults, adamScalars, adamw } from "../../ts/optim/adamw.ts";
import { randomBatch } from "../../ts/train/benchmark.ts";
import { compareDevices, toleranceOf } from "../../ts/train/compare_devices.ts";
import { examine } from "../../ts/train/doctor.ts";
import { loadModule, ModuleMachine, playIntegers } from "../../ts/train/module_machine.ts";
import { makeWorkplace, stopAt, trainSmall } from "../train/support/runs.ts";
import { gpu, simtTest, gpuTest as test } from "./support/gpu.ts";

const [batch, length] = [2, 40];
const model = llamaConfig({
  vocab: 61,
  dim: 48,
  layers: 2,
  heads: 4,
  kvHeads: 2,
  headDim: 16,
  ffn: 72,
  maxLength: length,
});

const build = (precision: "f32" | "bf16", options: Partial<BuildOptions> = {}) =>
  buildModule(model, {
    precision,
    microBatch: batch,
    length,
    kinds: ["accumulate", "update", "evaluate", "decode"],
    update: adamw(),
    headChunkRows: 32,
    ...options,
  });

async function machineOn(device: DeviceChoice, built: ReturnType<typeof build>) {
  const engine = await Engine.create({ device });
  const module = await loadModule(engine, built, 5);
  return { engine, module, machine: new ModuleMachine(module, built, adamDefaults) };
}

/** Loss and every gradient of one micro-batch. */
async function gradients(device: DeviceChoice, built: ReturnType<typeof build>): Promise<Map<string, TensorData>> {
  const { engine, module } = await machineOn(device, built);
  const { tokens, targets } = randomBatch(model.vocab, batch, length, 3, 0);
  const scalars = adamScalars({ ...adamDefaults, step: 0, lr: 1e-2, lossScale: 1 / tokens.length });
  const inputs = { "io/tokens": tokens, "io/targets": targets };
  await module.play([{ program: "accumulate", inputs, scalars, integers: playIntegers({ firstMicroBatch: 1 }) }]);
  const found = new Map<string, TensorData>([["loss", await module.read("out/loss")]]);
  for (const p of built.parameters) found.set(p.name, await module.read(`grad/${p.name}`));
  await engine.dispose();
  return found;
}

function relativeError(got: TensorData, want: TensorData): number {
  let [error, norm] = [0, 0];
  want.forEach((w, i) => {
    error += (got[i]! - w) ** 2;
    norm += w * w;
  });
  return Math.sqrt(error / norm);
}

async function train(device: DeviceChoice, precision: "f32" | "bf16", steps: number): Promise<number[]> {
  const { engine, machine } = await machineOn(device, build(precision));
  const losses: number[] = [];
  for (let step = 0; step < steps; step++) {
    const tokens = randomBatch(model.vocab, 2 * batch, length, 7, step % 3); // few batches, so that there is much to learn
    losses.push((await machine.step(tokens, step, { lr: 3e-3 }, new AbortController().signal))!.loss);
  }
  await engine.dispose();
  return losses;
}

simtTest("the device is named for what it is, and is never chosen unasked", async (t) => {
  await using simt = await Engine.create({ device: "simt" });
  t.like(simt.info, { device: "simt", path: "sm_90", deviceClass: "simt-sm_90-2" });
  await using auto = await Engine.create({});
  t.is(auto.info.device, "cpu");
  await t.throwsAsync(Engine.create({ device: "cuda" }), { code: "NO_DEVICE", message: /no CUDA backend/ });
});

test("the doctor names the GPU that runs would use, or says why there is none", async (t) => {
  const { findings } = await examine();
  const { found } = findings.find((f) => f.what === "gpu")!;
  t.regex(
    found,
    gpu === "cuda" ? /, path sm_\d+, [\d.]+ GiB$/ : /^.*: device is cuda, but this build has no CUDA backend/,
  );
});

for (const precision of ["f32", "bf16"] as const) {
  // fp32: sums of up to 80 products in another order, 1e-6 or so at the scale of the terms. bf16: every activation is rounded to
  // 2^-9, and a value that falls on the other side of a rounding boundary moves by 2^-8 through two layers.
  const tolerance = precision === "f32" ? 2e-5 : 3e-2;

  test(`${precision}: loss and every gradient of a step on the CUDA kernels equal the CPU's`, async (t) => {
    const built = build(precision);
    const [want, got] = [await gradients("cpu", built), await gradients(gpu, built)];
    for (const [name, values] of want) {
      const error = relativeError(got.get(name)!, values);
      t.true(error <= tolerance, `${name}: relative error ${error.toExponential(1)}`);
    }
  });

  test(`${precision}: recomputing blocks gives the same bits on the CUDA kernels`, async (t) => {
    const [kept, again] = [
      await gradients(gpu, build(precision)),
      await gradients(gpu, build(precision, { recompute: "block" })),
    ];
    for (const [name, values] of kept) t.deepEqual(again.get(name), values, name);
  });

  test(`${precision}: twenty steps of two micro-batches follow the CPU's losses`, async (t) => {
    const [want, got] = [await train("cpu", precision, 20), await train(gpu, precision, 20)];
    t.true(want[19]! < want[0]! - 0.3, "the losses fall, so equality says something");
    for (const [i, loss] of want.entries()) {
      const error = Math.abs(got[i]! - loss);
      t.true(error <= (precision === "f32" ? 1e-4 : 2e-2), `step ${i}: ${got[i]} against ${loss}`);
    }
    t.deepEqual(await train(gpu, precision, 3), got.slice(0, 3), "and the same bits on a second run");
  });

  test(`${precision}: no command of a step differs between the devices by more than its roundings`, async (t) => {
    const found = await compareDevices({
      ...{ built: build(precision), kinds: ["accumulate", "update"], devices: ["cpu", gpu] },
      ...{ vocab: model.vocab, batch, length, optimizer: adamDefaults },
    });
    const worst = found.toSorted((a, b) => b.relativeError - a.relativeError)[0]!;
    t.true(found.length > 40);
    t.true(worst.relativeError <= toleranceOf(precision), JSON.stringify(worst));
    t.true(worst.relativeError > 0, "two implementations with the same bits everywhere would be one");
  });
}

test("a token outside the vocabulary is refused before anything of the step is done", async (t) => {
  const { engine, module, machine } = await machineOn(gpu, build("f32"));
  const before = await module.read("param/model.norm.weight");
  const good = randomBatch(model.vocab, batch, length, 3, 0);
  const bad = { ...good, tokens: Int32Array.from(good.tokens, (v, i) => (i === 7 ? model.vocab : v)) };
  await t.throwsAsync(machine.step(bad, 0, { lr: 1e-2 }, new AbortController().signal), {
    code: "BAD_INPUT",
    message: /token 61 in row 7 is not below the vocabulary size 61/,
  });
  t.deepEqual(await module.read("param/model.norm.weight"), before);
  await engine.dispose();
});

test("a non-finite gradient stops all later updates, on the device itself", async (t) => {
  const { engine, module, machine } = await machineOn(gpu, build("bf16"));
  const signal = new AbortController().signal;
  await module.write("param/model.norm.weight", new Float32Array(model.dim).fill(Number.NaN));
  const before = await module.read("param/model.embed_tokens.weight");
  for (const step of [0, 1])
    t.is((await machine.step(randomBatch(model.vocab, batch, length, 3, step), step, { lr: 1e-2 }, signal))!.status, 1);
  t.deepEqual(await module.read("param/model.embed_tokens.weight"), before);
  await engine.dispose();
});

test("a profile names every command and what it took", async (t) => {
  const built = build("bf16");
  const { engine, module } = await machineOn(gpu, built);
  const { profile } = await module.play([{ program: "evaluate", integers: playIntegers({ firstMicroBatch: 1 }) }], {
    profile: true,
  });
  t.deepEqual(
    profile!.map((p) => p.op),
    built.programs.evaluate!.commands.map((c) => c.op),
  );
  t.true(profile!.every((p) => p.seconds >= 0));
  await engine.dispose();
});

test("the memory of a Module on the device is known before it is loaded", (t) => {
  const { spec } = build("bf16");
  const plan = planMemory(spec, { device: gpu });
  t.true(plan.packedBytes > 0, "bf16 copies of the weights");
  t.is(planMemory(build("f32").spec, { device: gpu }).packedBytes, 0);
  t.is(plan.persistentBytes, spec.persistentBytes);
});

test("a checkpoint made on one device goes on on the other, and the losses meet", async (t) => {
  const workplace = await makeWorkplace();
  const config = { precision: "bf16", model: { dim: 32, layers: 1, heads: 2, kvHeads: 2, headDim: 16, ffn: 48 } };
  const run = (name: string, device: DeviceChoice, more = {}) =>
    trainSmall(workplace, name, { config: { ...config, device }, ...more });
  const whole = await run("whole", "cpu");
  for (const [name, first, second] of [
    ["there", "cpu", gpu],
    ["back", gpu, "cpu"],
  ] as const) {
    await run(name, first, stopAt(36));
    const rest = await run(name, second, { resume: "auto" });
    t.is(rest.step, whole.step);
    const [end, want] = [rest.evaluations.at(-1)!.loss, whole.evaluations.at(-1)!.loss];
    t.true(Math.abs(end - want) < 0.02, `${first} then ${second}: ${end} against ${want}`);
    const metrics = readFileSync(join(workplace, name, "metrics.jsonl"), "utf8");
    t.regex(metrics, /other-bits/, "that the bits are another device's is said");
  }
});
