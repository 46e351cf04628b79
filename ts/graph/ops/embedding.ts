import { act, defineOp, f32, i32, inout } from "../op.ts";

export const embedding = defineOp({
  name: "embedding",
  doc: "y[r] = weight[tokens[r]], rounded to the compute precision.",
  inputs: { tokens: i32("rows"), weight: f32("vocab", "dim") },
  outputs: { y: act("rows", "dim") },
  attributes: {},
  backward: {
    calls: [{ op: "embeddingBackward", inputs: { tokens: "tokens", dy: "dy" }, gradients: { weight: "dweight" } }],
  },
  flops: () => 0,
});

export const embeddingBackward = defineOp({
  name: "embeddingBackward",
  doc: "dweight[v] (+)= sum of dy[r] over rows with tokens[r] = v, in row order; other rows of dweight are zeroed when overwriting.",
  inputs: { tokens: i32("rows"), dy: act("rows", "dim") },
  outputs: { dweight: inout(f32("vocab", "dim")) },
  attributes: { accumulate: "int" },
  flops: ({ rows, dim }) => rows! * dim!,
});
