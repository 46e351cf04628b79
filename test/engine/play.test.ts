import test from "ava";
import { Engine, planMemory } from "../../ts/engine/engine.ts";
import { integers, ModuleBuilder, randoms, scalars } from "./support.ts";

let engine: Engine;
test.before(async () => {
  engine = await Engine.create({ threads: 2 });
});
test.after.always(() => engine?.dispose());

/** x and y of 8 values with small Programs on them. */
const small = () =>
  new ModuleBuilder()
    .tensor("x", "f32", [2, 4])
    .tensor("y", "f32", [8])
    .tensor("tokens", "i32", [6])
    .program("double", [["scale", ["x", "x"], [2]]])
    .program("increment", [["axpy", ["y", "x"], [1]]])
    .program(
      "sum",
      [["sum", ["x", "loss"], [0]]],
      [{ name: "loss", dtype: "f32", shape: [1], space: "persistent", offset: 32 }],
    );

test("a Program plays over persistent tensors, views and inputs", async (t) => {
  const module = await engine.load(small().spec());
  await module.play([{ program: "sum", inputs: { x: Float32Array.of(1, 2, 3, 4, 5, 6, 7, 8) } }]);
  t.deepEqual(await module.read("x"), Float32Array.of(1, 2, 3, 4, 5, 6, 7, 8));
  await module.dispose();
});

test("entries play in order, each after its inputs", async (t) => {
  const module = await engine.load(small().spec());
  await module.write("y", new Float32Array(8).fill(1));
  await module.play([
    { program: "double", inputs: { x: Float32Array.of(1, 1) } }, // a prefix: the rest stays 0
    { program: "increment" },
    { program: "double" },
    { program: "increment", inputs: { y: Float32Array.of(10) } },
  ]);
  t.deepEqual(await module.read("x"), Float32Array.of(16, 7, 3, 3, 3, 3, 3, 3));
});

test("concurrent plays happen in the order they were asked for", async (t) => {
  const module = await engine.load(small().spec());
  await module.write("y", new Float32Array(8).fill(1));
  const finished: number[] = [];
  const plays = Array.from({ length: 20 }, (_, i) =>
    module.play([{ program: i % 2 ? "double" : "increment" }]).then(() => finished.push(i)),
  );
  const read = module.read("x");
  await Promise.all(plays);
  t.deepEqual(finished, [...Array(20).keys()]);
  t.is((await read)[0], 2046); // x -> 2 (x + 1), ten times from 0
});

test("inputs are copied when play is called", async (t) => {
  const module = await engine.load(small().spec());
  const x = new Float32Array(8).fill(1);
  const played = module.play([{ program: "double", inputs: { x } }]);
  x.fill(100);
  await played;
  t.deepEqual(await module.read("x"), new Float32Array(8).fill(2));
});

test("scalars reach the kernels in the order of scalarNames, and are zeros by default", async (t) => {
  const spec = new ModuleBuilder();
  for (const name of ["param/w", "grad", "m", "v"]) spec.tensor(name, "f32", [4]);
  spec.tensor("norm", "f32", [1]).tensor("status", "i32", [1]);
  spec.program("update", [["adamw", ["grad", "norm", "status", "param/w", "m", "v"], [1, 1]]]);
  const module = await engine.load(spec.spec());
  await module.write("param/w", Float32Array.of(1, 2, 3, 4));
  // A zero gradient leaves only the decoupled decay: w (1 - lr * weightDecay) = w / 2, exact in binary.
  const step = scalars({ lr: 0.5, weightDecay: 1, beta1: 0.9, beta2: 0.95, eps: 1, bias1: 1, bias2: 1 });
  await module.play([{ program: "update", scalars: step }]);
  t.deepEqual(await module.read("param/w"), Float32Array.of(0.5, 1, 1.5, 2));
  await module.play([{ program: "update", scalars: scalars({ eps: 1 }) }]);
  t.deepEqual(await module.read("param/w"), Float32Array.of(0.5, 1, 1.5, 2));
});

test("a profile names every command in order", async (t) => {
  const module = await engine.load(small().spec());
  const { seconds, profile } = await module.play([{ program: "double" }, { program: "increment" }], { profile: true });
  t.deepEqual(
    profile!.map((p) => p.op),
    ["scale", "axpy"],
  );
  t.true(seconds >= 0 && profile!.every((p) => p.seconds >= 0));
  t.is((await module.play([{ program: "double" }])).profile, undefined);
});

test("Programs attached later play, and earlier ones still do after scratch has grown", async (t) => {
  const builder = small();
  const through = (name: string, rows: number) =>
    builder.write(
      name,
      [
        ["copy", ["x", "s"]],
        ["scale", ["s", "s"], [3]],
        ["copy", ["s", "x"]],
      ],
      [
        { name: "pad", dtype: "f32", shape: [rows], space: "scratch", offset: 0 },
        { name: "s", dtype: "f32", shape: [8], space: "scratch", offset: rows * 4 },
      ],
    );
  const spec = builder.spec();
  const module = await engine.load({ ...spec, programs: [through("first", 16)] });
  await module.write("x", new Float32Array(8).fill(1));
  await module.attach([through("second", 1 << 20)]);
  await module.play([{ program: "first" }, { program: "second" }, { program: "first" }]);
  t.deepEqual(await module.read("x"), new Float32Array(8).fill(27));
  await t.throwsAsync(module.attach([through("first", 16)]), { code: "BAD_PROGRAM", message: /first already/ });
});

