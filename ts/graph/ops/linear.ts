import { act, defineOp, f32, inout, optional } from "../op.ts";

const product = ({ rows, n, k }: Readonly<Record<string, number>>) => 2 * rows! * n! * k!;

export const linear = defineOp({
  name: "linear",
  doc: "y[rows, n] = x[rows, k] weight[n, k]^T (+ residual). bf16 operands are multiplied exactly and summed in fp32; the residual is added before the one rounding of y.",
  inputs: { x: act("rows", "k"), weight: f32("n", "k"), residual: optional(act("rows", "n")) },
  outputs: { y: act("rows", "n") },
  attributes: {},
  inplace: { y: "residual" },
  backward: {
    calls: [
      { op: "linearWgrad", inputs: { x: "x", dy: "dy" }, gradients: { weight: "dweight" } },
      { op: "linearDgrad", inputs: { dy: "dy", weight: "weight" }, gradients: { x: "dx" }, addend: "x" },
    ],
    same: { residual: "y" },
  },
  flops: product,
});

export const linearDgrad = defineOp({
  name: "linearDgrad",
  doc: "dx[rows, k] = dy[rows, n] weight[n, k] (+ addend).",
  inputs: { dy: act("rows", "n"), weight: f32("n", "k"), addend: optional(act("rows", "k")) },
  outputs: { dx: act("rows", "k") },
  attributes: {},
  inplace: { dx: "addend" },
  flops: product,
});

export const linearWgrad = defineOp({
  name: "linearWgrad",
  doc: "dweight[n, k] (+)= dy[rows, n]^T x[rows, k], fp32, summed over rows in an order fixed by the shapes.",
  inputs: { x: act("rows", "k"), dy: act("rows", "n") },
  outputs: { dweight: inout(f32("n", "k")) },
  attributes: { accumulate: "int" },
  flops: product,
});
