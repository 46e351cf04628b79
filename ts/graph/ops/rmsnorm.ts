import { act, defineOp, f32, inout, optional } from "../op.ts";

export const rmsnorm = defineOp({
  name: "rmsnorm",
  doc: "y = x * rstd * weight, rstd = 1 / sqrt(mean(x^2) + eps) over the last axis (Zhang & Sennrich 2019); rstd is saved for the gradient.",
  inputs: { x: act("rows", "dim"), weight: f32("dim") },
  outputs: { y: act("rows", "dim"), rstd: f32("rows") },
  attributes: { eps: "f32" },
  backward: {
    calls: [
      {
        op: "rmsnormBackward",
        inputs: { x: "x", weight: "weight", rstd: "rstd", dy: "dy" },
        gradients: { x: "dx", weight: "dweight" },
        addend: "x",
      },
    ],
  },
  flops: ({ rows, dim }) => 4 * rows! * dim!,
});

export const rmsnormBackward = defineOp({
  name: "rmsnormBackward",
  doc: "With g = dy * weight: dx = rstd * (g - x * rstd^2 * mean(g * x)) + addend; dweight (+)= sum over rows of dy * x * rstd, partial sums over fixed blocks of rows added in order.",
  inputs: {
    x: act("rows", "dim"),
    weight: f32("dim"),
    rstd: f32("rows"),
    dy: act("rows", "dim"),
    addend: optional(act("rows", "dim")),
  },
  outputs: { dx: act("rows", "dim"), dweight: inout(f32("dim")) },
  attributes: { accumulate: "int" },
  inplace: { dx: "dy" },
  flops: ({ rows, dim }) => 9 * rows! * dim!,
});

export const qkNorm = defineOp({
  name: "qkNorm",
  doc: "RMSNorm of every query head with qWeight and every key head with kWeight inside packed rows [q heads | k heads | v heads]; values are copied.",
  inputs: { x: act("rows", "(heads + 2 * kvHeads) * headDim"), qWeight: f32("headDim"), kWeight: f32("headDim") },
  outputs: { y: act("rows", "(heads + 2 * kvHeads) * headDim"), rstd: f32("rows", "heads + kvHeads") },
  attributes: { heads: "int", kvHeads: "int", headDim: "int", eps: "f32" },
  backward: {
    calls: [
      {
        op: "qkNormBackward",
        inputs: { x: "x", qWeight: "qWeight", kWeight: "kWeight", rstd: "rstd", dy: "dy" },
        gradients: { x: "dx", qWeight: "dqWeight", kWeight: "dkWeight" },
      },
    ],
  },
  flops: ({ rows, heads, kvHeads, headDim }) => 4 * rows! * (heads! + kvHeads!) * headDim!,
});

export const qkNormBackward = defineOp({
  name: "qkNormBackward",
  doc: "Gradient of qkNorm; weight gradients (+)= with partial sums over fixed blocks of rows added in order.",
  inputs: {
    x: act("rows", "(heads + 2 * kvHeads) * headDim"),
    qWeight: f32("headDim"),
    kWeight: f32("headDim"),
    rstd: f32("rows", "heads + kvHeads"),
    dy: act("rows", "(heads + 2 * kvHeads) * headDim"),
  },
  outputs: {
    dx: act("rows", "(heads + 2 * kvHeads) * headDim"),
    dqWeight: inout(f32("headDim")),
    dkWeight: inout(f32("headDim")),
  },
  attributes: { heads: "int", kvHeads: "int", headDim: "int", accumulate: "int" },
  inplace: { dx: "dy" },
  flops: ({ rows, heads, kvHeads, headDim }) => 9 * rows! * (heads! + kvHeads!) * headDim!,
});