test("wrong inputs are refused with BAD_INPUT and the names of things", async (t) => {
  const module = await engine.load(small().spec());
  const refused = (promise: Promise<unknown>, message: RegExp) =>
    t.throwsAsync(promise, { name: "ThalwegError", code: "BAD_INPUT", message });
  await refused(module.play([{ program: "triple" }]), /no program named triple/);
  await refused(module.play([{ program: "double", inputs: { z: new Float32Array(1) } }]), /no tensor named z/);
  await refused(module.play([{ program: "double", inputs: { x: new Float32Array(9) } }]), /at most 8.*of 9/);
  await refused(module.play([{ program: "double", inputs: { x: new Int32Array(1) } }]), /Float32Array.*Int32Array/);
  await refused(module.play([{ program: "double", scalars: new Float32Array(2) }]), /scalars has 2 values/);
  await refused(module.write("nothing", new Float32Array(1)), /no tensor named nothing/);
  await refused(module.read("nothing"), /no tensor named nothing/);
  t.deepEqual(await module.read("x"), new Float32Array(8)); // nothing was written on the way
});

test("bad Programs are refused with BAD_PROGRAM and the name of program and command", async (t) => {
  const refused = (spec: ModuleBuilder, message: RegExp) =>
    t.throwsAsync(engine.load(spec.spec()), { name: "ThalwegError", code: "BAD_PROGRAM", message });
  await refused(small().program("p", [["warp", ["x"]]]), /program p.*warp.*no such op/);
  await refused(small().program("p", [["fill", ["x", "y"], [1]]]), /program p.*fill.*2 operands, expected 1/);
  await refused(small().program("p", [["axpy", ["tokens", "y"], [1]]]), /operand x is i32, expected f32/);
  const outside = { name: "o", dtype: "f32", shape: [4], space: "persistent", offset: 1 << 20 } as const;
  await refused(small().program("p", [["fill", ["o"], [1]]], [outside]), /tensor o .*outside its persistent arena/);
  await refused(small().program("p", [["fill", ["o"], [1]]], [{ ...outside, offset: 2 }]), /not a multiple/);
  await refused(
    small().program("p", [["fill", ["y"], [1]]], [{ ...outside, name: "y", offset: 0 }]),
    /module's tensor/,
  );
});

test("values that kernels use as an index are checked against their tables", async (t) => {
  const spec = new ModuleBuilder().tensor("w", "f32", [10, 4]).tensor("tokens", "i32", [3]).tensor("y", "f32", [3, 4]);
  const module = await engine.load(spec.program("embed", [["embedding", ["tokens", "w", "y"]]]).spec());
  const embed = (...tokens: number[]) =>
    module.play([{ program: "embed", inputs: { tokens: Int32Array.from(tokens) } }]);
  await embed(0, 9, 1);
  await t.throwsAsync(embed(0, 10, 1), { code: "BAD_INPUT", message: /token 10 in row 1 is not below the vocabulary/ });
  await t.throwsAsync(embed(-1, 0, 0), { code: "BAD_INPUT", message: /token -1 in row 0 is negative/ });
});

test("packed copies follow every way a parameter can change", async (t) => {
  const seed = Date.now() % 1e6;
  t.log(`seed ${seed}`);
  const [n, k, rows] = [96, 64, 5];
  const spec = new ModuleBuilder();
  for (const name of ["param/w", "grad", "m", "v"]) spec.tensor(name, "f32", [n, k]);
  spec.tensor("x", "f32", [rows, k]).tensor("y", "f32", [rows, n]).tensor("dx", "f32", [rows, k]);
  spec.tensor("norm", "f32", [1]).tensor("status", "i32", [1]);
  const half = { name: "half", dtype: "f32", shape: [n / 2, k], space: "persistent", offset: 0 } as const;
  const products = [
    ["linear", ["x", "param/w", null, "y"]],
    ["linearDgrad", ["y", "param/w", null, "dx"]],
  ] satisfies [string, (string | null)[]][];
  spec.program("products", products);
  spec.program("rewrite", [["scale", ["param/w", "param/w"], [-2]], ...products]);
  spec.program("rewrite half", [["fill", ["half"], [0.25]], ...products], [half]);
  spec.program("update", [["adamw", ["grad", "norm", "status", "param/w", "m", "v"], [1, 1]]]);
  const module = await engine.load(spec.spec());
  const x = randoms(seed, rows * k);

  const agree = async (what: string) => {
    const w = { dtype: "f32", shape: [n, k], data: await module.read("param/w") } as const;
    const y = (
      await engine.runOp(
        "linear",
        [{ dtype: "f32", shape: [rows, k], data: x }, w, null, { dtype: "f32", shape: [rows, n] }],
        [],
      )
    ).operands[3]!;
    const dx = (
      await engine.runOp(
        "linearDgrad",
        [{ dtype: "f32", shape: [rows, n], data: y }, w, null, { dtype: "f32", shape: [rows, k] }],
        [],
      )
    ).operands[3]!;
    t.deepEqual(await module.read("y"), y, `y after ${what}: exact, the copies hold the same numbers`);
    t.deepEqual(await module.read("dx"), dx, `dx after ${what}`);
    t.true(y.some((v) => v !== 0));
  };
  await module.write("param/w", randoms(seed + 1, n * k));
  await module.play([{ program: "products", inputs: { x } }]);
  await agree("write");
  await module.initialize("param/w", { kind: "normal", std: 0.5, seed: 7, name: "w" });
  await module.play([{ program: "products" }]);
  await agree("initialize");
  await module.write("grad", randoms(seed + 2, n * k));
  const step = scalars({ lr: 0.1, beta1: 0.9, beta2: 0.95, eps: 1e-8, bias1: 10, bias2: 20, weightDecay: 0.1 });
  await module.play([{ program: "update", scalars: step, integers: integers({}) }, { program: "products" }]);
  await agree("adamw");
  await module.play([{ program: "rewrite" }]);
  await agree("a command that writes the parameter");
  await module.play([{ program: "rewrite half" }]);
  await agree("a command that writes a part of it");
  await module.refresh();
  await module.play([{ program: "products" }]);
  await agree("refresh");
});

