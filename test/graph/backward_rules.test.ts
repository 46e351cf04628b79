import test from "ava";
import { gradients } from "../../ts/graph/autograd.ts";
import { Layout } from "../../ts/graph/layout.ts";
import { ops } from "../../ts/graph/ops/index.ts";
import { lower } from "../../ts/graph/program.ts";
import { Tape, type Tensor } from "../../ts/graph/tape.ts";
import { generator, ReferenceMachine } from "./reference.ts";

test("every backward rule names ops and operands that exist and gives each gradient once", (t) => {
  for (const rule of ops.values()) {
    if (!rule.backward) continue;
    const { calls = [], same = {} } = rule.backward;
    const sources = new Set([
      ...Object.keys(rule.inputs),
      ...Object.keys(rule.outputs),
      ...Object.keys(rule.outputs).map((name) => `d${name}`),
    ]);
    const covered = [...calls.flatMap((call) => Object.keys(call.gradients)), ...Object.keys(same)];
    t.is(new Set(covered).size, covered.length, rule.name);
    for (const [input, o] of Object.entries(rule.inputs))
      t.is(
        covered.includes(input),
        o.dtype !== "i32" && input !== "table" && rule.name !== "copy",
        `${rule.name}.${input}`,
      );
    for (const [input, output] of Object.entries(same))
      t.true(input in rule.inputs && output in rule.outputs, rule.name);
    for (const call of calls) {
      const callee = ops.get(call.op)!;
      t.truthy(callee, `${rule.name}: ${call.op}`);
      for (const [operand, source] of Object.entries(call.inputs)) {
        t.true(operand in callee.inputs, `${call.op}.${operand}`);
        t.true(sources.has(source), `${rule.name}: ${source}`);
      }
      for (const output of Object.values(call.gradients)) t.true(output in callee.outputs, `${call.op}.${output}`);
      if (call.addend) t.true(callee.inputs.addend?.optional && call.addend in call.gradients, rule.name);
    }
  }
});

interface Case {
  op: string;
  /** Shapes by input; "tokens" are integers below 5, "starts" documents of one and two positions. */
  inputs: Record<string, number[]>;
  attributes?: Record<string, number>;
  /** The output whose gradient is taken. */
  output?: string;
}

const packed = { heads: 4, kvHeads: 2, headDim: 4 };
const cases: Case[] = [
  { op: "embedding", inputs: { tokens: [7], weight: [5, 3] } },
  { op: "rmsnorm", inputs: { x: [3, 5], weight: [5] }, attributes: { eps: 1e-3 } },
  { op: "qkNorm", inputs: { x: [3, 32], qWeight: [4], kWeight: [4] }, attributes: { ...packed, eps: 1e-3 } },
  { op: "linear", inputs: { x: [3, 4], weight: [5, 4] } },
  { op: "linear", inputs: { x: [3, 4], weight: [5, 4], residual: [3, 5] } },
  { op: "rope", inputs: { x: [6, 32], table: [4, 4] }, attributes: { ...packed, seq: 3, inverse: 0 } },
  { op: "attention", inputs: { qkv: [6, 32] }, attributes: { ...packed, seq: 3, scale: 0.5 } },
  { op: "attention", inputs: { qkv: [6, 32], starts: [6] }, attributes: { ...packed, seq: 3, scale: 0.5 } },
  { op: "swiglu", inputs: { x: [3, 8] }, attributes: { ffn: 4 } },
  { op: "add", inputs: { a: [7], b: [7] } },
  { op: "scale", inputs: { x: [7] }, attributes: { alpha: -1.5 } },
];

test("every differentiable op has a case below", (t) => {
  const differentiable = [...ops.values()].filter((rule) => rule.backward).map((rule) => rule.name);
  t.deepEqual(differentiable.sort(), [...new Set(cases.map((c) => c.op))].sort());
});

/** Values of the inputs that are integers: row -> value. */
const integers = new Map<string, (row: number, random: () => number) => number>([
  ["tokens", (_, random) => Math.floor(2.5 * (random() + 1))],
  ["starts", (row) => [0, 0, 2, 0, 1, 1][row]!],
]);

