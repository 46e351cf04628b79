import { defineOp, f32, flat, i32, inout } from "../op.ts";

export const gradNorm = defineOp({
  name: "gradNorm",
  doc: "norm = sqrt(sum of grads^2) in fp64 over fixed blocks added in order. status becomes 1, and stays so, when norm or loss is not finite; `adamw` then changes nothing.",
  inputs: { grads: flat("f32", "n"), loss: f32("1") },
  outputs: { norm: f32("1"), status: inout(i32("1")) },
  attributes: {},
  flops: ({ n }) => 2 * n!,
});

export const adamw = defineOp({
  name: "adamw",
  doc: "AdamW (Loshchilov & Hutter 2019) as PyTorch computes it, with scalars lr, beta1, beta2, eps, bias1, bias2, weightDecay, clip: g = grad * min(1, clip / (norm + 1e-6)) (clip 0: g = grad); param -= lr * lrScale * weightDecay * decayScale * param; m = lerp(m, g, 1 - beta1); v = beta2 v + (1 - beta2) g^2; param -= lr * lrScale * bias1 * m / (sqrt(v * bias2) + eps). Nothing changes when status is not 0. Packed copies of the parameter are rebuilt in the same pass.",
  inputs: { grad: flat("f32", "n"), norm: f32("1"), status: i32("1") },
  outputs: { param: inout(flat("f32", "n")), m: inout(flat("f32", "n")), v: inout(flat("f32", "n")) },
  attributes: { lrScale: "f32", decayScale: "f32" },
  flops: ({ n }) => 14 * n!,
});
