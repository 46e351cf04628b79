import test from "ava";
import { gradients } from "../../ts/graph/autograd.ts";
import { linear, rmsnorm, swiglu } from "../../ts/graph/functions.ts";
import { fuse } from "../../ts/graph/fuse.ts";
import { copy, fill } from "../../ts/graph/ops/elementwise.ts";
import { linearDgrad, linear as linearOp } from "../../ts/graph/ops/linear.ts";
import { swigluBackward, swiglu as swigluOp } from "../../ts/graph/ops/swiglu.ts";
import { planMemory } from "../../ts/graph/plan.ts";
import { formatProgram, programCost } from "../../ts/graph/program.ts";
import { Tape, type Tensor } from "../../ts/graph/tape.ts";
import { tinyConfig, tinyMachine, tinyModule } from "../model/tiny.ts";

const [rows, dim, ffn] = [3, 4, 6];

interface Mlp {
  tape: Tape;
  gateUp: Tensor;
  m: Tensor;
  y: Tensor;
}

/** y = down(swiglu(gateUp(norm(x)))), the norm so that there is a gradient to take further back. */
function mlp(): Mlp {
  const tape = new Tape();
  const x = rmsnorm(tape.persistent("x", "f32", [rows, dim]), tape.param("norm.weight", [dim]), { eps: 1e-5 });
  const gateUp = linear(x, tape.param("gate_up_proj.weight", [2 * ffn, dim]));
  const m = swiglu(gateUp);
  return { tape, gateUp, m, y: linear(m, tape.param("down_proj.weight", [dim, ffn])) };
}

const backward = (tape: Tape, ...outputs: Tensor[]) =>
  gradients(
    tape,
    outputs.map((y) => [y, tape.persistent(`d/${y.name}`, "f32", y.shape)] as const),
  );
const names = (tape: Tape) => fuse(tape.commands).map((c) => c.rule.name);
const has = (tape: Tape, name: string) => names(tape).includes(name);

test("a product and the SwiGLU behind it become one command, and so do their gradients", (t) => {
  const { tape, gateUp, y } = mlp();
  t.deepEqual(names(tape), ["rmsnorm", "linearSwiglu", "linear"]);
  t.is(fuse(tape.commands)[1]!.outputs.gateUp, undefined, "nobody reads gate and up again: they are not written");
  backward(tape, y);
  t.deepEqual(names(tape), [
    ...["rmsnorm", "linearSwiglu", "linear"],
    ...["linearWgrad", "linearDgradSwiglu", "linearWgrad", "linearDgrad", "rmsnormBackward"],
  ]);
  const fused = fuse(tape.commands);
  t.is(fused[1]!.outputs.gateUp, gateUp);
  t.is(fused[4]!.inputs.gateUp, gateUp);
  t.is(fused[1]!.label, "gate_up_proj");
  t.is(fused[4]!.label, "backward/down_proj");
  t.deepEqual(
    fuse(tape.commands).map((c) => [c.rule.name, c.label]),
    fused.map((c) => [c.rule.name, c.label]),
    "the tape is left as it was",
  );
});

test("the gradient of SwiGLU's result takes no memory, and that of gate and up takes over theirs", (t) => {
  const { tape, gateUp, y } = mlp();
  backward(tape, y);
  const fused = fuse(tape.commands);
  const dm = tape.commands.find((c) => c.rule.name === "linearDgrad")!.outputs.dx!;
  const dgateUp = fused.find((c) => c.rule.name === "linearDgradSwiglu")!.outputs.dgateUp!;
  const { offsets } = planMemory(fused);
  t.true(planMemory(tape.commands).offsets.has(dm));
  t.false(offsets.has(dm));
  t.is(offsets.get(dgateUp), offsets.get(gateUp));
});

test("a product with a residual, and one whose result is given or written in parts, are left alone", (t) => {
  const residual = new Tape();
  const x = residual.persistent("x", "f32", [rows, dim]);
  const wide = residual.persistent("wide", "f32", [rows, 2 * ffn]);
  swiglu(linear(x, residual.param("w", [2 * ffn, dim]), { residual: wide }));
  t.deepEqual(names(residual), ["linear", "swiglu"]);

  const given = new Tape();
  const [from, weight] = [given.persistent("x", "f32", [rows, dim]), given.param("w", [2 * ffn, dim])];
  const y = given.persistent("y", "f32", [rows, ffn]);
  given.op(swigluOp, { x: linear(from, weight) }, { ffn }, { into: { y } });
  t.deepEqual(names(given), ["linear", "swiglu"]);

  const into = new Tape();
  const [dy, gateUp] = [into.persistent("dy", "f32", [rows, dim]), into.persistent("gateUp", "f32", [rows, 2 * ffn])];
  const dm = into.op(linearDgrad, { dy, weight: into.param("w", [dim, ffn]) }, {}).dx;
  const dx = into.persistent("dx", "f32", [rows, 2 * ffn]); // might be memory that the product reads
  into.op(swigluBackward, { x: gateUp, dy: dm }, { ffn }, { into: { dx } });
  t.deepEqual(names(into), ["linearDgrad", "swigluBackward"]);

  const parts = new Tape();
  const whole = parts.empty("whole", "f32", [rows, 2 * ffn]);
  const input = parts.persistent("x", "f32", [rows, dim]);
  for (const [start, count] of [
    [0, 1],
    [1, 2],
  ] as const)
    parts.op(
      linearOp,
      { x: input.rows(start, count), weight: parts.param("w", [2 * ffn, dim]) },
      {},
      { into: { y: whole.rows(start, count) } },
    );
  swiglu(whole);
  t.deepEqual(names(parts), ["linear", "linear", "swiglu"]);
});

