/**
 * Products fused with SwiGLU and its gradient against the same Programs without: the same bits on every device, for whole
 * steps. What the kernels compute is held against float64 in test/native.
 */
import type { DeviceChoice } from "../../ts/base/device.ts";
import { Engine, type TensorData } from "../../ts/engine/engine.ts";
import { buildModule } from "../../ts/model/build.ts";
import { llamaConfig } from "../../ts/model/presets.ts";
import { adamDefaults, adamw } from "../../ts/optim/adamw.ts";
import { randomBatch } from "../../ts/train/benchmark.ts";
import { loadModule, ModuleMachine } from "../../ts/train/module_machine.ts";
import { gpu, gpuTest as test } from "./support/gpu.ts";

const [batch, length] = [2, 20];
const modelOf = (ffn: number) =>
  llamaConfig({ vocab: 61, dim: 48, layers: 1, heads: 4, kvHeads: 2, headDim: 12, ffn, maxLength: length });

/** Ragged in every direction; the simulated sm_90 fuses the first one's products by wgmma (linear_swiglu_test.cpp). */
const models = {
  "ten steps": { config: modelOf(72), steps: 10 },
  "rows of no whole vectors": { config: modelOf(70), steps: 2 },
} as const;

/** Losses of some steps of two micro-batches, an evaluation, and what is then in memory: weights, gradients, moments. */
async function play(device: DeviceChoice, name: keyof typeof models, fuse: boolean, recompute: "none" | "block") {
  const { config, steps } = models[name];
  const built = buildModule(config, {
    ...{ precision: "bf16", microBatch: batch, length, recompute, fuse, headChunkRows: 32 },
    ...{ kinds: ["accumulate", "update", "evaluate"], update: adamw() },
  });
  const fused = built.programs.accumulate!.commands.filter((c) => /Swiglu$/.test(c.op)).length;
  await using engine = await Engine.create({ device });
  const module = await loadModule(engine, built, 5);
  const machine = new ModuleMachine(module, built, adamDefaults);
  const losses: number[] = [];
  const tokens = (sequences: number, step: number) => randomBatch(config.vocab, sequences, length, 7, step);
  for (let step = 0; step < steps; step++)
    losses.push((await machine.step(tokens(2 * batch, step), step, { lr: 3e-3 }, new AbortController().signal))!.loss);
  losses.push((await machine.evaluate(tokens(batch, steps))).sum);
  const state: TensorData[] = [];
  for (const set of ["param", "grad", "adam_m", "adam_v"]) state.push(await module.read(set));
  return { fused, losses, state };
}

for (const device of [gpu, "cpu"] as const)
  for (const name of Object.keys(models) as (keyof typeof models)[])
    test(`${device}, ${name}: steps of fused Programs give the bits of those that are not`, async (t) => {
      const apart = await play(device, name, false, "none");
      t.is(apart.fused, 0);
      t.true(apart.losses.every(Number.isFinite));
      for (const recompute of ["none", "block"] as const) {
        const { fused, losses, state } = await play(device, name, true, recompute);
        t.true(fused >= 2);
        t.deepEqual(losses, apart.losses);
        t.deepEqual(state, apart.state);
      }
    });