/** The op and its backward pass as a Program; gradients copied out to persistent `d/<input>`. */
function record({ op, inputs, attributes = {}, output = "y" }: Case) {
  const layout = new Layout();
  const tape = new Tape();
  const rule = ops.get(op)!;
  const laid = (name: string, dtype: "f32" | "i32", shape: readonly number[]): Tensor => {
    layout.add(name, dtype, shape);
    return tape.persistent(name, dtype, shape);
  };
  const given: Record<string, Tensor> = {};
  for (const [name, shape] of Object.entries(inputs))
    given[name] = laid(name, integers.has(name) ? "i32" : "f32", shape);
  const made = tape.op(rule, given, attributes)[output]!;
  const forward = tape.op(ops.get("copy")!, { x: made }, {}, { into: { y: laid("y", "f32", made.shape) } });
  const wrt = Object.entries(given).filter(([name]) => !integers.has(name) && name !== "table");
  const seed = laid("seed", "f32", made.shape);
  const found = gradients(tape, [[made, seed]], { wrt: wrt.map(([, x]) => x) });
  for (const [name, x] of wrt)
    tape.op(ops.get("copy")!, { x: found.get(x)! }, {}, { into: { y: laid(`d/${name}`, "f32", x.shape) } });
  const { program } = lower(tape, op, layout);
  return { spec: { persistentBytes: layout.bytes, persistent: layout.tensors }, program, wrt, size: forward.y!.shape };
}

for (const c of cases)
  test(`the gradient of ${c.op}(${Object.keys(c.inputs)}) equals finite differences`, (t) => {
    const seedNumber = 7;
    const random = generator(seedNumber);
    const { spec, program, wrt } = record(c);
    const machine = new ReferenceMachine(spec);
    for (const { name } of spec.persistent)
      machine.tensor(name).forEach((_, i, values) => {
        values[i] = integers.get(name)?.(i, random) ?? random();
      });
    const objective = () => {
      machine.play(program);
      return machine.tensor("y").reduce((s, v, i) => s + v * machine.tensor("seed")[i]!, 0);
    };
    for (const [name] of wrt) {
      objective();
      const gradient = machine.tensor(`d/${name}`).slice();
      const values = machine.tensor(name);
      values.forEach((origin, i) => {
        const at = (h: number) => {
          values[i] = origin + h;
          return objective();
        };
        const h = 1e-3;
        const want = (8 * (at(h) - at(-h)) - (at(2 * h) - at(-2 * h))) / (12 * h);
        values[i] = origin;
        // Fourth-order differences at h = 1e-3: truncation below 1e-9 for these smooth functions.
        t.true(
          Math.abs(gradient[i]! - want) <= 1e-8,
          `d${name}[${i}] = ${gradient[i]}, expected ${want}; seed ${seedNumber}`,
        );
      });
    }
  });

test("classifier: dlogits is the gradient of lossScale (loss + zLoss lse^2); ignored rows and padding columns get none", (t) => {
  const layout = new Layout();
  const tape = new Tape();
  const laid = (name: string, dtype: "f32" | "i32", shape: number[]): Tensor => {
    layout.add(name, dtype, shape);
    return tape.persistent(name, dtype, shape);
  };
  const inputs = { logits: laid("logits", "f32", [3, 6]), targets: laid("targets", "i32", [3]) };
  const into = {
    loss: laid("loss", "f32", [3]),
    lse: laid("lse", "f32", [3]),
    dlogits: laid("dlogits", "f32", [3, 6]),
  };
  tape.op(ops.get("classifier")!, inputs, { vocab: 5, zLoss: 0.1 }, { into });
  const { program } = lower(tape, "classifier", layout);
  const machine = new ReferenceMachine({ persistentBytes: layout.bytes, persistent: layout.tensors });
  const random = generator(3);
  machine.set("logits", Array.from({ length: 18 }, random));
  machine.set("targets", [4, -1, 0]);
  machine.setScalars({ lossScale: 0.25 });
  const objective = () => {
    machine.play(program);
    const [loss, lse] = [machine.tensor("loss"), machine.tensor("lse")];
    return [0, 2].reduce((s, r) => s + 0.25 * (loss[r]! + 0.1 * lse[r]! ** 2), 0);
  };
  objective();
  const gradient = machine.tensor("dlogits").slice();
  machine.tensor("logits").forEach((origin, i, values) => {
    const at = (h: number) => {
      values[i] = origin + h;
      return objective();
    };
    const want = (8 * (at(1e-3) - at(-1e-3)) - (at(2e-3) - at(-2e-3))) / 12e-3;
    values[i] = origin;
    t.true(Math.abs(gradient[i]! - want) <= 1e-9, `dlogits[${i}] = ${gradient[i]}, expected ${want}`);
  });
  for (const r of [0, 2]) t.is(gradient[r * 6 + 5], 0);
  t.is(machine.tensor("loss")[1], 0);
});
