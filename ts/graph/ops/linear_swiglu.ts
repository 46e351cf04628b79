import { act, defineOp, f32, optional } from "../op.ts";

/** Products with SwiGLU on their results: graph/fuse.ts puts them in the place of the pairs they stand for. */

export const linearSwiglu = defineOp({
  name: "linearSwiglu",
  doc: "y = silu(gate) * up, [gate | up] = x[rows, k] weight[2 ffn, k]^T rounded as linear rounds it: the bits of linear followed by swiglu. gateUp, where it is wanted, keeps [gate | up].",
  inputs: { x: act("rows", "k"), weight: f32("2 * ffn", "k") },
  outputs: { gateUp: optional(act("rows", "2 * ffn")), y: act("rows", "ffn") },
  attributes: { ffn: "int" },
  flops: ({ rows, k, ffn }) => 4 * rows! * k! * ffn! + 5 * rows! * ffn!,
});

export const linearDgradSwiglu = defineOp({
  name: "linearDgradSwiglu",
  doc: "dgateUp = [dm * up * silu'(gate) | dm * silu(gate)], dm = dy[rows, n] weight[n, ffn] rounded as linearDgrad rounds it: the bits of linearDgrad followed by swigluBackward.",
  inputs: { dy: act("rows", "n"), weight: f32("n", "ffn"), gateUp: act("rows", "2 * ffn") },
  outputs: { dgateUp: act("rows", "2 * ffn") },
  attributes: {},
  inplace: { dgateUp: "gateUp" },
  flops: ({ rows, n, ffn }) => 2 * rows! * n! * ffn! + 10 * rows! * ffn!,
});
