import test, { type ExecutionContext } from "ava";
import { Engine, type Module } from "../../ts/engine/engine.ts";
import { integerNames } from "../../ts/graph/step_inputs.ts";
import { type BuiltModule, buildModule } from "../../ts/model/build.ts";
import { adamScalars, adamw } from "../../ts/optim/adamw.ts";
import { batchOf, digest, digestError, type Fixture, fixtures, partOf } from "./fixture.ts";

type Precision = "f32" | "bf16";

/**
 * Tolerances, relative to the norm of the reference tensor. fp32: sums in another order, a few 1e-6 per layer. bf16: every
 * activation is rounded to 8 bits (up to 2^-8 relative each); a gradient passes through tens of such roundings, partly
 * correlated, and the reference is the fp32 model.
 */
const tolerance = {
  f32: { loss: 1e-5, tokenLoss: 1e-4, gradient: 1e-4, logits: 1e-4 },
  bf16: { loss: 1e-2, tokenLoss: 0.15, gradient: 5e-2, logits: 5e-2 },
};

const first = (value: 0 | 1) => Int32Array.from(integerNames, (n) => (n === "firstMicroBatch" ? value : 0));

function build(f: Fixture, precision: Precision): BuiltModule {
  const defaults = { maxLength: f.length, ropeTheta: 10000, normEps: 1e-5, qkNorm: false, zLoss: 0 };
  return buildModule(
    { ...f.config, ...defaults, init: { scheme: "paper" } },
    {
      precision,
      microBatch: f.batch,
      length: f.length,
      kinds: ["accumulate", "update", "evaluate", "logits", "decode"],
      update: adamw(),
      headChunkRows: 48, // two chunks, the second ragged
    },
  );
}

/** Loads the model with the fixture's weights: drawn by name from the seeded generator on both sides. */
async function load(engine: Engine, f: Fixture, built: BuiltModule): Promise<Module> {
  const module = await engine.load(built.spec);
  for (const [name, data] of Object.entries(built.constants)) await module.write(name, data);
  for (const p of built.parameters) {
    const tensor = `param/${p.name}`;
    for (const part of p.parts) {
      const rows = { rowStart: part.rowStart, rows: part.rows, seed: f.seed, name: part.hfName };
      if (p.kind === "norm") {
        await module.initialize(tensor, { kind: "normal", std: 0.1, ...rows });
        await module.write(
          tensor,
          ((await module.read(tensor)) as Float32Array).map((v) => 1 + v),
        );
      } else {
        const fan = p.kind === "embedding" ? f.config.dim : p.shape[1]!;
        await module.initialize(tensor, { kind: "truncatedNormal", std: 1 / Math.sqrt(fan), ...rows });
      }
    }
  }
  await module.refresh();
  return module;
}

const inputs = (f: Fixture) => {
  const { tokens, targets } = batchOf(f);
  return { "io/tokens": tokens, "io/targets": targets };
};

const scalars = (f: Fixture, step: number) =>
  adamScalars({ ...f.adamw.settings, step, lossScale: 1 / (f.batch * f.length) });

async function compareParts(
  t: ExecutionContext,
  module: Module,
  built: BuiltModule,
  set: string,
  want: Record<string, { norm: number; projections: [number, number]; samples: [number, number][] }>,
  limit: number,
): Promise<void> {
  let seen = 0;
  for (const p of built.parameters) {
    const data = (await module.read(`${set}/${p.name}`)) as Float32Array;
    for (const { hfName } of p.parts) {
      const reference = want[hfName];
      t.truthy(reference, `${hfName} is in the fixture`);
      const error = digestError(digest(partOf(p, hfName, data), reference!.samples), reference!);
      t.true(error <= limit, `${set}/${hfName}: relative error ${error.toExponential(2)} > ${limit}`);
      seen++;
    }
  }
  t.is(seen, Object.keys(want).length, "every parameter of the fixture was compared");
}

for (const [name, f] of fixtures)
  for (const precision of ["f32", "bf16"] as const) {
    test(`${name} ${precision}: loss, logits and every gradient equal transformers'`, async (t) => {
      await using engine = await Engine.create({ device: "cpu" });
      const built = build(f, precision);
      const module = await load(engine, f, built);
      const limit = tolerance[precision];
      await module.play([{ program: "evaluate", inputs: inputs(f), integers: first(1) }]);
      const tokenLoss = (await module.read("out/token_loss")) as Float32Array;
      const worst = Math.max(...f.tokenLoss.map((v, i) => Math.abs(v - tokenLoss[i]!)));
      t.true(worst <= limit.tokenLoss, `token losses differ by ${worst}`);

      await module.play([{ program: "logits", inputs: inputs(f) }]);
      const logits = (await module.read("out/all_logits")) as Float32Array;
      const error = digestError(digest(logits, f.logits.samples), f.logits);
      t.true(error <= limit.logits, `logits: relative error ${error}`);

      await module.play([{ program: "accumulate", inputs: inputs(f), scalars: scalars(f, 0), integers: first(1) }]);
      const [sum] = (await module.read("out/loss")) as Float32Array;
      const loss = sum! / (f.batch * f.length);
      t.true(Math.abs(loss - f.loss) <= limit.loss * f.loss, `loss ${loss}, expected ${f.loss}`);
      await compareParts(t, module, built, "grad", f.gradients, limit.gradient);
    });
  }

for (const [name, f] of fixtures)
  test(`${name}: ten AdamW steps equal PyTorch's`, async (t) => {
    await using engine = await Engine.create({ device: "cpu" });
    const built = build(f, "f32");
    const module = await load(engine, f, built);
    for (let step = 0; step < f.adamw.settings.steps; step++) {
      await module.play([
        { program: "accumulate", inputs: inputs(f), scalars: scalars(f, step), integers: first(1) },
        { program: "update", scalars: scalars(f, step) },
      ]);
      const [sum] = (await module.read("out/loss")) as Float32Array;
      const [norm] = (await module.read("out/norm")) as Float32Array;
      // AdamW divides by sqrt(v): where a gradient is near zero a rounding error changes the sign of a whole step, so
      // later losses agree less well than the first.
      t.true(Math.abs(sum! / (f.batch * f.length) - f.adamw.losses[step]!) < 2e-4, `loss of step ${step}`);
      t.true(Math.abs(norm! / f.adamw.gradNorms[step]! - 1) < 1e-3, `gradient norm of step ${step}`);
    }
    await compareParts(t, module, built, "param", f.adamw.parameters, 2e-4);
  });

test("decoding with a cache gives the logits of the whole sequence", async (t) => {
  for (const precision of ["f32", "bf16"] as const) {
    const f = fixtures.get("gqa-hd48-tied")!;
    await using engine = await Engine.create({ device: "cpu" });
    const module = await load(engine, f, build(f, precision));
    const { tokens } = batchOf(f);
    for (let i = 0; i < f.length; i++) {
      const integers = Int32Array.from(integerNames, (n) => (n === "firstMicroBatch" ? 0 : i));
      await module.play([{ program: "decode", inputs: { "io/tokens": tokens.subarray(i, i + 1) }, integers }]);
    }
    const logits = (await module.read("out/logits")) as Float32Array;
    const worst = Math.max(...f.lastLogits.map((v, i) => Math.abs(v - logits[i]!)));
    t.true(worst < (precision === "f32" ? 1e-4 : 0.15), `${precision}: logits differ by ${worst}`);
  }
});