test("a weight that is the first rows of a parameter is not taken for the whole", async (t) => {
  const [n, k, rows] = [64, 32, 3];
  const spec = new ModuleBuilder().tensor("param/w", "f32", [n, k]).tensor("x", "f32", [rows, k]);
  spec.tensor("whole", "f32", [rows, n]).tensor("part", "f32", [rows, n / 2]);
  const view = { name: "w.q", dtype: "f32", shape: [n / 2, k], space: "persistent", offset: 0 } as const;
  spec.program(
    "both",
    [
      ["linear", ["x", "param/w", null, "whole"]],
      ["linear", ["x", "w.q", null, "part"]],
    ],
    [view],
  );
  const module = await engine.load(spec.spec());
  await module.write("param/w", randoms(1, n * k));
  await module.play([{ program: "both", inputs: { x: randoms(2, rows * k) } }]);
  const [whole, part] = [await module.read("whole"), await module.read("part")];
  const close = (a: number, b: number) => Math.abs(a - b) <= 1e-5; // other tiles may sum in another order
  for (let r = 0; r < rows; r++)
    for (let j = 0; j < n / 2; j++) t.true(close(whole[r * n + j]!, part[(r * n) / 2 + j]!), `row ${r} column ${j}`);
});

test("memory is planned without a device, as load will take it", (t) => {
  const spec = small();
  const scratch = { name: "s", dtype: "f32", shape: [1024], space: "scratch", offset: 64 } as const;
  spec.program("p", [["fill", ["s"], [1]]], [scratch]);
  const plan = planMemory(spec.spec());
  t.is(plan.persistentBytes, spec.spec().persistentBytes);
  t.is(plan.scratchBytes, 64 + 4096);
  t.true(plan.workspaceBytes >= 0 && plan.packedBytes === 0);
  const huge = { ...spec.spec(), persistentBytes: 2 ** 46 };
  t.is(planMemory(huge).persistentBytes, 2 ** 46);
});

test("a Module larger than the machine is refused with OUT_OF_MEMORY naming the bytes", async (t) => {
  const huge = { persistentBytes: 2 ** 46, persistent: [], programs: [] };
  await t.throwsAsync(engine.load(huge), { code: "OUT_OF_MEMORY", message: /70368744177664 bytes/ });
});

test("an op runs alone, repeats, and gives every operand back", async (t) => {
  const x = { dtype: "f32", shape: [3], data: Float32Array.of(1, 2, 3) } as const;
  const result = await engine.runOp("axpy", [x, { dtype: "f32", shape: [3] }], [2], { repeat: 3 });
  t.deepEqual(result.operands, [Float32Array.of(1, 2, 3), Float32Array.of(6, 12, 18)]);
  t.is(result.seconds.length, 3);
  t.deepEqual(x.data, Float32Array.of(1, 2, 3));
  await t.throwsAsync(engine.runOp("axpy", [x], [2]), { code: "BAD_PROGRAM", message: /axpy.*1 operands, expected 2/ });
  await t.throwsAsync(engine.runOp("axpy", [x, { ...x, shape: [4] }], [2]), {
    code: "BAD_INPUT",
    message: /expected Float32Array of 4/,
  });
});

test("cuda is refused with NO_DEVICE, never replaced by the CPU", async (t) => {
  await t.throwsAsync(Engine.create({ device: "cuda" }), {
    name: "ThalwegError",
    code: "NO_DEVICE",
    message: /no CUDA backend/,
  });
  await t.throwsAsync(Engine.create({ threads: -1 }), { code: "BAD_OPTION" });
});
