import type { DeviceChoice } from "../base/device.ts";
import type { Batch } from "../data/loader.ts";
import { Engine, planMemory } from "../engine/engine.ts";
import { counts, flopsPerToken } from "../model/presets.ts";
import { adamDefaults } from "../optim/adamw.ts";
import { type BenchModelOptions, buildBenchModel } from "./benchmark_model.ts";
import { enginePrecision } from "./model_config.ts";
import { loadModule, ModuleMachine } from "./module_machine.ts";
import { measurePeak } from "./peak.ts";
import { uniforms } from "./random.ts";

export interface BenchTrainOptions extends BenchModelOptions {
  /** Steps that count, and steps before them that do not. */
  steps?: number | undefined;
  warmup?: number | undefined;
  threads?: number | undefined;
  device?: DeviceChoice | undefined;
  seed?: number | undefined;
  onStep?: ((step: number, milliseconds: number, loss: number) => void) | undefined;
}

export interface BenchTrainResult {
  preset: string | null;
  precision: "fp32" | "bf16";
  batch: number;
  length: number;
  microBatch: number;
  steps: number;
  threads: number;
  deviceClass: string;
  parameters: number;
  /** Inside documents: of the pairs that the measured steps had, on average. */
  flopsPerToken: number;
  /** Tokens per second at the median step. */
  tokensPerSecond: number;
  stepMsMedian: number;
  stepMsMin: number;
  /** Model FLOP/s at the median step, 1e9. */
  gflops: number;
  /** The same over the measured matrix-multiply peak. */
  share: number;
  peakGflops: number;
  peakRssBytes: number;
  plannedBytes: number;
  losses: number[];
}

/**
 * Random tokens, the same for a seed on every machine; targets are tokens one further. With `documents` of so many tokens
 * in the mean (all lengths up to twice that equally likely), also where each begins.
 */
export function randomBatch(
  vocab: number,
  sequences: number,
  length: number,
  seed: number,
  step: number,
  documents?: number,
): Batch {
  const uniform = uniforms(seed, step);
  const draw = () => Math.floor(uniform() * vocab);
  const text = Int32Array.from({ length: sequences * (length + 1) }, draw);
  const tokens = new Int32Array(sequences * length);
  const targets = new Int32Array(sequences * length);
  for (let row = 0; row < sequences; row++) {
    const from = row * (length + 1);
    tokens.set(text.subarray(from, from + length), row * length);
    targets.set(text.subarray(from + 1, from + 1 + length), row * length);
  }
  const place = { epoch: 0, position: (step + 1) * sequences, offset: 0 };
  const batch = { tokens, targets, sequences, length, validTokens: sequences * length, ...place };
  if (documents === undefined) return batch;
  const starts = new Int32Array(sequences * length);
  let squares = 0; // of the lengths of the documents' pieces: n^2 = 1 + 3 + ... + (2 n - 1)
  for (let begin = 0; begin < starts.length; ) {
    const end = begin + Math.max(1, Math.floor(1 + uniform() * (2 * documents - 1)));
    for (let at = begin; at < Math.min(end, starts.length); at++) {
      const start = Math.max(begin, at - (at % length));
      starts[at] = start % length;
      squares += 2 * (at - start) + 1;
    }
    begin = end;
  }
  return { ...batch, starts, context: squares / starts.length };
}

/** Times whole training steps (all micro-batches and the update, the loss read back) on random tokens. */
export async function benchTrain(options: BenchTrainOptions): Promise<BenchTrainResult> {
  const { steps = 10, warmup = 3, seed = 1, threads = 0, device = "auto" } = options;
  const { preset, model, precision, batch, length, microBatch, built } = buildBenchModel(options);
  await using engine = await Engine.create({ device, threads });
  const module = await loadModule(engine, built, seed);
  const machine = new ModuleMachine(module, built, adamDefaults);
  const never = new AbortController().signal;
  const losses: number[] = [];
  const times: number[] = [];
  let contexts = 0;
  for (let step = 0; step < warmup + steps; step++) {
    const tokens = randomBatch(model.vocab, batch, length, seed, step, options.documents);
    const start = performance.now();
    const numbers = (await machine.step(tokens, step, { lr: 1e-3 }, never))!;
    const milliseconds = performance.now() - start;
    options.onStep?.(step, milliseconds, numbers.loss);
    losses.push(numbers.loss);
    if (step < warmup) continue;
    times.push(milliseconds);
    contexts += tokens.context ?? length;
  }
  const peakRssBytes = process.resourceUsage().maxRSS * 1024;
  const plan = planMemory(built.spec, { device, threads });
  const peak = await measurePeak(engine, enginePrecision(precision));
  const sorted = times.toSorted((a, b) => a - b);
  const stepMsMedian = sorted[sorted.length >> 1]!;
  const tokensPerSecond = (batch * length * 1000) / stepMsMedian;
  const flopsEach = flopsPerToken(model, contexts / steps);
  const flops = tokensPerSecond * flopsEach;
  return {
    preset,
    precision,
    batch,
    length,
    microBatch,
    steps,
    threads: engine.info.threads,
    deviceClass: engine.info.deviceClass,
    parameters: counts(model).parameters,
    flopsPerToken: flopsEach,
    tokensPerSecond,
    stepMsMedian,
    stepMsMin: sorted[0]!,
    gflops: flops / 1e9,
    share: flops / peak,
    peakGflops: peak / 1e9,
    peakRssBytes,
    plannedBytes: plan.persistentBytes + plan.scratchBytes + plan.packedBytes + plan.workspaceBytes,
    losses,
  };
}
