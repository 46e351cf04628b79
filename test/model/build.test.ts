import test from "ava";
import { formatProgram, programCost } from "../../ts/graph/program.ts";
import { buildModule, buildPrograms } from "../../ts/model/build.ts";
import { preset } from "../../ts/model/presets.ts";
import { adamw } from "../../ts/optim/adamw.ts";
import { tinyConfig, tinyMachine, tinyModule } from "./tiny.ts";

const seed = 4;

test("evaluation gives the loss that training gives, and the loss of each token", (t) => {
  for (const tied of [false, true]) {
    const model = tinyModule(tinyConfig({ tied, zLoss: 0.1 }), { headChunkRows: 4 });
    const machine = tinyMachine(model, seed);
    machine.play(model.programs.accumulate!);
    machine.play(model.programs.evaluate!);
    t.is(machine.tensor("out/eval_loss")[0], machine.tensor("out/loss")[0]);
    const losses = machine.tensor("out/token_loss");
    t.is(losses[3], 0);
    t.is(
      losses.reduce((a, b) => a + b, 0),
      machine.tensor("out/loss")[0]!,
    );
    machine.setIntegers({ firstMicroBatch: 0 });
    machine.play(model.programs.evaluate!);
    t.is(machine.tensor("out/eval_loss")[0], 2 * machine.tensor("out/loss")[0]!);
  }
});

test("decoding token by token gives the logits of the whole sequence", (t) => {
  for (const changes of [{}, { qkNorm: true, tied: true, kvHeads: 1 }]) {
    const model = tinyModule(tinyConfig(changes));
    const machine = tinyMachine(model, seed);
    machine.play(model.programs.logits!);
    const whole = machine.tensor("out/all_logits").slice();
    const tokens = machine.tensor("io/tokens").slice(0, 5);
    for (const [position, token] of tokens.entries()) {
      machine.set("io/tokens", [token]);
      machine.setIntegers({ cacheLength: position, positionOffset: position });
      machine.play(model.programs.decode!);
      const worst = machine
        .tensor("out/logits")
        .reduce((m, v, i) => Math.max(m, Math.abs(v - whole[position * 11 + i]!)), 0);
      // Float64 throughout; only the order of sums differs.
      t.true(worst <= 1e-13, `position ${position}: ${worst}`);
    }
  }
});

test("one AdamW update is made per parameter, and none after a loss that is not finite", (t) => {
  const model = tinyModule(tinyConfig());
  const machine = tinyMachine(model, seed);
  machine.setScalars({ lr: 0.01, beta1: 0.9, beta2: 0.95, eps: 1e-8, bias1: 10, bias2: 20, weightDecay: 0.1, clip: 1 });
  machine.play(model.programs.accumulate!);
  const before = machine.tensor("param").slice();
  machine.set("out/loss", [Number.NaN]);
  machine.play(model.programs.update!);
  t.deepEqual(machine.tensor("param").slice(), before);
  machine.set("out/status", [0]);
  machine.set("out/loss", [1]);
  machine.play(model.programs.update!);
  for (const p of model.parameters) {
    const start = (model.layout.get(`param/${p.name}`).offset - model.layout.get("param").offset) / 4;
    const values = machine.tensor(`param/${p.name}`);
    t.true(
      values.some((v, i) => v !== before[start + i]),
      p.name,
    );
  }
});

test("persistent tensors bear the agreed names, and the four regions share one layout", (t) => {
  const { layout, parameters } = tinyModule(tinyConfig());
  for (const name of ["io/tokens", "io/targets", "out/loss", "out/norm", "out/status", "out/eval_loss", "const/rope"])
    t.truthy(layout.find(name), name);
  for (const name of ["out/token_loss", "out/logits", "cache/k.0", "cache/v.1"]) t.truthy(layout.find(name), name);
  for (const p of parameters) {
    const offsets = ["param", "grad", "adam_m", "adam_v"].map(
      (set) => layout.get(`${set}/${p.name}`).offset - layout.get(set).offset,
    );
    t.is(new Set(offsets).size, 1, p.name);
    t.is(offsets[0]! % 64, 0);
  }
  const names = layout.tensors.map((x) => x.name);
  t.is(new Set(names).size, names.length);
});

