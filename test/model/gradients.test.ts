import test from "ava";
import type { BuiltModule } from "../../ts/model/build.ts";
import type { LlamaConfig } from "../../ts/model/llama.ts";
import { generator, type ReferenceMachine } from "../graph/reference.ts";
import { tinyConfig, tinyMachine, tinyModule } from "./tiny.ts";

const seed = 20240917;

/** lossScale * sum over valid rows of (cross-entropy + zLoss lse^2), from the logits Program alone. */
function objective(model: BuiltModule, machine: ReferenceMachine): number {
  machine.play(model.programs.logits!);
  const logits = machine.tensor("out/all_logits");
  const { vocab, zLoss } = model.config;
  let total = 0;
  machine.tensor("io/targets").forEach((target, r) => {
    if (target < 0) return;
    const row = logits.subarray(r * vocab, (r + 1) * vocab);
    const lse = Math.log(row.reduce((s, v) => s + Math.exp(v), 0));
    total += lse - row[target]! + zLoss * lse * lse;
  });
  return total / 9;
}

/** Derivative of the objective along `direction` of one parameter, by central differences of fourth order. */
function slope(model: BuiltModule, machine: ReferenceMachine, name: string, direction: Float64Array): number {
  const values = machine.tensor(`param/${name}`);
  const origin = values.slice();
  const at = (h: number) => {
    for (let i = 0; i < values.length; i++) values[i] = origin[i]! + h * direction[i]!;
    return objective(model, machine);
  };
  const h = 1e-4;
  const result = (8 * (at(h) - at(-h)) - (at(2 * h) - at(-2 * h))) / (12 * h);
  values.set(origin);
  return result;
}

const variants: Record<string, Partial<LlamaConfig>> = {
  "grouped queries": {},
  "full multi-head attention, z-loss": { kvHeads: 4, zLoss: 0.05 },
  "tied embedding": { tied: true },
  "qk-norm": { qkNorm: true },
  "qk-norm, one key head, tied, z-loss": { qkNorm: true, kvHeads: 1, tied: true, zLoss: 0.02 },
};

for (const [name, changes] of Object.entries(variants))
  for (const recompute of ["none", "block"] as const)
    test(`gradients of every parameter equal finite differences: ${name}, recompute ${recompute}`, (t) => {
      const model = tinyModule(tinyConfig(changes), { recompute, headChunkRows: 4 });
      const machine = tinyMachine(model, seed);
      const random = generator(seed + 1);
      machine.play(model.programs.accumulate!);
      for (const p of model.parameters) {
        const gradient = machine.tensor(`grad/${p.name}`).slice();
        const whole = gradient.map(() => random());
        const single = gradient.map(() => 0);
        single[Math.floor(((random() + 1) / 2) * single.length)] = 1;
        for (const direction of [whole, single]) {
          const want = slope(model, machine, p.name, direction);
          const got = gradient.reduce((s, g, i) => s + g * direction[i]!, 0);
          // Truncation, of order h^4 = 1e-16 times a fifth derivative, and rounding, 1e-16 / h, both stay below 1e-10.
          t.true(
            Math.abs(got - want) <= 1e-8 * (1 + Math.abs(want)),
            `${p.name}: ${got}, expected ${want}; seed ${seed}`,
          );
        }
      }
    });

const gradientsOf = (changes: Partial<LlamaConfig>, options: Parameters<typeof tinyModule>[1]) => {
  const model = tinyModule(tinyConfig(changes), options);
  const machine = tinyMachine(model, seed);
  machine.play(model.programs.accumulate!);
  return { grad: machine.tensor("grad").slice(), loss: machine.tensor("out/loss")[0]! };
};

for (const [name, changes] of Object.entries(variants)) {
  test(`recomputing blocks gives the same bits: ${name}`, (t) => {
    t.deepEqual(gradientsOf(changes, { recompute: "block" }), gradientsOf(changes, { recompute: "none" }));
  });

  test(`reusing memory gives the same bits as memory of its own for every tensor: ${name}`, (t) => {
    for (const recompute of ["none", "block"] as const)
      t.deepEqual(
        gradientsOf(changes, { recompute, reuse: "all", headChunkRows: 3 }),
        gradientsOf(changes, { recompute, reuse: "none", headChunkRows: 3 }),
      );
  });

  test(`a chunked head gives the same losses and gradients as a whole one: ${name}`, (t) => {
    const whole = gradientsOf(changes, { headChunkRows: 10 });
    for (const headChunkRows of [1, 3, 5]) {
      const chunked = gradientsOf(changes, { headChunkRows });
      t.is(chunked.loss, whole.loss);
      // Float64 sums over the rows in another grouping.
      const worst = chunked.grad.reduce((m, g, i) => Math.max(m, Math.abs(g - whole.grad[i]!)), 0);
      t.true(worst <= 1e-14, `chunks of ${headChunkRows}: largest difference ${worst}`);
    }
  });
}

test("a second micro-batch adds its gradients and loss; the first overwrites what was there", (t) => {
  const model = tinyModule(tinyConfig({ tied: true, qkNorm: true }), { headChunkRows: 3 });
  const machine = tinyMachine(model, seed);
  machine.play(model.programs.accumulate!);
  const once = machine.tensor("grad").slice();
  const loss = machine.tensor("out/loss")[0]!;
  machine.play(model.programs.accumulate!);
  t.deepEqual(machine.tensor("grad").slice(), once);
  machine.setIntegers({ firstMicroBatch: 0 });
  machine.play(model.programs.accumulate!);
  t.is(machine.tensor("out/loss")[0], 2 * loss);
  const worst = machine.tensor("grad").reduce((m, g, i) => Math.max(m, Math.abs(g - 2 * once[i]!)), 0);
  t.true(worst <= 1e-14, `largest difference ${worst}`);
});

test("padding between parameters has no gradient and is not moved by an update", (t) => {
  const model = tinyModule(tinyConfig({ qkNorm: true, vocab: 13, dim: 6, headDim: 2 }));
  const machine = tinyMachine(model, seed);
  machine.setScalars({ lr: 0.01, beta1: 0.9, beta2: 0.95, eps: 1e-8, bias1: 10, bias2: 20, weightDecay: 0.1, clip: 1 });
  machine.play(model.programs.accumulate!);
  machine.play(model.programs.update!);
  t.is(machine.tensor("out/status")[0], 0);
  for (const set of ["param", "grad", "adam_m", "adam_v"]) {
    const flat = machine.tensor(set);
    const start = model.layout.get(set).offset;
    const padding = new Set(flat.keys());
    for (const p of model.parameters) {
      const at = (model.layout.get(`${set}/${p.name}`).offset - start) / 4;
      for (let i = 0; i < machine.tensor(`${set}/${p.name}`).length; i++) padding.delete(at + i);
    }
    t.true(padding.size > 0);
    for (const i of padding) t.is(flat[i], 0);
    t.true(flat.every(Number.isFinite));
  }
});
