import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import type { LlamaConfig } from "../../ts/model/llama.ts";
import type { Parameter } from "../../ts/model/parameters.ts";

/** What is kept of a tensor: its norm, its products with two +-1 vectors, and some of its entries. */
export interface Digest {
  norm: number;
  projections: [number, number];
  samples: [index: number, value: number][];
}

/** A case made by tools/fixtures/make_llama_fixtures.py. */
export interface Fixture {
  config: Pick<LlamaConfig, "vocab" | "dim" | "layers" | "heads" | "kvHeads" | "headDim" | "ffn" | "tied">;
  batch: number;
  length: number;
  seed: number;
  loss: number;
  tokenLoss: number[];
  logits: Digest;
  lastLogits: number[];
  gradients: Record<string, Digest>;
  adamw: {
    settings: {
      lr: number;
      beta1: number;
      beta2: number;
      eps: number;
      weightDecay: number;
      clip: number;
      steps: number;
    };
    losses: number[];
    gradNorms: number[];
    parameters: Record<string, Digest>;
  };
}

const folder = join(import.meta.dirname, "../fixtures/llama");

export const fixtures: ReadonlyMap<string, Fixture> = new Map(
  readdirSync(folder).map((file) => [file.replace(".json", ""), JSON.parse(readFileSync(join(folder, file), "utf8"))]),
);

/** The 32-bit mix of tools/fixtures: tokens, sample positions, projection signs. */
export function hashed(i: number, salt: number): number {
  let x = (Math.imul(i, 2654435761) + salt) >>> 0;
  x = (x ^ (x >>> 15)) >>> 0;
  x = Math.imul(x, 2246822519) >>> 0;
  return (x ^ (x >>> 13)) >>> 0;
}

/** Inputs and next-token targets, [batch, length] each. */
export function batchOf({ config, batch, length }: Fixture): { tokens: Int32Array; targets: Int32Array } {
  const at = (b: number, i: number) => hashed(b * (length + 1) + i, 7) % config.vocab;
  const rows = (shift: number) =>
    Int32Array.from({ length: batch * length }, (_, r) => at(Math.floor(r / length), (r % length) + shift));
  return { tokens: rows(0), targets: rows(1) };
}

export function digest(x: Float32Array, samples: readonly (readonly [number, number])[]): Digest {
  let squares = 0;
  const projections: [number, number] = [0, 0];
  for (let i = 0; i < x.length; i++) {
    const v = x[i]!;
    squares += v * v;
    projections[0] += hashed(i, 1) >>> 31 ? v : -v;
    projections[1] += hashed(i, 2) >>> 31 ? v : -v;
  }
  return { norm: Math.sqrt(squares), projections, samples: samples.map(([i]) => [i, x[i]!]) };
}

/** Largest difference of two digests relative to the reference's norm, the scale on which rounding errors live. */
export function digestError(found: Digest, want: Digest): number {
  const scale = Math.max(want.norm, 1e-12);
  const errors = [
    Math.abs(found.norm - want.norm),
    ...want.projections.map((p, i) => Math.abs(found.projections[i]! - p)),
    ...want.samples.map(([, v], i) => Math.abs(found.samples[i]![1] - v)),
  ];
  return Math.max(...errors.map((e) => (Number.isFinite(e) ? e : Number.POSITIVE_INFINITY))) / scale;
}

/** The rows of a fused parameter's tensor that are one Hugging Face parameter. */
export function partOf(p: Parameter, hfName: string, data: Float32Array): Float32Array {
  const part = p.parts.find((q) => q.hfName === hfName)!;
  const width = data.length / p.shape[0]!;
  return data.subarray(part.rowStart * width, (part.rowStart + part.rows) * width);
}
