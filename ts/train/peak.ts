import type { Engine } from "../engine/engine.ts";

/**
 * The device's measured matrix-multiply peak in FLOP/s, against which a run's share is stated: the best of a few square
 * products through the engine's own `linear`, with weights packed as in training. Takes a fraction of a second; a
 * device too slow for the large product is measured on the small one.
 */
export async function measurePeak(engine: Engine, precision: "f32" | "bf16"): Promise<number> {
  const small = await rate(engine, precision, 256, 4);
  const seconds = (2 * 2048 ** 3) / small;
  if (seconds < 0.15) return Math.max(small, await rate(engine, precision, 2048, 4));
  return Math.max(small, await rate(engine, precision, 512, 2));
}

async function rate(engine: Engine, precision: "f32" | "bf16", size: number, repeat: number): Promise<number> {
  const x = { dtype: precision, shape: [size, size] } as const;
  const weight = { dtype: "f32", shape: [size, size] } as const;
  const { seconds } = await engine.runOp("linear", [x, weight, null, x], [], { repeat, packed: true });
  return (2 * size ** 3) / Math.min(...seconds);
}
