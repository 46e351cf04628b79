/**
 * The attention of compute capability 9.0 in whole models: device `simt` plays a GPU of 9.0, so head dims 48, 64 and 128 in
 * bf16 take the sm_90a kernels. test/native/cuda holds the kernels themselves against float64.
 */
import { join } from "node:path";
import { Engine, planMemory, type TensorData } from "../../ts/engine/engine.ts";
import { type AttentionScope, type BuildOptions, buildModule } from "../../ts/model/build.ts";
import { llamaConfig } from "../../ts/model/presets.ts";
import { adamDefaults, adamScalars, adamw } from "../../ts/optim/adamw.ts";
import { randomBatch } from "../../ts/train/benchmark.ts";
import { loadModule, playIntegers } from "../../ts/train/module_machine.ts";
import { makeWorkplace, stopAt, trainSmall } from "../train/support/runs.ts";
import { gpu, gpuTest as test } from "./support/gpu.ts";

const [vocab, batch, length] = [61, 1, 200]; // more positions than one tile of queries or keys has

const build = (
  headDim: number,
  precision: "f32" | "bf16",
  attention: AttentionScope = "sequence",
  gradientSums: BuildOptions["gradientSums"] = "ordered",
) =>
  buildModule(llamaConfig({ vocab, dim: 64, layers: 1, heads: 4, kvHeads: 2, headDim, ffn: 96, maxLength: length }), {
    precision,
    attention,
    gradientSums,
    microBatch: batch,
    length,
    kinds: ["accumulate"],
    update: adamw(),
    headChunkRows: 200,
  });

/** Loss and every gradient of one micro-batch; with `documents`, inside documents of so many tokens in the mean. */
async function gradients(
  device: "cpu" | typeof gpu,
  headDim: number,
  documents?: number,
  sums?: BuildOptions["gradientSums"],
): Promise<Map<string, TensorData>> {
  await using engine = await Engine.create({ device });
  const built = build(headDim, "bf16", documents === undefined ? "sequence" : "documents", sums);
  const module = await loadModule(engine, built, 5);
  const { tokens, targets, starts } = randomBatch(vocab, batch, length, 3, 0, documents);
  const scalars = adamScalars({ ...adamDefaults, step: 0, lr: 1e-2, lossScale: 1 / tokens.length });
  const inputs = { "io/tokens": tokens, "io/targets": targets, ...(starts && { "io/starts": starts }) };
  await module.play([{ program: "accumulate", inputs, scalars, integers: playIntegers({ firstMicroBatch: 1 }) }]);
  const found = new Map<string, TensorData>([["loss", await module.read("out/loss")]]);
  for (const p of built.parameters) found.set(p.name, await module.read(`grad/${p.name}`));
  return found;
}

function relativeError(got: TensorData, want: TensorData): number {
  let [error, norm] = [0, 0];
  want.forEach((w, i) => {
    error += (got[i]! - w) ** 2;
    norm += w * w;
  });
  return Math.sqrt(error / norm);
}

for (const [headDim, documents, sums] of [[48], [64], [128], [64, 40], [64, undefined, "any"]] as const) {
  const where = (documents === undefined ? "" : ", inside documents") + (sums === "any" ? ", added in any order" : "");
  test(`head dim ${headDim}${where}: loss and every gradient through the sm_90a attention equal the CPU's`, async (t) => {
    const want = await gradients("cpu", headDim, documents);
    if (sums === "any") t.deepEqual(await gradients("cpu", headDim, documents, sums), want, "the CPU keeps its order");
    const got = await gradients(gpu, headDim, documents, sums);
    for (const [name, values] of want) {
      // Every activation is rounded to 2^-9, and one that falls on the other side of a boundary moves by 2^-8 through a layer.
      const error = relativeError(got.get(name)!, values);
      t.true(error <= 3e-2, `${name}: relative error ${error.toExponential(1)}`);
    }
  });
}

test("starts of documents that cannot be are refused before anything of the step is done", async (t) => {
  await using engine = await Engine.create({ device: gpu });
  const module = await loadModule(engine, build(64, "bf16", "documents"), 5);
  const { tokens, targets } = randomBatch(vocab, batch, length, 3, 0);
  for (const [row, start] of [
    [0, 1],
    [7, -1],
    [9, 10],
    [100, 2],
  ] as const) {
    const starts = Int32Array.from(tokens, (_, i) => (i < 50 ? 0 : 50));
    starts[row] = start;
    const inputs = { "io/tokens": tokens, "io/targets": targets, "io/starts": starts };
    await t.throwsAsync(module.play([{ program: "accumulate", inputs }]), {
      code: "BAD_INPUT",
      message: new RegExp(`the document of row ${row} starts at ${start}, expected`),
    });
  }
  t.deepEqual(await module.read("io/tokens"), new Int32Array(length), "nothing was brought to the device");
});

test("the fp32 sums of dQ are in the plan of memory where those kernels run, and nowhere else", (t) => {
  const sums = batch * 4 * 256 * 64 * 4; // sequences, heads, positions in whole tiles, head dim, bytes
  const plan = (headDim: number, precision: "f32" | "bf16") =>
    planMemory(build(headDim, precision).spec, { device: gpu }).workspaceBytes;
  t.true(plan(64, "bf16") >= sums);
  t.true(plan(64, "f32") < sums);
  t.true(plan(80, "bf16") < sums, "head dim 80 has no such kernel");
});

test("a plan says that its bits vary where gradients are added in any order, and nowhere else", (t) => {
  const repeatable = (device: "cpu" | typeof gpu, ...of: Parameters<typeof build>) =>
    planMemory(build(...of).spec, { device }).repeatable;
  t.false(repeatable(gpu, 64, "bf16", "sequence", "any"));
  t.false(repeatable(gpu, 48, "bf16", "documents", "any"));
  t.true(repeatable(gpu, 64, "bf16", "sequence", "ordered"));
  t.true(repeatable(gpu, 64, "f32", "sequence", "any"));
  t.true(repeatable(gpu, 80, "bf16", "sequence", "any"), "head dim 80 has no such kernel");
  t.true(repeatable("cpu", 64, "bf16", "sequence", "any"));
});

test("a run whose bits vary says so when it begins and when it goes on; the CPU's does not", async (t) => {
  const workplace = await makeWorkplace();
  const model = { dim: 32, layers: 1, heads: 1, kvHeads: 1, headDim: 48, ffn: 48 };
  const options = {
    steps: 4,
    precision: "bf16",
    gradientSums: "any",
    evaluation: { every: 0, atDecays: false },
    model,
  };
  for (const device of [gpu, "cpu"]) {
    const config = { ...options, device };
    await trainSmall(workplace, device, { config, ...stopAt(1) });
    const { warnings } = await trainSmall(workplace, device, { config, resume: "auto" });
    const said = warnings.filter((w) => w.detector === "other-bits");
    if (device === "cpu") t.deepEqual(said, []);
    else {
      t.is(said.length, 2);
      t.like(said[0], { step: 0 });
      const forkFrom = join(workplace, device, "checkpoints", "step-00000004");
      const fork = await trainSmall(workplace, "fork", { config: { ...config, steps: 5 }, forkFrom });
      t.like(fork.warnings.filter((w) => w.detector === "other-bits")[0], { step: 4 });
      t.regex(said[1]!.message, /written with gradientSums any \(this device adds in any order\)/);
    }
  }
});