test("gate and up that somebody else reads too are kept, also when it is a part of them", (t) => {
  for (const part of [false, true]) {
    const { tape, gateUp } = mlp();
    const read = part ? gateUp.rows(1, 1) : gateUp;
    tape.op(copy, { x: read }, {}, { into: { y: tape.persistent("out", "f32", read.shape) } });
    t.is(fuse(tape.commands)[1]!.outputs.gateUp, gateUp);
  }
});

test("gate and up that are written again, and a second SwiGLU of them, are not fused", (t) => {
  const { tape, gateUp } = mlp();
  tape.op(fill, {}, { value: 0 }, { into: { y: gateUp } });
  t.false(has(tape, "linearSwiglu"));
  const twice = mlp();
  swiglu(twice.gateUp);
  t.deepEqual(names(twice.tape), ["rmsnorm", "linearSwiglu", "linear", "swiglu"]);
  t.is(fuse(twice.tape.commands)[1]!.outputs.gateUp, twice.gateUp);
});

test("SwiGLU's result may have many readers; a gradient of it with another contribution or reader is left alone", (t) => {
  const { tape, m, y } = mlp();
  const other = linear(m, tape.param("other.weight", [dim, ffn]));
  backward(tape, y, other);
  t.true(has(tape, "linearSwiglu"));
  t.true(tape.commands.some((c) => c.rule.name === "linearDgrad" && c.inputs.addend));
  t.false(has(tape, "linearDgradSwiglu"), "the second product adds the first one's gradient");

  const read = mlp();
  backward(read.tape, read.y);
  const dm = read.tape.commands.find((c) => c.rule.name === "linearDgrad")!.outputs.dx!;
  read.tape.op(copy, { x: dm }, {}, { into: { y: read.tape.persistent("out", "f32", dm.shape) } });
  t.false(has(read.tape, "linearDgradSwiglu"));
});

test("a gradient whose weight or input is written before SwiGLU's turn is left alone", (t) => {
  const { tape, y } = mlp();
  backward(tape, y);
  const commands = [...tape.commands];
  const at = commands.findIndex((c) => c.rule.name === "swigluBackward");
  const weight = commands[at - 1]!.inputs.weight!;
  tape.op(fill, {}, { value: 0 }, { into: { y: weight } });
  const write = tape.commands.at(-1)!;
  const moved = (index: number) => [...commands.slice(0, index), write, ...commands.slice(index)];
  t.false(fuse(moved(at)).some((c) => c.rule.name === "linearDgradSwiglu"));
  t.true(fuse(moved(at + 1)).some((c) => c.rule.name === "linearDgradSwiglu"));
  t.true(fuse(moved(at - 1)).some((c) => c.rule.name === "linearDgradSwiglu"));
});

test("fused Programs of a model compute what the others do, loss and every gradient, kept and recomputed", (t) => {
  for (const recompute of ["none", "block"] as const) {
    const results = [false, true].map((fused) => {
      const model = tinyModule(tinyConfig(), { recompute, fuse: fused, headChunkRows: 4 });
      const machine = tinyMachine(model, 3);
      for (const kind of ["accumulate", "evaluate", "logits", "decode"]) machine.play(model.programs[kind]!);
      const calls = model.programs.accumulate!.commands.map((c) => c.op);
      // Recomputed blocks fuse once more, on their way back.
      t.is(calls.filter((op) => op === "linearSwiglu").length, fused ? (recompute === "block" ? 4 : 2) : 0);
      t.is(calls.filter((op) => op === "linearDgradSwiglu").length, fused ? 2 : 0);
      const { layout, programs } = model;
      const { flops, bytes } = programCost(programs.accumulate!).total;
      const values = layout.tensors.map((x) => machine.tensor(x.name).slice());
      return {
        values,
        flops,
        bytes,
        scratch: programs.accumulate!.scratchBytes,
        text: formatProgram(programs.evaluate!),
      };
    });
    const [apart, fused] = results as [(typeof results)[0], (typeof results)[0]];
    t.deepEqual(fused.values, apart.values); // the same float64 operations in the same order
    t.is(fused.flops, apart.flops);
    t.true(fused.bytes < apart.bytes && fused.scratch <= apart.scratch);
    t.regex(
      fused.text,
      /gateUp: -, y: @\d+ f32\[10,6\] = linearSwiglu\(.*\) \{ffn=6\} {2}# model.layers.0.mlp.gate_up_proj/,
    );
  }
});
