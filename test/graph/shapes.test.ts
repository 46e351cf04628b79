import test from "ava";
import { evaluate } from "../../ts/graph/expression.ts";
import { attention, linear, qkNorm, rmsnorm, rope, swiglu } from "../../ts/graph/functions.ts";
import { add } from "../../ts/graph/ops/elementwise.ts";
import { linear as linearOp } from "../../ts/graph/ops/linear.ts";
import { Tape } from "../../ts/graph/tape.ts";

const input = (t: Tape, name: string, ...shape: number[]) => t.persistent(name, "f32", shape);
const heads = { heads: 4, kvHeads: 2, headDim: 8 };

test("expressions follow the usual precedence and associate to the left", (t) => {
  t.is(evaluate("(heads + 2 * kvHeads) * headDim", heads), 64);
  t.is(evaluate("7 - 2 - 1", {}), 4);
  t.is(evaluate("heads % kvHeads == 0", heads), 1);
  t.is(evaluate("headDim <= heads", heads), 0);
  t.throws(() => evaluate("heads + width", heads), { message: /"heads \+ width": width has no value/ });
  t.throws(() => evaluate("heads +", heads), { message: /its end has no value/ });
  t.throws(() => evaluate("(heads", heads), { message: /missing \)/ });
});

test("shapes and types of outputs follow from the inputs", (t) => {
  const tape = new Tape({ precision: "bf16" });
  const x = tape.persistent("x", "bf16", [10, 64]);
  const qkv = linear(x, tape.param("qkv.weight", [64, 64]));
  t.deepEqual([qkv.dtype, qkv.shape], ["bf16", [10, 64]]);
  const y = attention(qkv, { ...heads, seq: 5 });
  t.deepEqual(y.shape, [10, 32]);
  t.deepEqual([y.producer?.outputs.lse?.dtype, y.producer?.outputs.lse?.shape], ["f32", [10, 4]]);
  t.deepEqual(swiglu(x).shape, [10, 32]);
});

test("an operand that does not fit is refused with op, label, operand, found and expected", (t) => {
  const tape = new Tape();
  const x = input(tape, "x", 6, 8);
  t.throws(() => linear(x, tape.param("mlp.down_proj.weight", [4, 7])), {
    code: "BAD_PROGRAM",
    message: "op linear (mlp.down_proj): operand weight is [4,7]: it has 7 along axis 1, expected k = 8 as in x [6,8]",
  });
  t.throws(() => rmsnorm(x, input(tape, "w", 8, 1), { eps: 1e-5 }), {
    message: /op rmsnorm.*operand weight is \[8,1\], rank 2; expected \[dim\], rank 1/,
  });
  t.throws(() => qkNorm(x, input(tape, "a", 8), input(tape, "b", 8), { ...heads, eps: 1e-5 }), {
    message:
      /op qkNorm.*operand x is \[6,8\]: it has 8 along axis 1, expected \(heads \+ 2 \* kvHeads\) \* headDim = 64/,
  });
  t.throws(() => tape.op(add, { a: x, b: input(tape, "c", 6, 7) }, {}), {
    message: /op add.*operand b is \[6,7\]: it has 42 elements, expected n = 48/,
  });
});

test("a wrong data type, a missing operand and a violated condition are refused by name", (t) => {
  const tape = new Tape();
  const x = input(tape, "x", 6, 64);
  const half = tape.persistent("half", "bf16", [6, 64]);
  t.throws(() => linear(half, tape.persistent("w", "bf16", [3, 64])), {
    message: /operand weight is bf16, expected f32/,
  });
  t.throws(() => linear(x, tape.param("v", [64, 64]), { residual: half }), {
    message: /operand residual is bf16, but an earlier operand is f32/,
  });
  t.throws(() => tape.op(linearOp, { x }, {}), { message: /op linear.*operand weight is missing/ });
  t.throws(() => rope(x, input(tape, "table", 6, 8), { ...heads, seq: 4 }), {
    message: /op rope.*violates rows % seq == 0 \(rows = 6, seq = 4\)/,
  });
  t.throws(() => swiglu(input(tape, "odd", 6, 5)), { message: /op swiglu.*attribute ffn is 2.5, expected an integer/ });
});

test("a tensor of the Module keeps its shape within a tape", (t) => {
  const tape = new Tape();
  t.is(tape.param("w", [2, 3]), tape.param("w", [2, 3]));
  t.throws(() => tape.param("w", [3, 2]), {
    message: /param\/w is f32 \[2,3\] in this tape, now asked for as f32 \[3,2\]/,
  });
  t.throws(() => tape.param("w", [2, 3]).rows(1, 2), { message: /rows \[1, 3\) of param\/w: it has 2 rows/ });
});
