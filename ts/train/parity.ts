import type { DeviceChoice } from "../base/device.ts";
import { mean } from "../base/statistics.ts";
import { Engine } from "../engine/engine.ts";
import type { BuiltModule } from "../model/build.ts";
import { counts } from "../model/presets.ts";
import { adamDefaults } from "../optim/adamw.ts";
import { type BenchModelOptions, buildBenchModel } from "./benchmark_model.ts";
import { loadModule, ModuleMachine } from "./module_machine.ts";
import { bigramText } from "./synthetic.ts";

export interface ParityOptions extends Omit<BenchModelOptions, "microBatch" | "recompute"> {
  /** The first one is the reference. */
  devices: readonly [DeviceChoice, DeviceChoice];
  steps?: number | undefined;
  /** Learning rate after a warm-up of 20 steps. */
  peak?: number | undefined;
  threads?: number | undefined;
  seed?: number | undefined;
  onStep?: ((step: number, losses: readonly [number, number]) => void) | undefined;
}

export interface ParityResult {
  preset: string | null;
  precision: "fp32" | "bf16";
  devices: readonly [string, string];
  deviceClasses: readonly [string, string];
  parameters: number;
  batch: number;
  length: number;
  steps: number;
  seed: number;
  /** Mean and largest |difference| of the training loss over the steps, nats per token. */
  meanDifference: number;
  largestDifference: number;
  tolerance: number;
  /** Loss of the reference at the first step less the mean of its last tenth: says whether there was anything to follow. */
  fall: number;
  ok: boolean;
  losses: readonly [number[], number[]];
}

const WARMUP_STEPS = 20;

/**
 * Largest mean |difference| of two devices' loss curves, nats per token. bf16: activations of two implementations differ by
 * roundings of 2^-9, and training makes the distance grow; 0.02 is well under what another seed gives. fp32: sums in another
 * order.
 */
export const parityTolerance = (precision: "fp32" | "bf16"): number => (precision === "bf16" ? 0.02 : 0.002);

/** Trains the same model from the same seed on two devices, step by step, and compares their losses. */
export async function trainingParity(options: ParityOptions): Promise<ParityResult> {
  const { steps = 200, peak = 1e-3, seed = 1, devices } = options;
  const { preset, model, precision, batch, length, built } = buildBenchModel(options);
  const threads = options.threads ?? 0;
  await using reference = await machineOn(devices[0], built, { threads, seed });
  await using other = await machineOn(devices[1], built, { threads, seed });
  const text = bigramText(model.vocab, seed);
  const never = new AbortController().signal;
  const losses: [number[], number[]] = [[], []];
  for (let step = 0; step < steps; step++) {
    const tokens = text.batch(batch, length, step);
    const lr = peak * Math.min(1, (step + 1) / WARMUP_STEPS);
    const both = [reference, other].map((side) => side.machine.step(tokens, step, { lr }, never));
    const [a, b] = await Promise.all(both);
    losses[0].push(a!.loss);
    losses[1].push(b!.loss);
    options.onStep?.(step, [a!.loss, b!.loss]);
  }
  const tolerance = parityTolerance(precision);
  const { meanDifference, largestDifference } = curveDifference(...losses);
  return {
    ...{ preset, precision, batch, length, steps, seed, devices, tolerance, meanDifference, largestDifference },
    deviceClasses: [reference.engine.info.deviceClass, other.engine.info.deviceClass],
    parameters: counts(model).parameters,
    fall: losses[0][0]! - mean(losses[0].slice(-Math.ceil(steps / 10))),
    ok: meanDifference <= tolerance, // false for NaN
    losses,
  };
}

export function curveDifference(a: readonly number[], b: readonly number[]) {
  const differences = a.map((loss, i) => Math.abs(loss - b[i]!));
  return { meanDifference: mean(differences), largestDifference: Math.max(...differences) };
}

async function machineOn(device: DeviceChoice, built: BuiltModule, { threads, seed }: Record<string, number>) {
  const engine = await Engine.create({ device, threads: threads! });
  try {
    const module = await loadModule(engine, built, seed);
    const machine = new ModuleMachine(module, built, adamDefaults);
    return { engine, machine, [Symbol.asyncDispose]: () => engine.dispose() };
  } catch (error) {
    await engine.dispose();
    throw error;
  }
}
