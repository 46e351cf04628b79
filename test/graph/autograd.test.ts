import test from "ava";
import { gradients } from "../../ts/graph/autograd.ts";
import { add, attention, attentionDecode, linear, rmsnorm, swiglu } from "../../ts/graph/functions.ts";
import { classifier, sum } from "../../ts/graph/ops/classifier.ts";
import { axpy } from "../../ts/graph/ops/elementwise.ts";
import { Tape, type Tensor } from "../../ts/graph/tape.ts";

const seeded = (tape: Tape, y: Tensor): readonly [Tensor, Tensor] => [y, tape.persistent("dy", "f32", y.shape)];
const recorded = (tape: Tape, from: number) =>
  tape.commands.slice(from).map((c) => `${c.rule.name}${c.inputs.addend ? "+addend" : ""}`);

test("a residual branch gets the gradient itself, and the later op takes it as its addend: no add, no copy", (t) => {
  const tape = new Tape();
  const x0 = rmsnorm(tape.persistent("x", "f32", [3, 4]), tape.param("first.weight", [4]), { eps: 1e-5 });
  const h = rmsnorm(x0, tape.param("norm.weight", [4]), { eps: 1e-5 });
  const y = linear(h, tape.param("o_proj.weight", [4, 4]), { residual: x0 });
  const forward = tape.commands.length;
  const seed = seeded(tape, y);
  gradients(tape, [seed]);
  t.deepEqual(recorded(tape, forward), ["linearWgrad", "linearDgrad", "rmsnormBackward+addend", "rmsnormBackward"]);
  t.is(tape.commands[forward + 2]!.inputs.addend, seed[1]);
});

test("two products of one tensor merge in linearDgrad; ops without addend merge by add", (t) => {
  const tape = new Tape();
  const x = rmsnorm(tape.persistent("x", "f32", [3, 8]), tape.param("norm.weight", [8]), { eps: 1e-5 });
  const y = add(linear(x, tape.param("a.weight", [8, 8])), linear(x, tape.param("b.weight", [8, 8])));
  const z = add(swiglu(y), swiglu(y));
  const forward = tape.commands.length;
  gradients(tape, [seeded(tape, z)]);
  t.deepEqual(recorded(tape, forward), [
    ...["swigluBackward", "swigluBackward", "add"],
    ...["linearWgrad", "linearDgrad", "linearWgrad", "linearDgrad+addend", "rmsnormBackward"],
  ]);
});

test("the first writer of a parameter's gradient overwrites in the first micro-batch, later ones add", (t) => {
  const tape = new Tape();
  const w = tape.param("shared.weight", [4, 4]);
  const x = tape.persistent("x", "f32", [3, 4]);
  gradients(tape, [seeded(tape, linear(linear(x, w), w))]);
  const flags = tape.commands.filter((c) => c.rule.name === "linearWgrad").map((c) => c.attributes.accumulate);
  t.deepEqual(flags, [2, 1]);
});

test("sums in any order are asked of the one op that can use them, and of none unless that was said", (t) => {
  for (const [options, anyOrder] of [
    [{}, 0],
    [{ sums: "ordered" }, 0],
    [{ sums: "any" }, 1],
  ] as const) {
    const tape = new Tape();
    const qkv = linear(tape.persistent("x", "f32", [6, 4]), tape.param("qkv.weight", [16, 4]));
    gradients(tape, [seeded(tape, attention(qkv, { heads: 2, kvHeads: 1, headDim: 4, seq: 3 }))], options);
    t.deepEqual(
      tape.commands.map((c) => [c.rule.name, c.attributes.anyOrder]),
      [
        ["linear", undefined],
        ["attention", undefined],
        ["attentionBackward", anyOrder],
        ["linearWgrad", undefined],
      ],
    );
  }
});

test("a parameter whose gradient cannot be accumulated is refused, not overwritten", (t) => {
  const tape = new Tape();
  const w = tape.param("w", [4, 4]);
  const y = linear(w, tape.param("v", [4, 4]));
  t.throws(() => gradients(tape, [seeded(tape, y)]), {
    code: "NOT_DIFFERENTIABLE",
    message: /parameter w \(w\) gets its gradient from linearDgrad, which cannot accumulate/,
  });
});

