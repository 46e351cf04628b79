import { act, defineOp, f32 } from "../op.ts";

export const rope = defineOp({
  name: "rope",
  doc: "Rotary embedding (Su et al. 2021, halves rotated as in Hugging Face LLaMA) of the query and key heads in packed rows [q heads | k heads | v heads]; values are copied. Position of row r is positionOffset + r % seq. table[p] = cos (headDim / 2 values) then sin. inverse = 1 rotates back: the gradient.",
  inputs: { x: act("rows", "(heads + 2 * kvHeads) * headDim"), table: f32("positions", "headDim") },
  outputs: { y: act("rows", "(heads + 2 * kvHeads) * headDim") },
  attributes: { seq: "int", heads: "int", kvHeads: "int", headDim: "int", inverse: "int" },
  inplace: { y: "x" },
  backward: {
    calls: [{ op: "rope", inputs: { x: "dy", table: "table" }, gradients: { x: "y" }, attributes: { inverse: 1 } }],
  },
  requires: ["rows % seq == 0", "seq <= positions", "headDim % 2 == 0"],
  flops: ({ rows, heads, kvHeads, headDim }) => 3 * rows! * (heads! + kvHeads!) * headDim!,
});
