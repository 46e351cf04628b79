import type { GradientSums } from "../graph/autograd.ts";
import { type BuiltModule, buildModule } from "../model/build.ts";
import type { LlamaConfig } from "../model/llama.ts";
import { preset } from "../model/presets.ts";
import { adamw } from "../optim/adamw.ts";
import { enginePrecision } from "./model_config.ts";

/** The training step that a benchmark or a comparison of devices is about. */
export interface BenchModelOptions {
  /** A named size, or the network itself. */
  preset?: string | undefined;
  model?: LlamaConfig | undefined;
  precision?: "fp32" | "bf16" | undefined;
  /** Sequences in a step and tokens in a sequence. */
  batch?: number | undefined;
  length?: number | undefined;
  microBatch?: number | undefined;
  recompute?: "none" | "block" | undefined;
  gradientSums?: GradientSums | undefined;
  /** Mean tokens of a document, inside which attention then stays. Default: sequences are not divided. */
  documents?: number | undefined;
}

export interface BenchModel {
  /** null for a network that was given itself. */
  preset: string | null;
  model: LlamaConfig;
  precision: "fp32" | "bf16";
  batch: number;
  length: number;
  microBatch: number;
  built: BuiltModule;
}

/** The Programs of a training step: by default of size 10m in bf16, 8 sequences of up to 256 tokens at once. */
export function buildBenchModel(options: BenchModelOptions): BenchModel {
  const { precision = "bf16", batch = 8 } = options;
  const name = options.model ? null : (options.preset ?? "10m");
  const base = options.model ?? preset(name!);
  const length = options.length ?? Math.min(256, base.maxLength);
  const model = { ...base, maxLength: Math.max(length, base.maxLength) };
  const microBatch = options.microBatch ?? batch;
  const built = buildModule(model, {
    precision: enginePrecision(precision),
    microBatch,
    length,
    recompute: options.recompute,
    gradientSums: options.gradientSums,
    attention: options.documents === undefined ? "sequence" : "documents",
    kinds: ["accumulate", "update"],
    update: adamw(),
  });
  return { preset: name, model, precision, batch, length, microBatch, built };
}
