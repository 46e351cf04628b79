import test from "ava";
import { Engine, type Module, type PlayEntry, type TensorData } from "../../ts/engine/engine.ts";
import { integerNames } from "../../ts/graph/step_inputs.ts";
import type { BuildOptions, BuiltModule } from "../../ts/model/build.ts";
import type { LlamaConfig } from "../../ts/model/llama.ts";
import { adamScalars } from "../../ts/optim/adamw.ts";
import { generator, ReferenceMachine } from "../graph/reference.ts";
import { tinyConfig, tinyModule } from "./tiny.ts";

const seed = 31;
const rows = 14;

/** Larger than a vector, and ragged: no dimension is a multiple of 16. */
const config = (changes: Partial<LlamaConfig> = {}) =>
  tinyConfig({ vocab: 37, dim: 40, heads: 4, kvHeads: 2, headDim: 12, ffn: 44, maxLength: 9, ...changes });

const build = (c: LlamaConfig, options: Partial<BuildOptions> = {}) =>
  tinyModule(c, { microBatch: 2, length: 7, headChunkRows: 9, ...options });

/** Random parameters (rounded to fp32), constants and tokens, the same for both machines. */
function contents(model: BuiltModule): Record<string, Float32Array | Int32Array> {
  const random = generator(seed);
  const values: Record<string, Float32Array | Int32Array> = { ...model.constants };
  for (const p of model.parameters) {
    const size = p.shape.reduce((a, b) => a * b, 1);
    values[`param/${p.name}`] = Float32Array.from({ length: size }, () =>
      p.kind === "norm" ? 1 + 0.3 * random() : 0.3 * random(),
    );
  }
  const token = () => Math.floor(((random() + 1) / 2) * model.config.vocab);
  values["io/tokens"] = Int32Array.from({ length: rows }, token);
  values["io/targets"] = Int32Array.from({ length: rows }, (_, i) => (i === 5 ? -1 : token()));
  return values;
}

const integers = (given: Partial<Record<(typeof integerNames)[number], number>>) =>
  Int32Array.from(integerNames, (name) => given[name] ?? 0);

/** Two updates of two micro-batches each, then an evaluation, then one decoded token. */
function story(): PlayEntry[] {
  const step = (i: number): PlayEntry[] => {
    const scalars = adamScalars({
      ...{ step: i, lr: 1e-2, beta1: 0.9, beta2: 0.95, eps: 1e-8, weightDecay: 0.1, clip: 0.5 },
      lossScale: 1 / (2 * (rows - 1)),
    });
    return [
      { program: "accumulate", scalars, integers: integers({ firstMicroBatch: 1 }) },
      { program: "accumulate", scalars, integers: integers({}) },
      { program: "update", scalars, integers: integers({}) },
    ];
  };
  return [
    ...step(0),
    ...step(1),
    { program: "evaluate", integers: integers({ firstMicroBatch: 1 }) },
    { program: "logits", integers: integers({}) },
    { program: "decode", integers: integers({}) },
  ];
}

async function onEngine(model: BuiltModule): Promise<Map<string, TensorData>> {
  await using engine = await Engine.create({ threads: 2 });
  const module: Module = await engine.load(model.spec);
  for (const [name, data] of Object.entries(contents(model))) await module.write(name, data);
  await module.play(story());
  const found = new Map<string, TensorData>();
  for (const { name } of model.layout.tensors) found.set(name, await module.read(name));
  return found;
}

function onReference(model: BuiltModule): ReferenceMachine {
  const machine = new ReferenceMachine(model.spec);
  for (const [name, data] of Object.entries(contents(model))) machine.set(name, data);
  for (const entry of story()) {
    machine.scalars.set(entry.scalars ?? machine.scalars.map(() => 0));
    machine.integers.set(entry.integers!);
    machine.play(model.programs[entry.program]!);
  }
  return machine;
}

const variants: Record<string, Partial<LlamaConfig>> = {
  "grouped queries": {},
  "tied, qk-norm, z-loss": { tied: true, qkNorm: true, zLoss: 0.01 },
};

for (const [name, changes] of Object.entries(variants)) {
  test(`fp32 training, evaluation and decoding on the engine equal the float64 reference: ${name}`, async (t) => {
    const model = build(config(changes));
    const found = await onEngine(model);
    const want = onReference(model);
    for (const { name: tensor } of model.layout.tensors) {
      const reference = want.tensor(tensor);
      const values = found.get(tensor)!;
      let error = 0;
      let norm = 0;
      reference.forEach((v, i) => {
        error += (values[i]! - v) ** 2;
        norm += v * v;
      });
      // Sums of up to 44 products in fp32 through two layers: a few 1e-7. AdamW divides gradients by their own size, so the
      // relative error of an element that nearly cancels goes whole into the second step's gradients: a few 1e-5.
      const relative = norm === 0 ? Math.sqrt(error) : Math.sqrt(error / norm);
      t.true(relative <= 1e-4, `${tensor}: relative error ${relative.toExponential(2)}; seed ${seed}`);
    }
  });

  for (const precision of ["f32", "bf16"] as const)
    test(`on the engine, ${precision}, recompute and memory reuse do not change a bit: ${name}`, async (t) => {
      const reference = await onEngine(build(config(changes), { precision, recompute: "none", reuse: "none" }));
      for (const recompute of ["none", "block"] as const) {
        const found = await onEngine(build(config(changes), { precision, recompute, reuse: "all" }));
        for (const [tensor, values] of reference) t.deepEqual(found.get(tensor), values, `${tensor}, ${recompute}`);
      }
      t.true(reference.get("out/norm")![0]! > 0);
    });
}
