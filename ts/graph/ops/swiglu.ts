import { act, defineOp } from "../op.ts";

export const swiglu = defineOp({
  name: "swiglu",
  doc: "y = silu(gate) * up, x = [gate | up] (Shazeer 2020).",
  inputs: { x: act("rows", "2 * ffn") },
  outputs: { y: act("rows", "ffn") },
  attributes: { ffn: "int" },
  backward: { calls: [{ op: "swigluBackward", inputs: { x: "x", dy: "dy" }, gradients: { x: "dx" } }] },
  flops: ({ rows, ffn }) => 5 * rows! * ffn!,
});

export const swigluBackward = defineOp({
  name: "swigluBackward",
  doc: "dx = [dy * up * silu'(gate) | dy * silu(gate)].",
  inputs: { x: act("rows", "2 * ffn"), dy: act("rows", "ffn") },
  outputs: { dx: act("rows", "2 * ffn") },
  attributes: { ffn: "int" },
  inplace: { dx: "x" },
  flops: ({ rows, ffn }) => 10 * rows! * ffn!,
});
