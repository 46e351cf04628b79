import { defineOp, f32, flat, i32, inout } from "../op.ts";

export const add = defineOp({
  name: "add",
  doc: "y = a + b.",
  inputs: { a: flat("act", "n"), b: flat("act", "n") },
  outputs: { y: flat("act", "n") },
  attributes: {},
  inplace: { y: "a" },
  backward: { same: { a: "y", b: "y" } },
  flops: ({ n }) => n!,
});

export const fill = defineOp({
  name: "fill",
  doc: "y = value.",
  inputs: {},
  outputs: { y: flat("any", "n") },
  attributes: { value: "f32" },
  flops: () => 0,
});

export const copy = defineOp({
  name: "copy",
  doc: "y = x, converted between f32 and bf16 (round to nearest even) where the data types differ.",
  inputs: { x: flat("any", "n") },
  outputs: { y: flat("any", "n") },
  attributes: {},
  flops: () => 0,
});

export const scale = defineOp({
  name: "scale",
  doc: "y = alpha * x.",
  inputs: { x: flat("f32", "n") },
  outputs: { y: flat("f32", "n") },
  attributes: { alpha: "f32" },
  inplace: { y: "x" },
  backward: { calls: [{ op: "scale", inputs: { x: "dy" }, gradients: { x: "y" } }] },
  flops: ({ n }) => n!,
});

export const axpy = defineOp({
  name: "axpy",
  doc: "y += alpha * x.",
  inputs: { x: flat("f32", "n") },
  outputs: { y: inout(flat("f32", "n")) },
  attributes: { alpha: "f32" },
  flops: ({ n }) => 2 * n!,
});

export const average = defineOp({
  name: "average",
  doc: "Exponential moving average y += (1 - averageDecay) * (x - y), the decay a scalar of the step, as PyTorch's lerp computes it: exact where the decay is 0. Nothing changes when status is not 0.",
  inputs: { x: flat("f32", "n"), status: i32("1") },
  outputs: { y: inout(flat("f32", "n")) },
  attributes: {},
  flops: ({ n }) => 3 * n!,
});

export const dot = defineOp({
  name: "dot",
  doc: "y = sum of a * b, in fp64 over fixed blocks added in order, rounded once.",
  inputs: { a: flat("f32", "n"), b: flat("f32", "n") },
  outputs: { y: f32("1") },
  attributes: {},
  flops: ({ n }) => 2 * n!,
});