test("no gradient is made for what depends on no parameter", (t) => {
  const tape = new Tape();
  const x = tape.persistent("x", "f32", [3, 4]);
  const y = linear(x, tape.param("w", [4, 4]));
  const found = gradients(tape, [seeded(tape, y)]);
  t.deepEqual(recorded(tape, 1), ["linearWgrad"]);
  t.false(found.has(x));
});

test("an op without a backward rule is refused by name, and so is an output without one", (t) => {
  const tape = new Tape();
  const qkv = linear(tape.persistent("x", "f32", [1, 4]), tape.param("layer.qkv_proj.weight", [12, 4]));
  const cache = (name: string) => tape.persistent(name, "f32", [1, 5, 4]);
  const y = attentionDecode(qkv, { kCache: cache("k"), vCache: cache("v") }, { heads: 1, kvHeads: 1, headDim: 4 });
  t.throws(() => gradients(tape, [seeded(tape, y)]), {
    code: "NOT_DIFFERENTIABLE",
    message: "op attentionDecode (layer.attentionDecode) declares no backward rule",
  });
  const other = new Tape();
  const h = rmsnorm(other.persistent("x", "f32", [3, 4]), other.param("model.norm.weight", [4]), { eps: 1e-5 });
  const rstd = h.producer!.outputs.rstd!;
  t.throws(() => gradients(other, [seeded(other, rstd)]), {
    code: "NOT_DIFFERENTIABLE",
    message: /op rmsnorm \(model.norm\): output rstd has no gradient rule/,
  });
});

test("the loss is no tensor to differentiate: the head makes its gradient itself", (t) => {
  const tape = new Tape();
  const logits = linear(tape.persistent("x", "f32", [3, 4]), tape.param("lm_head.weight", [5, 4]));
  const targets = tape.persistent("targets", "i32", [3]);
  const { loss } = tape.op(classifier, { logits, targets }, { vocab: 5, zLoss: 0 });
  const { y } = tape.op(sum, { x: loss }, { accumulate: 0 });
  t.throws(() => gradients(tape, [seeded(tape, y)]), { message: /op sum .* declares no backward rule/ });
});

test("a row view as input of a differentiable op is refused by name", (t) => {
  const tape = new Tape();
  const x = linear(tape.persistent("x", "f32", [4, 4]), tape.param("w", [4, 4]));
  const y = linear(x.rows(0, 2), tape.param("v", [4, 4]));
  t.throws(() => gradients(tape, [seeded(tape, y)]), {
    code: "NOT_DIFFERENTIABLE",
    message: /row view w\/y\[0:2\] \(v\) has no gradient rule/,
  });
});

test("a block keeps its input and its output: the product that ends it is not made again", (t) => {
  const tape = new Tape();
  const x = linear(tape.persistent("x", "f32", [3, 4]), tape.param("in.weight", [4, 4]));
  const y = tape.block("layer", (l) => {
    const h = rmsnorm(x, l.param("norm.weight", [4]), { eps: 1e-5 });
    const gates = linear(h, l.param("gate.weight", [8, 4]));
    return linear(swiglu(gates), l.param("down.weight", [4, 4]), { residual: x });
  });
  const z = rmsnorm(y, tape.param("norm.weight", [4]), { eps: 1e-5 });
  gradients(tape, [seeded(tape, z)], { recompute: "block" });
  const again = tape.commands.filter((c) => c.label.startsWith("recompute/")).map((c) => c.label);
  t.deepEqual(again, ["recompute/layer.norm", "recompute/layer.gate", "recompute/layer.swiglu"]);
});

test("a block that writes into existing tensors cannot be recomputed", (t) => {
  const tape = new Tape();
  const x = linear(tape.persistent("x", "f32", [3, 4]), tape.param("in.weight", [4, 4]));
  const y = tape.block("layer", (l) => {
    const into = l.empty("state", "f32", [3, 4]);
    tape.op(axpy, { x }, { alpha: 1 }, { into: { y: into } });
    return linear(into, l.param("w", [4, 4]));
  });
  t.throws(() => gradients(tape, [seeded(tape, y)], { recompute: "block" }), {
    message: /op axpy .* writes into layer.state.*cannot be recomputed/,
  });
});
