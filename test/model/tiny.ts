/** A LLaMA small enough for float64 loops, and the machine to play it on. */
import { type BuildOptions, type BuiltModule, buildModule } from "../../ts/model/build.ts";
import type { LlamaConfig } from "../../ts/model/llama.ts";
import { llamaConfig } from "../../ts/model/presets.ts";
import { adamw } from "../../ts/optim/adamw.ts";
import { generator, ReferenceMachine } from "../graph/reference.ts";

export const tinyConfig = (changes: Partial<LlamaConfig> = {}): LlamaConfig =>
  llamaConfig({ vocab: 11, dim: 8, layers: 2, heads: 4, kvHeads: 2, headDim: 4, ffn: 6, maxLength: 6, ...changes });

export const tinyModule = (config: LlamaConfig, options: Partial<BuildOptions> = {}): BuiltModule =>
  buildModule(config, {
    precision: "f32",
    microBatch: 2,
    length: 5,
    kinds: ["accumulate", "update", "evaluate", "decode", "logits"],
    update: adamw(),
    ...options,
  });

/** A machine with random parameters, tokens and targets (one target ignored). */
export function tinyMachine(model: BuiltModule, seed: number): ReferenceMachine {
  const random = generator(seed);
  const machine = new ReferenceMachine(model.spec);
  for (const p of model.parameters) {
    const values = machine.tensor(`param/${p.name}`);
    for (let i = 0; i < values.length; i++) values[i] = p.kind === "norm" ? 1 + 0.3 * random() : 0.5 * random();
  }
  for (const [name, values] of Object.entries(model.constants)) machine.set(name, values);
  const token = () => Math.floor(((random() + 1) / 2) * model.config.vocab);
  const rows = model.layout.get("io/tokens").shape[0]!;
  machine.set("io/tokens", Array.from({ length: rows }, token));
  machine.set(
    "io/targets",
    Array.from({ length: rows }, (_, i) => (i === 3 ? -1 : token())),
  );
  machine.setScalars({ lossScale: 1 / 9 });
  machine.setIntegers({ firstMicroBatch: 1, positionOffset: 0 });
  return machine;
}
