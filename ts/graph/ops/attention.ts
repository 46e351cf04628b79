import { act, defineOp, f32, i32, inout, optional } from "../op.ts";

/** Causal pairs of one sequence: the triangle with its diagonal. With starts an upper bound: what is left depends on them. */
const pairs = (seq: number) => (seq * (seq + 1)) / 2;

export const attention = defineOp({
  name: "attention",
  doc: "Causal attention with grouped-query heads over packed rows [q heads | k heads | v heads] of sequences of length seq: y = softmax(scale q k^T) v per head, lse = log sum exp of the scaled scores. Online softmax (Dao et al. 2022): memory linear in seq. With starts (for each row the position, 0 to seq - 1, where its document begins: not after the row itself, not decreasing along a sequence) a query sees keys starts[q] to q only.",
  inputs: { qkv: act("rows", "(heads + 2 * kvHeads) * headDim"), starts: optional(i32("rows")) },
  outputs: { y: act("rows", "heads * headDim"), lse: f32("rows", "heads") },
  attributes: { seq: "int", heads: "int", kvHeads: "int", headDim: "int", scale: "f32" },
  requires: ["rows % seq == 0", "heads % kvHeads == 0"],
  backward: {
    calls: [
      {
        op: "attentionBackward",
        inputs: { qkv: "qkv", y: "y", lse: "lse", dy: "dy", starts: "starts" },
        gradients: { qkv: "dqkv" },
      },
    ],
  },
  flops: ({ rows, seq, heads, headDim }) => 4 * (rows! / seq!) * pairs(seq!) * heads! * headDim!,
});

export const attentionBackward = defineOp({
  name: "attentionBackward",
  doc: "Gradient of attention with respect to the packed rows; scores are recomputed from lse; starts as in attention. Sums in a fixed order: same bits always, for any number of threads. anyOrder 1 lets dq (never dk, dv) be added in whatever order is fastest, so that its last bits may vary from run to run: the kernel of compute capability 9.0 does; all others keep their order, which costs them nothing.",
  inputs: {
    qkv: act("rows", "(heads + 2 * kvHeads) * headDim"),
    y: act("rows", "heads * headDim"),
    lse: f32("rows", "heads"),
    dy: act("rows", "heads * headDim"),
    starts: optional(i32("rows")),
  },
  outputs: { dqkv: act("rows", "(heads + 2 * kvHeads) * headDim") },
  attributes: { seq: "int", heads: "int", kvHeads: "int", headDim: "int", scale: "f32", anyOrder: "int" },
  requires: ["rows % seq == 0", "heads % kvHeads == 0"],
  flops: ({ rows, seq, heads, headDim }) => 10 * (rows! / seq!) * pairs(seq!) * heads! * headDim!,
});

export const attentionDecode = defineOp({
  name: "attentionDecode",
  doc: "One new token per sequence: writes its key and value at index cacheLength of the caches, then attends over 0..cacheLength.",
  inputs: { qkv: act("rows", "(heads + 2 * kvHeads) * headDim") },
  outputs: {
    y: act("rows", "heads * headDim"),
    kCache: inout(act("rows", "capacity", "kvHeads * headDim")),
    vCache: inout(act("rows", "capacity", "kvHeads * headDim")),
  },
  attributes: { heads: "int", kvHeads: "int", headDim: "int", scale: "f32" },
  requires: ["heads % kvHeads == 0"],
  flops: ({ rows, capacity, heads, headDim }) => 4 * rows! * capacity! * heads! * headDim!,
});