test("a Module that only evaluates has no gradients, moments or caches", (t) => {
  const model = tinyModule(tinyConfig(), { kinds: ["evaluate"] });
  t.is(model.layout.find("grad"), undefined);
  t.is(model.memory.gradients + model.memory.optimizer + model.memory.caches, 0);
});

test("Programs of other sizes and parameter sets attach to the same layout", (t) => {
  const model = tinyModule(tinyConfig(), { parameterSets: ["ema"], capacityRows: 12 });
  const machine = tinyMachine(model, seed);
  const { programs } = buildPrograms(model, [
    { kind: "evaluate", batch: 4, length: 3 },
    { kind: "evaluate", parameterSet: "ema" },
  ]);
  t.deepEqual(
    programs.map((p) => p.name),
    ["evaluate/b4xt3", "evaluate/ema"],
  );
  machine.play(model.programs.evaluate!);
  const live = machine.tensor("out/eval_loss")[0];
  machine.set("ema", machine.tensor("param"));
  machine.set(
    "param",
    machine.tensor("param").map(() => Number.NaN),
  );
  machine.play(programs[1]!);
  t.is(machine.tensor("out/eval_loss")[0], live);
  t.throws(() => buildPrograms(model, [{ kind: "evaluate", batch: 5, length: 3 }]), {
    code: "BAD_CONFIG",
    message: /evaluate\/b5xt3: 5 sequences of 3 tokens do not fit io\/tokens, which has room for 12/,
  });
});

test("options that cannot be are refused by name", (t) => {
  t.throws(() => tinyModule(tinyConfig(), { length: 7 }), { message: /sequences of 7 tokens.*model.maxLength is 6/ });
  t.throws(() => tinyModule(tinyConfig(), { microBatch: 0 }), { message: /microBatch is 0/ });
  t.throws(() => buildModule(tinyConfig(), { precision: "f32", microBatch: 1, length: 4 }), {
    message: /an `update` Program needs options.update/,
  });
});

test("memory is reported by purpose and adds up; recompute and chunks of the head make it smaller", (t) => {
  const build = (options: object) =>
    buildModule(preset("10m"), { precision: "bf16", microBatch: 8, length: 256, update: adamw(), ...options }).memory;
  const whole = build({ headChunkRows: 2048 });
  t.is(whole.parameters + whole.gradients + whole.optimizer + whole.sets + whole.caches + whole.io, whole.persistent);
  t.is(whole.total, whole.persistent + whole.scratch);
  t.is(whole.optimizer, 2 * whole.parameters);
  t.is(whole.scratchByPurpose.logits, 2048 * 8192 * 2);
  const purposes = Object.values(whole.scratchByPurpose).reduce((a, b) => a + b, 0);
  t.is(purposes, whole.programs.accumulate!.peak.bytes);
  const chunked = build({ headChunkRows: 256 });
  t.is(chunked.scratchByPurpose.logits, 256 * 8192 * 2 + 256 * 4); // one chunk and its log-sum-exps
  t.true(build({ recompute: "block", headChunkRows: 256 }).scratch < chunked.scratch / 4);
  // The plan is within 2% of what is alive at the fullest command.
  t.true(whole.scratch <= 1.02 * whole.programs.accumulate!.peak.bytes);
});

test("FLOPs of the recorded Programs agree with the formula per token", (t) => {
  const options = { precision: "bf16", microBatch: 8, length: 256, update: adamw() } as const;
  const model = buildModule(preset("10m"), { ...options, fuse: false }); // products by themselves
  const { byFamily } = programCost(model.programs.accumulate!);
  t.is(byFamily.linear!.flops, 6 * 8519680 * 2048);
  // Attention: 4 forward and 10 backward (one product more than counted: scores are recomputed) per pair, with the diagonal.
  const pairs = (256 * 257) / 2;
  t.is(byFamily.attention!.flops, 14 * 8 * pairs * 256 * 8);
});

test("a Program prints as one command a line with addresses, shapes and attributes", (t) => {
  const model = tinyModule(tinyConfig({ layers: 1 }), { kinds: ["decode"] });
  t.snapshot(formatProgram(model.programs.decode!));
});
