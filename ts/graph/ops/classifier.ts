import { act, defineOp, f32, i32, inout, optional } from "../op.ts";

export const classifier = defineOp({
  name: "classifier",
  doc: "Softmax cross-entropy per row over the first `vocab` columns (columns beyond are padding: gradient 0): lse = log sum exp(logits), loss = lse - logits[target]; target < 0 is ignored (loss 0, gradient 0, lse still written). With dlogits: dlogits = lossScale * d(loss + zLoss * lse^2)/dlogits, over the memory of logits.",
  inputs: { logits: act("rows", "columns"), targets: i32("rows") },
  outputs: { loss: f32("rows"), lse: f32("rows"), dlogits: optional(act("rows", "columns")) },
  attributes: { vocab: "int", zLoss: "f32" },
  inplace: { dlogits: "logits" },
  requires: ["vocab <= columns"],
  flops: ({ rows, vocab }) => 6 * rows! * vocab!,
});

export const sum = defineOp({
  name: "sum",
  doc: "y (+)= sum of x, in fp64 over fixed blocks added in order, rounded once.",
  inputs: { x: { dtype: "f32", shape: { numel: "n" } } },
  outputs: { y: inout(f32("1")) },
  attributes: { accumulate: "int" },
  flops: ({ n }) => n!,
});
