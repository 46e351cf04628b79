/**
 * Attention inside documents, as whole models: documents packed side by side into sequences must train as each would alone.
 * Alone, a document begins at position 0; in a sequence anywhere: scores depend on differences of positions only.
 */
import test from "ava";
import { Engine } from "../../ts/engine/engine.ts";
import { type BuiltModule, buildModule } from "../../ts/model/build.ts";
import { llamaConfig } from "../../ts/model/presets.ts";
import { adamDefaults, adamScalars } from "../../ts/optim/adamw.ts";
import { initializeWeights, playIntegers } from "../../ts/train/module_machine.ts";
import { generator, ReferenceMachine } from "../graph/reference.ts";
import { tinyConfig, tinyMachine, tinyModule } from "./tiny.ts";

/** Lengths of the documents of each sequence. */
type Packing = readonly (readonly number[])[];

/** Where the document of each row begins in its sequence. */
const startsOf = (packing: Packing): number[] =>
  packing.flatMap((lengths) => {
    let start = 0;
    return lengths.flatMap((length) => {
      start += length;
      return new Array<number>(length).fill(start - length);
    });
  });

/** [first row, length] of each document. */
const documentsOf = (packing: Packing): [number, number][] => {
  let row = 0;
  return packing.flat().map((length) => {
    row += length;
    return [row - length, length];
  });
};

const packing: Packing = [
  [2, 1, 2],
  [4, 1],
];

for (const recompute of ["none", "block"] as const)
  test(`packed documents give the logits, loss and gradients of each alone, in float64: recompute ${recompute}`, (t) => {
    const config = tinyConfig({ qkNorm: true });
    const packed = tinyModule(config, { attention: "documents", recompute });
    const machine = tinyMachine(packed, 11);
    machine.set("io/starts", startsOf(packing));
    machine.play(packed.programs.logits!);
    machine.play(packed.programs.accumulate!);
    machine.play(packed.programs.evaluate!);

    const parts = documentsOf(packing);
    const single = new Map<number, { model: BuiltModule; machine: ReferenceMachine }>();
    const sum = machine.tensor("grad").map(() => 0);
    let loss = 0;
    for (const [row, length] of parts) {
      const model = single.get(length)?.model ?? tinyModule(config, { microBatch: 1, length });
      const alone = single.get(length)?.machine ?? new ReferenceMachine(model.spec);
      single.set(length, { model, machine: alone });
      for (const name of ["param", "const/rope"]) alone.set(name, machine.tensor(name));
      for (const name of ["io/tokens", "io/targets"]) alone.set(name, machine.tensor(name).subarray(row, row + length));
      alone.setScalars({ lossScale: 1 / 9 });
      alone.setIntegers({ firstMicroBatch: 1, positionOffset: 0 });
      alone.play(model.programs.logits!);
      alone.play(model.programs.accumulate!);
      const { vocab } = config;
      const want = machine.tensor("out/all_logits").subarray(row * vocab, (row + length) * vocab);
      // Float64, but the rotary table is rounded to fp32 (3e-8), and a document has its angles from another place of it.
      closeTo(t, alone.tensor("out/all_logits").subarray(0, length * vocab), want, 1e-6, `logits of rows from ${row}`);
      alone.tensor("grad").forEach((g, i) => {
        sum[i]! += g;
      });
      loss += alone.tensor("out/loss")[0]!;
    }
    closeTo(t, machine.tensor("grad"), sum, 1e-6, "gradients");
    closeTo(t, machine.tensor("out/loss"), [loss], 1e-6, "loss");
    closeTo(t, machine.tensor("out/eval_loss"), [loss], 1e-6, "evaluation");
    machine.set("io/starts", new Int32Array(10));
    const before = machine.tensor("out/all_logits").slice();
    machine.play(packed.programs.logits!);
    t.notDeepEqual(machine.tensor("out/all_logits"), before, "whole sequences are something else");
  });

function closeTo(
  t: { true: (ok: boolean, message: string) => void },
  got: ArrayLike<number>,
  want: ArrayLike<number>,
  tolerance: number,
  what: string,
): void {
  const size = Math.max(1, ...Array.from(want, Math.abs));
  const worst = Math.max(...Array.from(want, (w, i) => Math.abs(got[i]! - w)));
  t.true(worst <= tolerance * size, `${what}: ${worst} of ${size}`);
}

test("on the CPU, packed documents train as each alone", async (t) => {
  // Blocks of 64 positions: documents inside one, over several, at an edge, and of one token.
  const lengths = [[70, 58, 1, 71], [200]];
  const config = llamaConfig({
    ...{ vocab: 23, dim: 16, layers: 2, heads: 2, kvHeads: 1, headDim: 8, ffn: 24, maxLength: 200 },
  });
  const random = generator(5);
  const token = () => Math.floor(((random() + 1) / 2) * config.vocab);
  const [tokens, targets] = [0, 1].map(() => Int32Array.from({ length: 400 }, token)) as [Int32Array, Int32Array];
  const scalars = adamScalars({ ...adamDefaults, step: 0, lr: 1e-3, lossScale: 1 / 400 });
  await using engine = await Engine.create({ device: "cpu" });
  const run = async (
    options: { attention: "sequence" | "documents"; batch: number; length: number },
    plays: Record<string, Int32Array>[],
  ) => {
    const { attention, batch: microBatch, length } = options;
    const built = buildModule(config, { precision: "f32", attention, microBatch, length, kinds: ["accumulate"] });
    const module = await engine.load(built.spec);
    for (const [name, value] of Object.entries(built.constants)) await module.write(name, value);
    await initializeWeights(module, built.parameters, 3);
    for (const inputs of plays)
      await module.play([
        {
          program: "accumulate",
          inputs,
          scalars,
          integers: playIntegers({ firstMicroBatch: inputs === plays[0] ? 1 : 0 }),
        },
      ]);
    const grad = (await module.read("grad")) as Float32Array;
    await module.dispose();
    return grad;
  };
  const starts = Int32Array.from(startsOf(lengths));
  const packed = await run({ attention: "documents", batch: 2, length: 200 }, [
    { "io/tokens": tokens, "io/targets": targets, "io/starts": starts },
  ]);
  const sum = packed.map(() => 0);
  for (const [row, length] of documentsOf(lengths)) {
    const part = (values: Int32Array) => values.subarray(row, row + length);
    const inputs = { "io/tokens": part(tokens), "io/targets": part(targets) };
    const alone = await run({ attention: "sequence", batch: 1, length }, [inputs]);
    alone.forEach((g, i) => {
      sum[i]! += g;
    });
  }
  // fp32: sums over 400 rows in other groupings, some 1e-6 of the largest.
  closeTo(t, packed, sum, 3e-5, "gradients");
  const module = await engine.load(
    buildModule(config, { precision: "f32", attention: "documents", microBatch: 2, length: 200, kinds: ["evaluate"] })
      .spec,
  );
  for (const [row, start] of [
    [199, 200],
    [7, -1],
    [100, 3],
    [200, 1],
  ] as const) {
    const wrong = starts.slice();
    wrong[row] = start;
    await t.throwsAsync(
      module.play([
        { program: "evaluate", inputs: { "io/tokens": tokens, "io/targets": targets, "io/starts": wrong }, scalars },
      ]),
      { code: "BAD_INPUT", message: new RegExp(`the document of row ${row} starts at ${start}`) },
    );
  }
});
